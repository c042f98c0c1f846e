"""`heimdall session inspect`: what a recording file holds, says, and lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.console import errors, output
from heimdall_pipelines.cli.option_values import raw_format_name
from heimdall_pipelines.formats.file_formats import RAW_FORMATS
from heimdall_pipelines.formats.utc import iso_from_unix_ns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from heimdall_pipelines.sessions.inspecting import Inspection

_SHADES = " .:-=+*#%@"


def inspect(
    files: Annotated[list[Path], typer.Argument(help="Recording files of any format that session import reads")],
    raw_format: Annotated[
        str | None, typer.Option(help=f"How files without header store samples: {', '.join(RAW_FORMATS)}")
    ] = None,
) -> None:
    """Show what recording files hold, what is wrong with them, and how to import them; stores nothing.

    Exit code 1: a file cannot be read.
    """
    from heimdall_pipelines.formats.samples import RecordingFormatError
    from heimdall_pipelines.formats.sigmf_archive import expanded
    from heimdall_pipelines.sessions.inspecting import inspect_file

    chosen = None if raw_format is None else raw_format_name(raw_format)
    failed = False
    for path in expanded(files):
        try:
            found = inspect_file(path, chosen)
        except RecordingFormatError as error:
            errors.print(str(error))
            failed = True
            continue
        for line in _lines(found):
            output.print(line)
    if failed:
        raise typer.Exit(1)


def _lines(found: Inspection) -> list[str]:
    recording = found.recording
    encoding = recording.encoding + (" (guessed from its bytes)" if found.guessed_raw_format else "")
    unstated = "not stated"
    lines = [
        str(recording.path),
        f"  format       {recording.format}, {encoding}",
        f"  samples      {recording.num_samples}",
        f"  sample rate  {recording.sample_rate_hz:.10g} Hz" if found.states_rate else f"  sample rate  {unstated}",
        f"  frequency    {recording.frequency_hz:.12g} Hz" if found.states_frequency else f"  frequency    {unstated}",
        f"  start        {iso_from_unix_ns(recording.start_time_unix_ns) if found.states_start else unstated}",
        f"  duration     {recording.num_samples / recording.sample_rate_hz:.3f} s"
        if found.states_rate
        else f"  duration     unknown without a rate; {recording.num_samples / 48e3:.1f} s at 48 kHz",
        f"  clock        {_clock(found)}",
        f"  station      {recording.receiver_name or unstated}",
        f"  position     {_position(recording.position) or unstated}",
        f"  level        {found.rms_dbfs:.1f} dBFS rms, peak {found.peak_dbfs:.1f} dBFS",
    ]
    if found.passband is not None and found.states_rate:
        lines.append(f"  filter       passes {found.passband}, {found.passband.step_db:.0f} dB less beyond")
    lines += [f"  problem      {problem}" for problem in found.problems]
    rate = f"{recording.sample_rate_hz / 2e3:g} kHz" if found.states_rate else "half the sample rate"
    lines += [f"  spectrogram  -{rate} to +{rate}, time downwards", *_spectrogram(found.spectrogram_db)]
    return [*lines, f"  import with  {found.command}"]


def _position(position: tuple[float, float, float] | None) -> str:
    return "" if position is None else f"{position[0]:.5f}, {position[1]:.5f}, {position[2]:g} m"


def _clock(found: Inspection) -> str:
    recording = found.recording
    if recording.time_source == "gnss":
        return f"GNSS time stamps, {recording.time_uncertainty_ns:.0f} ns rms"
    return "of the machine that recorded it, as the file states" if found.states_start else "none"


def _spectrogram(density_db: NDArray[np.float32]) -> list[str]:
    """Rows of characters, darker for more power; the scale spans the spectrogram's own range, 60 dB at most."""
    import numpy as np

    finite = density_db[np.isfinite(density_db)]
    if finite.size == 0:
        return []
    top = float(finite.max())
    bottom = max(float(np.percentile(finite, 5)), top - 60.0)
    steps = np.clip((density_db - bottom) / max(top - bottom, 1e-9) * (len(_SHADES) - 1), 0, len(_SHADES) - 1)
    return ["    |" + "".join(_SHADES[int(step)] for step in row) + "|" for row in np.nan_to_num(steps)]
