"""Progress of batches made on the command line: a bar on a terminal, a line every few seconds elsewhere."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn

from heimdall_pipelines.cli.console import errors, show_progress
from heimdall_pipelines.datasets.generating import BatchProgress, BatchReport

LINE_INTERVAL_S = 5.0


class MakingProgress:
    """Shows how far the samples of several batches are, made one batch after the other.

    Use it as a context manager.

    Parameters
    ----------
    dataset_name : str
    num_samples : int
        To be made in all batches together.
    """

    def __init__(self, dataset_name: str, num_samples: int) -> None:
        self._name = dataset_name
        self._num_samples = num_samples
        self._began = time.monotonic()
        self._printed = self._began
        self._num_committed = 0
        self._attempts = 0
        self._num_accepted = 0
        self._bar: Progress | None = None
        if errors.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[state]}"),
                console=errors.console,
            )
            self._task = self._bar.add_task(dataset_name, total=num_samples, state="starting")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, batch: BatchProgress) -> None:
        """Show how far the batch that is being made is."""
        num_made = self._num_committed + batch.num_made
        state = self._state(num_made, self._num_accepted + batch.num_drawn, self._attempts + batch.attempts)
        if batch.num_drawn < batch.num_samples:
            state = f"{batch.num_drawn} of {batch.num_samples} scenes drawn for the next batch; {state}"
        self._show(num_made, state)

    def wait(self) -> None:
        """Show that a repair is at work, which the next batch waits for."""
        self._show(self._num_committed, "waiting for a repair of this dataset to end")

    def committed(self, report: BatchReport) -> None:
        """Count a batch that is done."""
        self._num_committed += report.num_made
        self._num_accepted += report.num_made
        self._attempts += report.attempts
        self._show(
            self._num_committed,
            self._state(self._num_committed, self._num_accepted, self._attempts),
            at_once=self._num_committed >= self._num_samples,
        )

    def _state(self, num_made: int, num_accepted: int, attempts: int) -> str:
        elapsed_s = time.monotonic() - self._began
        parts = [f"{num_made}/{self._num_samples} samples"]
        if num_made:
            parts.append(f"{num_made / elapsed_s:.0f} samples/s")
        if attempts:
            parts.append(f"{num_accepted / attempts:.0%} of scenes accepted")
        if 0 < num_made < self._num_samples:
            left_s = round((self._num_samples - num_made) * elapsed_s / num_made)
            parts.append(f"{timedelta(seconds=left_s)} left")
        return ", ".join(parts)

    def _show(self, num_made: int, state: str, *, at_once: bool = False) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=num_made, state=state)
            return
        now = time.monotonic()
        if at_once or now - self._printed >= LINE_INTERVAL_S:
            self._printed = now
            show_progress(f"{self._name}: {state}")
