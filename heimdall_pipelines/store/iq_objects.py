"""IQ objects of recordings and synthetic samples: written as streams, read in ranges."""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.npy import read_npy_header
from heimdall_pipelines.formats.recording import RecordingFormatError
from heimdall_pipelines.store.iq_form import NEW_FORM, SAMPLE_BYTES, IqForm, sidecar_key
from heimdall_pipelines.store.measurements import StationRecording
from heimdall_pipelines.store.objects import ByteSource, ObjectDamagedError, ObjectLocation, ObjectStore

_HEADER_READ_BYTES = 4096
_BLOCK_SAMPLES = 2**20
SESSIONS_PREFIX = "sessions/"  # of the keys in the bucket of recordings
DATASETS_PREFIX = "synthetic/"  # of the keys of IQ in the bucket of synthetic samples
IQ_CONTENT_TYPE = "application/octet-stream"
LIVE_PART_SIZE_BYTES = 5 * 2**20  # the minimum of S3


@dataclass(frozen=True)
class _Damage:
    """Samples ``start`` to ``end`` cannot be read."""

    start: int
    end: int
    error: ObjectDamagedError


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
    ObjectDamagedError
        ``IQ file is damaged: …``: the store cannot read it. Samples around the damage can still be read.
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
        self._header_bytes = self._read_header_bytes() if recording.iq_data_format == IqForm.NPY.data_format else 0
        expected = self._header_bytes + self.num_samples * SAMPLE_BYTES
        if size != expected:
            raise self._invalid(
                f"{size} bytes are stored, {expected} are expected for {self.num_samples} complex64 samples"
                + (" (truncated)" if size < expected else "")
            )
        self._block_start = 0
        self._block: NDArray[np.complex64] = np.empty(0, np.complex64)
        self._damages: list[_Damage] = []

    def read(self, start: int, count: int) -> NDArray[np.complex64]:
        """Samples ``start`` to ``start + count``, which must lie inside the recording."""
        if not 0 <= start <= start + count <= self.num_samples:
            raise IndexError(f"samples {start}..{start + count} of {self.num_samples}")
        for damage in self._damages:
            if damage.start < start + count and start < damage.end:
                raise damage.error  # finding it again would take as long as the first time
        offset = start - self._block_start
        if offset < 0 or offset + count > self._block.size:
            self._fetch(start, max(count, _BLOCK_SAMPLES))
            offset = 0
        return self._block[offset : offset + count]

    def _fetch(self, start: int, count: int) -> None:
        count = min(count, self.num_samples - start)
        try:
            raw = self._objects.read(self._location, self._header_bytes + start * SAMPLE_BYTES, count * SAMPLE_BYTES)
        except ObjectDamagedError as error:
            self._damages.append(_Damage(start, start + count, error))
            raise
        if len(raw) != count * SAMPLE_BYTES:
            raise self._invalid(f"ends {count * SAMPLE_BYTES - len(raw)} bytes early (truncated)")
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


@dataclass(frozen=True)
class StoredFiles:
    """What is kept of a stored IQ object and its sidecar.

    Attributes
    ----------
    etag : str
        Of the object, as listings show it.
    sidecar_sha256 : str
        Of the sidecar's bytes.
    """

    etag: str
    sidecar_sha256: str


def put_iq(
    objects: ObjectStore, location: ObjectLocation, source: ByteSource, length: int, sidecar: dict[str, Any]
) -> StoredFiles:
    """Store the stream of a receiver's IQ object, then its SigMF description."""
    etag = objects.put(location, source, length, IQ_CONTENT_TYPE)
    return StoredFiles(etag, put_sidecar(objects, location, sidecar))


def put_live_iq(objects: ObjectStore, location: ObjectLocation, source: ByteSource, length: int) -> str:
    """Store an IQ object during its recording, in small parts, with little memory; returns its ETag."""
    return objects.put_slowly(location, source, length, IQ_CONTENT_TYPE, LIVE_PART_SIZE_BYTES)


def shorten_iq(objects: ObjectStore, location: ObjectLocation, num_samples: int) -> tuple[str, str]:
    """Replace an IQ object by one of its first samples; returns the new one's SHA-256 and ETag."""
    form = IqForm.of_key(location.key)
    old_header_bytes = 0
    if form is IqForm.NPY:
        old_header_bytes = read_npy_header(io.BytesIO(objects.read(location, 0, _HEADER_READ_BYTES))).header_bytes
    source = _FirstSamples(objects, location, old_header_bytes, form.header(num_samples), num_samples)
    etag = objects.put(location, source, source.length, IQ_CONTENT_TYPE)  # replaces the old one when it is complete
    return source.digest.hexdigest(), etag


class _FirstSamples:
    """Another header, then the first samples of a stored object."""

    def __init__(
        self, objects: ObjectStore, location: ObjectLocation, old_header_bytes: int, header: bytes, num_samples: int
    ) -> None:
        self.length = len(header) + num_samples * SAMPLE_BYTES
        self.digest = hashlib.sha256()
        self._objects, self._location = objects, location
        self._header = header
        self._shift_bytes = old_header_bytes - len(header)
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        left = self.length - self._position
        count = min(left if size < 0 else size, left)
        data = self._header[self._position : self._position + count]
        if len(data) < count:
            begin = self._position + len(data)
            data += self._objects.read(self._location, begin + self._shift_bytes, count - len(data))
        self._position += len(data)
        self.digest.update(data)
        return data


def read_sidecar(objects: ObjectStore, location: ObjectLocation) -> dict[str, Any]:
    """Read the SigMF description of an IQ object.

    Raises
    ------
    ObjectNotFoundError
        There is none.
    IqObjectError
        It is not a JSON object.
    """
    where = sidecar_location(location)
    try:
        meta = json.loads(objects.read_whole(where))
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise IqObjectError(f"Invalid SigMF description: {where}: not a JSON object")
    return meta


def put_sidecar(objects: ObjectStore, location: ObjectLocation, sidecar: dict[str, Any]) -> str:
    """Store the SigMF description of an IQ object; returns the SHA-256 of its bytes."""
    text = sidecar_bytes(sidecar)
    objects.put(sidecar_location(location), io.BytesIO(text), len(text), "application/json")
    return hashlib.sha256(text).hexdigest()


def sidecar_bytes(sidecar: dict[str, Any]) -> bytes:
    """A SigMF description as it is stored."""
    return json.dumps(sidecar, indent=2).encode()


def session_iq_prefix(session_id: object) -> str:
    """Prefix of the objects of a session."""
    return f"{SESSIONS_PREFIX}{session_id}/"


def session_iq_location(
    objects: ObjectStore, session_id: object, rx_id: str, form: IqForm = NEW_FORM
) -> ObjectLocation:
    """Location of a station's IQ of a session that is stored now; a measurement names that of a stored one."""
    return ObjectLocation(objects.raw_iq_bucket, f"{session_iq_prefix(session_id)}{rx_id}{form.suffix}")


def dataset_iq_prefix(dataset_id: object) -> str:
    """Prefix of the objects of a synthetic dataset."""
    return f"{DATASETS_PREFIX}{dataset_id}/"


def sample_iq_key(dataset_id: object, sample_idx: int, rx_id: str, form: IqForm = NEW_FORM) -> str:
    """Key of a receiver's IQ of a synthetic sample; the IQ row of a stored sample names its keys."""
    return f"{dataset_iq_prefix(dataset_id)}{sample_idx}/{rx_id}{form.suffix}"


def sample_iq_location(
    objects: ObjectStore, dataset_id: object, sample_idx: int, rx_id: str, form: IqForm = NEW_FORM
) -> ObjectLocation:
    """Location of a receiver's IQ of a synthetic sample; see `sample_iq_key`."""
    return ObjectLocation(objects.synthetic_iq_bucket, sample_iq_key(dataset_id, sample_idx, rx_id, form))


def sidecar_location(location: ObjectLocation) -> ObjectLocation:
    """Location of the SigMF description of an IQ object."""
    return ObjectLocation(location.bucket, sidecar_key(location.key))


def remove_session_iq(objects: ObjectStore, session_id: object) -> None:
    """Remove every object of a session."""
    objects.remove(objects.raw_iq_bucket, session_iq_prefix(session_id))


def remove_station_iq(objects: ObjectStore, session_id: object, rx_id: str) -> None:
    """Remove one station's objects of a session."""
    location = session_iq_location(objects, session_id, rx_id)
    objects.remove_keys(location.bucket, [location.key, sidecar_key(location.key)])


def remove_dataset_iq(objects: ObjectStore, dataset_id: object) -> None:
    """Remove every object of a synthetic dataset."""
    objects.remove(objects.synthetic_iq_bucket, dataset_iq_prefix(dataset_id))
