"""Decimates wide recordings to a channel while they are imported."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.iq_recording import IqRecording, SourceMetadata
from heimdall_pipelines.formats.samples import CF32_LE, Encoding, SampleSource
from heimdall_pipelines.rf.decimation import STOPBAND_DB, Decimator, plan_decimator
from heimdall_pipelines.sessions.import_request import ImportRefusedError

MAX_WIDE_RATE_HZ = 62e6
_READ_SAMPLES = 1 << 19


@dataclass(frozen=True, eq=False)
class _DecimatedSamples:
    """Samples of a recording, decimated as they are read."""

    source: SampleSource
    decimator: Decimator

    @property
    def encoding(self) -> Encoding:
        return CF32_LE

    @property
    def num_samples(self) -> int:
        return self.decimator.num_output(self.source.num_samples)

    def blocks(self, max_samples: int) -> Iterator[NDArray[np.complex64]]:
        for block in self.decimator.output(self.source.blocks(_READ_SAMPLES)):
            for start in range(0, block.size, max_samples):
                yield block[start : start + max_samples]


def channel_of(recording: IqRecording, channel_hz: float) -> IqRecording:
    """Return a recording decimated to the lowest rate of at least the channel's width; unchanged if it is near it.

    Raises
    ------
    ImportRefusedError
        Its rate is above 62 MHz, or it is too short.
    """
    if recording.sample_rate_hz > MAX_WIDE_RATE_HZ:
        raise ImportRefusedError(f"{recording.path}: sample rate {recording.sample_rate_hz:g} Hz is above 62 MHz")
    decimator = plan_decimator(recording.sample_rate_hz, channel_hz)
    if decimator is None:
        return recording
    if decimator.num_output(recording.num_samples) == 0:
        raise ImportRefusedError(
            f"{recording.path}: its {recording.num_samples} samples are fewer than the {decimator.num_taps} of the "
            "channel's filter"
        )
    rate_hz = recording.sample_rate_hz / decimator.factor
    note = (
        f"decimated from {recording.sample_rate_hz:.10g} to {rate_hz:.10g} Hz by a low-pass filter of "
        f"{decimator.num_taps} taps: flat to {0.4 * rate_hz:.6g} Hz from the centre, {STOPBAND_DB:g} dB less from "
        f"{0.6 * rate_hz:.6g} Hz on"
    )
    return replace(
        recording,
        sample_rate_hz=rate_hz,
        start_time_unix_ns=recording.start_time_unix_ns + round(decimator.lead * 1e9 / recording.sample_rate_hz),
        layout=_DecimatedSamples(recording.layout, decimator),
        notes=(*recording.notes, note),
        source=None if recording.source is None else _scaled(recording.source, decimator),
    )


def _scaled(source: SourceMetadata, decimator: Decimator) -> SourceMetadata:
    """The annotations with their sample numbers at the new rate; captures that join are one."""

    def scaled(annotation: Mapping[str, Any]) -> dict[str, Any]:
        start, count = annotation.get("core:sample_start"), annotation.get("core:sample_count")
        changed = dict(annotation)
        if isinstance(start, int):
            changed["core:sample_start"] = (start - source.first_sample - decimator.lead) // decimator.factor
        if isinstance(count, int):
            changed["core:sample_count"] = -(-count // decimator.factor)
        return changed

    return replace(
        source,
        captures=source.captures[:1],
        annotations=tuple(scaled(annotation) for annotation in source.annotations),
        first_sample=0,
    )
