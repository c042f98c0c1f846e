"""KiwiSDR IQ recordings, WAV files with a GNSS time stamp before each block of samples: read and written."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.gnss_clock import (
    WEEK_S,
    ClockError,
    ClockFit,
    GnssStamps,
    fit_extrapolated_stamps,
    fit_gnss_clock,
    gps_ns_of,
)
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, ResolvedValues, resolve_values
from heimdall_pipelines.formats.kiwi_chunks import BLOCK, BLOCK_SAMPLES, STALE_BLOCKS, STAMP, scan_chunks
from heimdall_pipelines.formats.recording_names import NOTHING_NAMED, values_in_name
from heimdall_pipelines.formats.samples import CI16_LE, RecordingFormatError, SampleLayout, int16_of, open_file
from heimdall_pipelines.formats.utc import NS_PER_S, iso_from_unix_ns


def kiwi_wav_name(start_time_unix_ns: int, frequency_hz: float, receiver_name: str) -> str:
    """Return the file name that kiwirecorder gives, such as 20171127T104156Z_77500_DF0KL_iq.wav."""
    start = iso_from_unix_ns(start_time_unix_ns)[:19].replace("-", "").replace(":", "")
    return f"{start}Z_{round(frequency_hz)}_{receiver_name}_iq.wav"


def open_kiwi_wav(path: Path, given: GivenValues) -> IqRecording:
    """Open a KiwiSDR IQ recording: start and rate from its GNSS stamps, where it has them.

    Parameters
    ----------
    path : Path
        Start (UTC), frequency in Hz and receiver are taken from a name like 20171127T104156Z_77500_DF0KL_iq.wav.
    given : GivenValues
        Completes or overrides the name and the header. With GNSS stamps the start determines the GPS week only; a rate
        must then agree with the stamps to 0.1 % and replaces the fitted one.

    Raises
    ------
    RecordingFormatError
        If the file is not such a WAV, is truncated or lacks samples, or if start or frequency are unknown.
    """
    with open_file(path) as file:
        chunks = scan_chunks(file, path)
    named = values_in_name(path) or NOTHING_NAMED
    in_file = replace(named.given_values, sample_rate_hz=float(chunks.nominal_rate_hz))
    values = resolve_values(path, given, in_file)
    offsets = np.frombuffer(chunks.data_offsets, np.int64)
    lengths = np.frombuffer(chunks.data_bytes, np.int64) // CI16_LE.sample_bytes
    stamps = np.frombuffer(chunks.stamps, STAMP)
    stale_blocks = STALE_BLOCKS if stamps.size else 0
    if offsets.size <= stale_blocks:
        raise RecordingFormatError(path, f"holds {offsets.size} blocks, but the first {stale_blocks} are discarded")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    stale_samples = int(starts[stale_blocks])
    layout = SampleLayout(path, CI16_LE, offsets[stale_blocks:], starts[stale_blocks:] - stale_samples)

    fit = None
    if stamps.size:
        fit = _fit(path, stamps[stale_blocks:], layout, values)
    is_rate_given = given.sample_rate_hz is not None
    rate_hz = values.sample_rate_hz if fit is None or is_rate_given else fit.sample_rate_hz
    late_ns = round(stale_samples * 1e9 / rate_hz)
    return IqRecording(
        path=path,
        format="kiwi_wav",
        sample_rate_hz=rate_hz,
        frequency_hz=values.frequency_hz,
        start_time_unix_ns=values.start_time_unix_ns + late_ns if fit is None else fit.start_time_unix_ns,
        # A rate that contradicts the stamps, however little, shifts the time of every later sample.
        time_source=values.time_source if fit is None else "given" if is_rate_given else "gnss",
        time_uncertainty_ns=None if fit is None or is_rate_given else fit.residual_rms_ns,
        receiver_name=named.receiver_name,
        encoding="ci16",
        notes=tuple(chunks.notes),
        layout=layout,
    )


def _fit(path: Path, stamps: NDArray[np.void], layout: SampleLayout, values: ResolvedValues) -> ClockFit | None:
    gnss = GnssStamps(layout.starts[:-1], stamps["age_s"], stamps["second"], stamps["nanosecond"])
    near_ns, rate_hz = values.start_time_unix_ns, values.sample_rate_hz
    try:
        fit = fit_gnss_clock(gnss, near_unix_ns=near_ns, nominal_rate_hz=rate_hz)
        if fit is None:  # too few fixes, as in 10 s of many receivers
            fit = fit_extrapolated_stamps(gnss, near_unix_ns=near_ns, nominal_rate_hz=rate_hz)
        return fit
    except ClockError as error:
        offset = None if error.block is None else int(layout.offsets[error.block])
        raise RecordingFormatError(path, str(error), offset) from error
    except ValueError as error:
        raise RecordingFormatError(path, f"{error}: correct the date with --start FILE=date") from error


def write_kiwi_wav(
    path: Path,
    iq: NDArray[np.complex64],
    *,
    nominal_sample_rate_hz: int,
    true_sample_rate_hz: float,
    start_time_unix_ns: int,
    fix_interval_s: float = 1.0,
) -> None:
    """Write a recording as kiwirecorder does; `open_kiwi_wav` reads back exactly `iq`, from `start_time_unix_ns` on.

    Parameters
    ----------
    path : Path
        Overwritten. A name from `kiwi_wav_name` holds start, frequency and receiver.
    iq : NDArray[complex64], shape (n,)
        Both parts within -1..1; stored as int16 in steps of 1/32768, +1 as 32767. Any length of at least 1: two blocks
        of silence, which readers drop, are written before it, and the last block may be shorter.
    nominal_sample_rate_hz : int
        For the header.
    true_sample_rate_hz : float
        The rate that the time stamps give.
    start_time_unix_ns : int
        UTC of ``iq[0]``.
    fix_interval_s : float
        Time between GNSS fixes, 1 to 254 s; real receivers have one about every 5 s. Reading back needs three.

    Raises
    ------
    ValueError
        If an argument is out of range, or the time is before 2009.

    Notes
    -----
    Real receivers extrapolate each stamp from the latest fix at a rate that stays the same to 1e-9 over minutes, so
    that stamps follow a straight line except for steps of tens of ns after a fix; these have no steps. The age is 0 for
    half a second, then counts up at whole seconds: a fix is half a second old when it takes effect.
    """
    parts = np.ascontiguousarray(iq, np.complex64).view(np.float32)
    if iq.ndim != 1 or iq.size == 0 or not np.all(np.abs(parts) <= 1.0):
        raise ValueError("iq must be one row of samples with both parts within -1..1")
    if not 1.0 <= fix_interval_s <= 254.0:  # NaN is refused, too
        raise ValueError(f"fix_interval_s must be within 1..254, is {fix_interval_s}")
    if not 1.0 <= true_sample_rate_hz < 2**32 or not 1 <= nominal_sample_rate_hz < 2**32:
        raise ValueError("the sample rates must be within 1..2^32 Hz")
    num_blocks = STALE_BLOCKS + -(-iq.size // BLOCK_SAMPLES)
    blocks = np.zeros(num_blocks, BLOCK)
    blocks["kiwi"], blocks["kiwi_bytes"] = b"kiwi", STAMP.itemsize
    blocks["data"], blocks["data_bytes"] = b"data", 4 * BLOCK_SAMPLES

    stored = np.zeros((num_blocks - STALE_BLOCKS) * 2 * BLOCK_SAMPLES, np.int16)
    stored[: parts.size] = int16_of(parts)
    blocks["iq"][STALE_BLOCKS:] = stored.reshape(-1, 2 * BLOCK_SAMPLES)
    unused_bytes = 2 * (stored.size - parts.size)
    blocks["data_bytes"][-1] -= unused_bytes

    since_start_s = (np.arange(num_blocks) - STALE_BLOCKS) * (BLOCK_SAMPLES / true_sample_rate_hz)
    gps_ns = gps_ns_of(start_time_unix_ns) % (WEEK_S * NS_PER_S) + np.rint(since_start_s * 1e9).astype(np.int64)
    gps_ns[0] -= 300 * NS_PER_S  # left over from an earlier stream
    blocks["stamp"]["second"] = gps_ns // NS_PER_S % WEEK_S
    blocks["stamp"]["nanosecond"] = gps_ns % NS_PER_S
    since_fix_s = (since_start_s + fix_interval_s / 2) % fix_interval_s
    blocks["stamp"]["age_s"] = np.floor(since_fix_s + 0.5)

    riff_bytes = 28 + blocks.nbytes - unused_bytes
    fmt = struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, 1, 2, nominal_sample_rate_hz, 4 * nominal_sample_rate_hz % 2**32, 4, 16
    )
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", min(riff_bytes, 0xFFFFFFFF), b"WAVE") + fmt)
        file.write(blocks.tobytes()[: blocks.nbytes - unused_bytes])
