"""Tells what a recording file holds and says, what is wrong with it, and how to import it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.file_formats import format_of
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording
from heimdall_pipelines.formats.raw_formats import likely_format
from heimdall_pipelines.formats.recording import open_recording
from heimdall_pipelines.formats.samples import RecordingFormatError, SampleLayout, file_size, open_file
from heimdall_pipelines.rf.defects import CLIPPED_SHARE, clipped_share, defect_of
from heimdall_pipelines.rf.features import MAX_SAMPLE_RATE_HZ
from heimdall_pipelines.rf.passband import Passband, detect_passband
from heimdall_pipelines.rf.spectrogram import spectrogram_dbm_per_hz

_PIECES = 24
_PIECE_SAMPLES = 1 << 14
_FIRST_SAMPLES = 1 << 19
_PROBE_BYTES = 1 << 16
# Stand for values that the file does not state; no recorder writes them.
_UNSTATED = GivenValues(48_000.015625, 12_345.678, 86_399_123_456_789)
SPECTROGRAM_BINS = 64


@dataclass(frozen=True)
class Inspection:
    """What a file holds and says.

    Attributes
    ----------
    recording : IqRecording
        As it would be imported; values that the file does not state are arbitrary.
    states_rate, states_frequency, states_start : bool
        Whether the file states them.
    guessed_raw_format : str | None
        Format that the bytes of a headerless file look like.
    rms_dbfs, peak_dbfs : float
        Level relative to full scale (1), in the samples that were read.
    passband : Passband | None
        The receiver's filter, if it is narrower than the sample rate.
    problems : tuple of str
        What is wrong, and what to do.
    spectrogram_db : NDArray[float32], shape (times, 64)
        Power density, dB of full scale per Hz, over the whole file; frequencies ascending.
    command : str
        To import the file, with … for what only a person knows.
    """

    recording: IqRecording
    states_rate: bool
    states_frequency: bool
    states_start: bool
    guessed_raw_format: str | None
    rms_dbfs: float
    peak_dbfs: float
    passband: Passband | None
    problems: tuple[str, ...]
    spectrogram_db: NDArray[np.float32]
    command: str


def inspect_file(path: Path, raw_format: str | None = None) -> Inspection:
    """Read a file's metadata and pieces of its samples: a second, whatever its length.

    Raises
    ------
    RecordingFormatError
        If it cannot be read; says why.
    """
    guessed = None if raw_format else _guessed_raw_format(path)
    recording = open_recording(path, raw_format=raw_format or guessed, otherwise=_UNSTATED)
    states_rate = recording.sample_rate_hz != _UNSTATED.sample_rate_hz
    states_frequency = recording.frequency_hz != _UNSTATED.frequency_hz
    states_start = recording.time_source != "given"
    pieces = _pieces(recording)
    everything = np.concatenate(pieces)
    parts = np.abs(everything.view(np.float32))
    found = detect_passband(pieces[0], sample_rate_hz=recording.sample_rate_hz)
    return Inspection(
        recording=recording,
        states_rate=states_rate,
        states_frequency=states_frequency,
        states_start=states_start,
        guessed_raw_format=guessed,
        rms_dbfs=_db(float(np.mean(parts.astype(np.float64) ** 2)) * 2),
        peak_dbfs=_db(float(parts.max()) ** 2),
        passband=found,
        problems=tuple(_problems(recording, everything, states_rate)),
        spectrogram_db=_spectrogram_db(pieces, recording.sample_rate_hz),
        command=_command(recording, raw_format or guessed, states_rate, states_frequency, states_start),
    )


def _guessed_raw_format(path: Path) -> str | None:
    """The format that the bytes look like, where neither suffix nor name imply one."""
    file_format = format_of(path)
    if file_format is not None and not file_format.is_headerless:
        return None
    try:
        open_recording(path, otherwise=_UNSTATED)
    except RecordingFormatError:
        with open_file(path) as file:
            file.seek(file_size(file) // 2 // 64 * 64)
            return likely_format(file.read(_PROBE_BYTES))
    return None


def _pieces(recording: IqRecording) -> list[NDArray[np.complex64]]:
    """The first samples, and pieces spread over the whole file where it can be read at any place."""
    first = next(recording.blocks(_FIRST_SAMPLES))
    layout = recording.layout
    if not isinstance(layout, SampleLayout) or recording.num_samples <= _FIRST_SAMPLES:
        return [first]
    starts = np.linspace(first.size, recording.num_samples - _PIECE_SAMPLES, _PIECES).astype(int)
    return [first, *(layout.piece(int(start), _PIECE_SAMPLES) for start in starts if start >= first.size)]


def _problems(recording: IqRecording, samples: NDArray[np.complex64], states_rate: bool) -> Sequence[str]:
    problems = list(recording.notes)
    defect = defect_of(samples)
    if defect is not None:
        problems.append(defect)
    if not samples.any():
        problems.append("all samples that were read are zero")
    share = clipped_share(samples, recording.quantisation_step)
    if share > CLIPPED_SHARE:
        problems.append(f"clipped: {share:.1%} of the numbers are at full scale")
    if states_rate and recording.sample_rate_hz > MAX_SAMPLE_RATE_HZ:
        problems.append("its sample rate is above 2.4 MHz: decimate it with --channel")
    return problems


def _spectrogram_db(pieces: Sequence[NDArray[np.complex64]], rate_hz: float) -> NDArray[np.float32]:
    first, *others = pieces
    times = max(1, min(8 if others else 24, first.size // SPECTROGRAM_BINS))
    rows = [] if first.size < SPECTROGRAM_BINS else [(first, times)]
    rows += [(piece, 1) for piece in others]
    pictures = [
        spectrogram_dbm_per_hz(
            piece, sample_rate_hz=rate_hz, full_scale_dbm=0.0, num_times=count, num_bins=SPECTROGRAM_BINS
        )
        for piece, count in rows
    ]
    return np.concatenate(pictures) if pictures else np.zeros((0, SPECTROGRAM_BINS), np.float32)


def _command(
    recording: IqRecording, raw_format: str | None, states_rate: bool, states_frequency: bool, states_start: bool
) -> str:
    name = recording.path.name
    words = ["heimdall session import", shlex.quote(str(recording.path))]
    if recording.receiver_name is None:
        words.append(shlex.quote(f"--station={name}=") + "…")
    if recording.position is None:
        words.append(shlex.quote(f"--position={name}=") + "LATITUDE,LONGITUDE,ALTITUDE_M")
    words += ["--raw-format", raw_format] if raw_format else []
    words += [] if states_rate else ["--sample-rate …Hz"]
    words += [] if states_frequency else ["--frequency …MHz"]
    words += [] if states_start else ["--start YYYY-MM-DDTHH:MM:SSZ"]
    if states_rate and recording.sample_rate_hz > MAX_SAMPLE_RATE_HZ:
        words.append("--channel 200kHz")
    return " ".join(words)


def _db(power: float) -> float:
    return float(10 * np.log10(power)) if power > 0 else float("-inf")
