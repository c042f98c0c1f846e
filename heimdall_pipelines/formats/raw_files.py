"""Headerless files of interleaved I, Q numbers."""

from pathlib import Path

from heimdall_pipelines.formats.file_formats import RAW_FORMATS, SUFFIX_RAW_FORMATS
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.npy import NPY_MAGIC
from heimdall_pipelines.formats.raw_formats import RAW_ENCODINGS, implausibility, likely_format
from heimdall_pipelines.formats.recording_names import NOTHING_NAMED, values_in_name
from heimdall_pipelines.formats.samples import RecordingFormatError, SampleLayout, file_size, open_file

_SELF_DESCRIBING = {NPY_MAGIC: ".npy", b"RIFF": ".wav", b"RF64": ".wav", b"BW64": ".wav"}
_PROBE_BYTES = 1 << 16


def open_raw(path: Path, given: GivenValues, raw_format: str | None) -> IqRecording:
    """Open a headerless file; rate, frequency and start must be given, unless its name states them.

    Parameters
    ----------
    path : Path
        The file.
    given : GivenValues
        Rate, frequency and start.
    raw_format : str or None
        One of `RAW_FORMATS`; None: the one that the suffix or the recorder's form of name implies.

    Raises
    ------
    RecordingFormatError
        If the file is empty, is not a whole number of samples, begins like a file with a header (which would be
        read as samples), if its format is unknown or does not fit its bytes, or a value is missing.
    """
    with open_file(path) as file:
        size = file_size(file)
        start = file.read(8)
        file.seek(size // 2 // 64 * 64)  # a recorder may begin with zeros
        probe = file.read(_PROBE_BYTES)
    for magic, suffix in _SELF_DESCRIBING.items():
        if start.startswith(magic):
            raise RecordingFormatError(path, f"is a {suffix} file, not headerless samples: name it {suffix}", 0)
    named = values_in_name(path) or NOTHING_NAMED
    chosen = raw_format or named.raw_format or SUFFIX_RAW_FORMATS.get(path.suffix.lower())
    if chosen is None:
        likely = likely_format(probe)
        hint = f"; its bytes look like {likely}" if likely else ""
        raise RecordingFormatError(
            path,
            f"does not say how its samples are stored: give --raw-format, one of {', '.join(RAW_FORMATS)}{hint}; "
            "see heimdall session inspect",
        )
    encoding = RAW_ENCODINGS[chosen]
    problem = implausibility(probe, chosen)
    if problem is not None:
        raise RecordingFormatError(path, f"{problem}: give the right --raw-format, one of {', '.join(RAW_FORMATS)}")
    num_samples, rest = divmod(size, encoding.sample_bytes)
    if rest:
        raise RecordingFormatError(
            path, f"ends within a sample: {size} bytes are not a multiple of {encoding.sample_bytes}", size - rest
        )
    return IqRecording(
        path=path,
        format="raw",
        encoding=chosen,
        layout=SampleLayout.contiguous(path, encoding, 0, num_samples),
        receiver_name=named.receiver_name,
        notes=named.notes,
        **vars(resolve_values(path, given, named.given_values)),
    )
