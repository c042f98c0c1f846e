"""Headerless files of interleaved I, Q numbers."""

from pathlib import Path

from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.npy import NPY_MAGIC
from heimdall_pipelines.formats.samples import (
    CF32_LE,
    CI16_LE,
    CU8,
    RecordingFormatError,
    SampleLayout,
    file_size,
    open_file,
)

RAW_ENCODINGS = {"cf32": CF32_LE, "ci16": CI16_LE, "cu8": CU8}
_SELF_DESCRIBING = {NPY_MAGIC: ".npy", b"RIFF": ".wav"}


def open_raw(path: Path, given: GivenValues, raw_format: str) -> IqRecording:
    """Open a headerless file; rate, frequency and start must be given.

    Parameters
    ----------
    path : Path
        The file.
    given : GivenValues
        All three values.
    raw_format : str
        "cf32" (complex64), "ci16" or "cu8" (interleaved int16 or uint8), little-endian.

    Raises
    ------
    RecordingFormatError
        If the file is empty, is not a whole number of samples, begins like a file with a header (which would be
        read as samples), or a value is missing.
    ValueError
        If `raw_format` is unknown.
    """
    if raw_format not in RAW_ENCODINGS:
        raise ValueError(f"raw format {raw_format!r} is not one of {', '.join(RAW_ENCODINGS)}")
    encoding = RAW_ENCODINGS[raw_format]
    with open_file(path) as file:
        size = file_size(file)
        start = file.read(8)
    for magic, suffix in _SELF_DESCRIBING.items():
        if start.startswith(magic):
            raise RecordingFormatError(path, f"is a {suffix} file, not headerless samples: name it {suffix}", 0)
    num_samples, rest = divmod(size, encoding.sample_bytes)
    if rest:
        raise RecordingFormatError(
            path, f"ends within a sample: {size} bytes are not a multiple of {encoding.sample_bytes}", size - rest
        )
    values = resolve_values(path, given, GivenValues())
    layout = SampleLayout.contiguous(path, encoding, 0, num_samples)
    return IqRecording(path=path, format="raw", layout=layout, **vars(values))
