"""MATLAB .mat files: the one vector of complex numbers or of I, Q pairs, with rate and frequency where named."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from heimdall_pipelines.formats.arrays import encoding_of_dtype
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.mat4 import read_mat4
from heimdall_pipelines.formats.mat5 import HEADER_BYTES, is_mat5, read_mat5
from heimdall_pipelines.formats.mat_hdf5 import read_mat_hdf5
from heimdall_pipelines.formats.mat_variables import MatSamples, MatVariable, num_samples_of
from heimdall_pipelines.formats.recording_names import NOTHING_NAMED, values_in_name
from heimdall_pipelines.formats.samples import RecordingFormatError, open_file

_HDF5_MAGIC = b"\x89HDF"
_HDF5_OFFSET = 512  # of a .mat of version 7.3
_RATES = ("fs", "samplerate", "sample_rate", "samp_rate", "fsamp")
_FREQUENCIES = ("fc", "f_c", "centerfrequency", "center_frequency", "center_freq", "inputcenter", "frequency", "freq")


def open_mat(path: Path, given: GivenValues) -> IqRecording:
    """Open a .mat file; rate and frequency are taken from scalars of the usual names (fs, fc, SampleRate, …).

    Samples are read in pieces from files of version 5 (``-v6`` and, compressed, ``-v7``) and 7.3.

    Raises
    ------
    RecordingFormatError
        If it cannot be read, or holds no vector of samples, or several.
    """
    try:
        variables = _variables(path)
        vectors = [variable for variable in variables if num_samples_of(variable) is not None]
        rate_hz, frequency_hz = _scalar(path, variables, _RATES), _scalar(path, variables, _FREQUENCIES)
    except RecordingFormatError:
        raise
    except Exception as error:  # of damaged files, zlib, numpy and h5py raise any exception
        raise RecordingFormatError(path, f"cannot be read as a .mat file: {str(error)[:200]}") from error
    if len(vectors) != 1:
        names = sorted(variable.name for variable in variables)
        found = (
            ", ".join(sorted(vector.name for vector in vectors)) or f"none among {', '.join(names) or 'no variables'}"
        )
        raise RecordingFormatError(
            path, f"must hold one vector of complex samples or of I, Q pairs; it holds {len(vectors)}: {found[:500]}"
        )
    (vector,) = vectors
    num_samples = num_samples_of(vector)
    assert vector.dtype is not None
    assert num_samples is not None
    encoding = encoding_of_dtype(vector.dtype)
    assert encoding is not None
    named = values_in_name(path) or NOTHING_NAMED
    in_file = GivenValues(
        rate_hz or named.given_values.sample_rate_hz,
        frequency_hz or named.given_values.frequency_hz,
        named.given_values.start_time_unix_ns,
    )
    return IqRecording(
        path=path,
        format="mat",
        encoding=f"{'complex ' if vector.is_complex else ''}{vector.dtype}",
        notes=named.notes,
        layout=MatSamples(path, vector, encoding, num_samples),
        **vars(resolve_values(path, given, in_file)),
    )


def _variables(path: Path) -> Sequence[MatVariable]:
    with open_file(path) as file:
        start = file.read(HEADER_BYTES)
        file.seek(_HDF5_OFFSET)
        is_hdf5 = _HDF5_MAGIC in (start[:4], file.read(4))
    if is_hdf5:
        return read_mat_hdf5(path)
    if is_mat5(start):
        return read_mat5(path)
    variables = read_mat4(path)
    if variables is None:
        raise RecordingFormatError(path, "cannot be read as a .mat file: it begins as no version of them does")
    return variables


def _scalar(path: Path, variables: Sequence[MatVariable], names: tuple[str, ...]) -> float | None:
    for variable in variables:
        if variable.name.lower() in names and variable.dtype is not None and prod(variable.shape) == 1:
            return variable.first(path)
    return None
