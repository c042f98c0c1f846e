"""MATLAB .mat files: the one vector of complex numbers or of I, Q pairs, with rate and frequency where named."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.formats.arrays import ArraySamples, encoding_of_dtype
from heimdall_pipelines.formats.iq_recording import GivenValues, IqRecording, resolve_values
from heimdall_pipelines.formats.recording_names import values_in_name
from heimdall_pipelines.formats.samples import RecordingFormatError, file_size, open_file

MAX_BYTES = 2 << 30  # such a file is read as a whole
_MIN_SAMPLES = 64  # shorter vectors are parameters
_HDF5_MAGIC = b"\x89HDF"
_HDF5_OFFSET = 512  # of a .mat of version 7.3
_RATES = ("fs", "samplerate", "sample_rate", "samp_rate", "fsamp")
_FREQUENCIES = ("fc", "f_c", "centerfrequency", "center_frequency", "center_freq", "inputcenter", "frequency", "freq")


def open_mat(path: Path, given: GivenValues) -> IqRecording:
    """Open a .mat file; rate and frequency are taken from scalars of the usual names (fs, fc, SampleRate, …).

    Raises
    ------
    RecordingFormatError
        If it cannot be read, is longer than 2 GiB, or holds no vector of samples, or several.
    """
    with open_file(path) as file:
        size = file_size(file)
        start = file.read(4)
        file.seek(_HDF5_OFFSET)
        is_hdf5 = _HDF5_MAGIC in (start, file.read(4))
    if size > MAX_BYTES:
        raise RecordingFormatError(path, f"has {size} bytes; a .mat file is read as a whole, up to {MAX_BYTES} bytes")
    try:
        variables = (_read_hdf5 if is_hdf5 else _read_mat)(path)
    except RecordingFormatError:
        raise
    except Exception as error:  # of damaged files, scipy and h5py raise any exception
        raise RecordingFormatError(path, f"cannot be read as a .mat file: {str(error)[:200]}") from error
    vectors = {name: vector for name, value in variables.items() if (vector := _samples(value)) is not None}
    if len(vectors) != 1:
        found = ", ".join(sorted(vectors)) or f"none among {', '.join(sorted(variables)) or 'no variables'}"
        raise RecordingFormatError(
            path, f"must hold one vector of complex samples or of I, Q pairs; it holds {len(vectors)}: {found}"
        )
    ((_, vector),) = vectors.items()
    encoding = encoding_of_dtype(vector.dtype)
    assert encoding is not None
    named = values_in_name(path)
    by_name = named.given_values if named else GivenValues()
    in_file = GivenValues(
        _scalar(variables, _RATES) or by_name.sample_rate_hz,
        _scalar(variables, _FREQUENCIES) or by_name.frequency_hz,
        by_name.start_time_unix_ns,
    )
    return IqRecording(
        path=path,
        format="mat",
        encoding=str(vector.dtype),
        notes=named.notes if named else (),
        layout=ArraySamples(path, encoding, vector),
        **vars(resolve_values(path, given, in_file)),
    )


def _read_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    load: Callable[..., Mapping[str, Any]] = loadmat
    return {name: value for name, value in load(path).items() if not name.startswith("__")}


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise RecordingFormatError(
            path,
            "is a .mat file of version 7.3 (HDF5): install h5py, with: pip install 'heimdall-pipelines[formats]'; or "
            "save it with -v7",
        ) from None
    found = {}
    with h5py.File(path, "r") as file:
        for name, item in file.items():
            if isinstance(item, h5py.Dataset) and item.size:
                value = item[()]
                if value.dtype.names == ("real", "imag"):
                    value = value["real"] + 1j * value["imag"]
                found[name] = value
    return found


def _samples(value: object) -> NDArray[np.generic] | None:
    """A vector of complex numbers (n,), or of pairs (n, 2); None for anything else."""
    if not isinstance(value, np.ndarray) or value.dtype.hasobject or encoding_of_dtype(value.dtype) is None:
        return None
    array = np.squeeze(value)
    if np.iscomplexobj(array):
        return array if array.ndim == 1 and array.size >= _MIN_SAMPLES else None
    if array.ndim != 2 or 2 not in array.shape or array.size < 2 * _MIN_SAMPLES:
        return None
    return array if array.shape[1] == 2 else array.T


def _scalar(variables: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    for name, value in variables.items():
        if name.lower() in names and isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iuf":
            return float(value.reshape(-1)[0])
    return None
