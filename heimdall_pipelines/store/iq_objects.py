"""IQ objects of recordings and synthetic samples: written as streams, read in ranges."""

import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.npy import read_npy_header
from heimdall_pipelines.formats.recording import RecordingFormatError
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.objects import ByteSource, ObjectLocation, ObjectStore

_HEADER_READ_BYTES = 4096
_SAMPLE_BYTES = 8
_BLOCK_SAMPLES = 2**20
IQ_CONTENT_TYPE = "application/octet-stream"
LIVE_PART_SIZE_BYTES = 5 * 2**20  # the minimum of S3


class IqObjectError(HeimdallError):
    """An IQ object exists, but its bytes do not match its row."""


class StationIq:
    """Random access to one station's IQ in the store; keeps one block of it in memory.

    Raises
    ------
    ObjectNotFoundError
        ``IQ file not found: bucket/key``.
    IqObjectError
        ``Invalid IQ data format: …``: truncated, wrong dtype, pickled, or not the length of its row.
    ObjectsUnavailableError
        The store could not be reached.
    """

    def __init__(self, objects: ObjectStore, recording: StationRecording) -> None:
        assert recording.location is not None
        self._objects = objects
        self._location = recording.location
        self.num_samples = recording.samples_count
        size = objects.size_bytes(self._location)
        if size == 0:
            raise self._invalid("the object is empty")
        self._header_bytes = self._read_header_bytes() if recording.iq_data_format == "npy" else 0
        expected = self._header_bytes + self.num_samples * _SAMPLE_BYTES
        if size != expected:
            raise self._invalid(
                f"{size} bytes are stored, {expected} are expected for {self.num_samples} complex64 samples"
                + (" (truncated)" if size < expected else "")
            )
        self._block_start = 0
        self._block: NDArray[np.complex64] = np.empty(0, np.complex64)

    def read(self, start: int, count: int) -> NDArray[np.complex64]:
        """Samples ``start`` to ``start + count``, which must lie inside the recording."""
        if not 0 <= start <= start + count <= self.num_samples:
            raise IndexError(f"samples {start}..{start + count} of {self.num_samples}")
        offset = start - self._block_start
        if offset < 0 or offset + count > self._block.size:
            self._fetch(start, max(count, _BLOCK_SAMPLES))
            offset = 0
        return self._block[offset : offset + count]

    def _fetch(self, start: int, count: int) -> None:
        count = min(count, self.num_samples - start)
        raw = self._objects.read(self._location, self._header_bytes + start * _SAMPLE_BYTES, count * _SAMPLE_BYTES)
        if len(raw) != count * _SAMPLE_BYTES:
            raise self._invalid(f"ends {count * _SAMPLE_BYTES - len(raw)} bytes early (truncated)")
        self._block_start = start
        self._block = np.frombuffer(raw, dtype="<c8")

    def _read_header_bytes(self) -> int:
        head = io.BytesIO(self._objects.read(self._location, 0, _HEADER_READ_BYTES))
        try:
            header = read_npy_header(head)
        except RecordingFormatError as error:
            raise self._invalid(error.reason) from error
        if header.dtype != np.dtype("<c8"):
            raise self._invalid(f"dtype is {header.dtype}, complex64 is expected")
        if header.num_samples != self.num_samples:
            raise self._invalid(f"the header has {header.num_samples} samples, the session {self.num_samples}")
        return header.header_bytes

    def _invalid(self, reason: str) -> IqObjectError:
        return IqObjectError(f"Invalid IQ data format: {self._location}: {reason}")


def put_iq(
    objects: ObjectStore, location: ObjectLocation, source: ByteSource, length: int, sidecar: dict[str, Any]
) -> str:
    """Store a receiver's ``.npy`` stream, then its SigMF description; returns the stream's ETag."""
    etag = objects.put(location, source, length, IQ_CONTENT_TYPE)
    put_sidecar(objects, location, sidecar)
    return etag


def put_live_iq(objects: ObjectStore, location: ObjectLocation, source: ByteSource, length: int) -> None:
    """Store a ``.npy`` stream during its recording, in small parts, with little memory."""
    objects.put_slowly(location, source, length, IQ_CONTENT_TYPE, LIVE_PART_SIZE_BYTES)


def put_sidecar(objects: ObjectStore, location: ObjectLocation, sidecar: dict[str, Any]) -> None:
    """Store the SigMF description of an IQ object."""
    text = json.dumps(sidecar, indent=2).encode()
    objects.put(sidecar_location(location), io.BytesIO(text), len(text), "application/json")


def get_sidecar(objects: ObjectStore, location: ObjectLocation) -> dict[str, Any]:
    """Read the SigMF description of an IQ object.

    Raises
    ------
    ObjectNotFoundError
        There is none.
    IqObjectError
        It is not a JSON object.
    """
    described = sidecar_location(location)
    try:
        sidecar = json.loads(objects.read(described, 0, objects.size_bytes(described)))
    except ValueError as error:
        raise IqObjectError(f"{described}: the SigMF description is not JSON: {error}") from error
    if not isinstance(sidecar, dict):
        raise IqObjectError(f"{described}: the SigMF description is not a JSON object")
    return sidecar


def session_iq_location(objects: ObjectStore, session_id: object, rx_id: str) -> ObjectLocation:
    """Location of a station's IQ of a session."""
    return ObjectLocation(objects.raw_iq_bucket, f"sessions/{session_id}/{rx_id}.npy")


def dataset_iq_prefix(dataset_id: object) -> str:
    """Prefix of the objects of a synthetic dataset."""
    return f"synthetic/{dataset_id}/"


def sample_iq_key(dataset_id: object, sample_idx: int, rx_id: str) -> str:
    """Key of a receiver's IQ of a synthetic sample."""
    return f"{dataset_iq_prefix(dataset_id)}{sample_idx}/{rx_id}.npy"


def sample_iq_location(objects: ObjectStore, dataset_id: object, sample_idx: int, rx_id: str) -> ObjectLocation:
    """Location of a receiver's IQ of a synthetic sample."""
    return ObjectLocation(objects.synthetic_iq_bucket, sample_iq_key(dataset_id, sample_idx, rx_id))


def sidecar_key(key: str) -> str:
    """Key of the SigMF sidecar of an IQ object."""
    return key.removesuffix(".npy") + ".sigmf-meta"


def sidecar_location(location: ObjectLocation) -> ObjectLocation:
    """Location of the SigMF description of an IQ object."""
    return ObjectLocation(location.bucket, sidecar_key(location.key))


def remove_session_iq(objects: ObjectStore, session_id: object) -> None:
    """Remove every object of a session."""
    objects.remove(objects.raw_iq_bucket, f"sessions/{session_id}/")


def remove_station_iq(objects: ObjectStore, session_id: object, rx_id: str) -> None:
    """Remove one station's objects of a session."""
    location = session_iq_location(objects, session_id, rx_id)
    objects.remove_keys(location.bucket, [location.key, sidecar_key(location.key)])


def remove_dataset_iq(objects: ObjectStore, dataset_id: object) -> None:
    """Remove every object of a synthetic dataset."""
    objects.remove(objects.synthetic_iq_bucket, dataset_iq_prefix(dataset_id))
