"""Moves IQ from the event loop, where it arrives, to the thread that stores it; little of it is in memory."""

import asyncio
import ctypes
import hashlib
import os
import tempfile
import threading
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.iq_objects import LIVE_PART_SIZE_BYTES, put_live_iq, shorten_iq
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore

MAX_BUFFERED_BYTES = 4 * LIVE_PART_SIZE_BYTES  # in a file of each station: 3 minutes at 12 kHz
_FILL_SAMPLES = 1 << 16
_M_MMAP_THRESHOLD = -3  # of mallopt, from malloc.h
PARTS_AT_ONCE = 1  # of all stations, for one part's memory: those of the same rate are full at the same time


def release_large_blocks() -> None:
    """Make glibc allocate blocks of 1 MiB or more by mmap, so that they are returned to the system when they are freed.

    Otherwise it raises its threshold after the first freed part and keeps the next ones in an arena of each thread:
    30 MB with seven stations. With another C library this does nothing.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


class RecordingBrokenOffError(HeimdallError):
    """The stream ended before all its samples arrived: what was uploaded of it is dropped."""


@dataclass(frozen=True)
class UploadedIq:
    """Digest and ETag of a stored object."""

    sha256: str
    etag: str


class IqUpload:
    """An upload of one IQ object whose samples are still to arrive.

    Parameters
    ----------
    objects : ObjectStore
    location : ObjectLocation
    num_samples : int
        Must be known in advance: the store is told the object's length.
    executor : Executor
        One of its threads is busy until `finish` or `abort` returns.
    turns : Semaphore
        Of `PARTS_AT_ONCE`, shared by all uploads.
    """

    def __init__(
        self,
        objects: ObjectStore,
        location: ObjectLocation,
        num_samples: int,
        executor: Executor,
        turns: threading.Semaphore,
    ) -> None:
        self._objects, self._location, self._executor = objects, location, executor
        self._num_samples, self._num_written = num_samples, 0
        form = IqForm.of_key(location.key)
        header = form.header(num_samples)
        self._pipe = _Pipe(form.object_bytes(num_samples), asyncio.get_running_loop(), turns)
        self._pipe.add(memoryview(header))
        self._stored = asyncio.get_running_loop().run_in_executor(executor, self._store, objects, location)

    async def write(self, iq: NDArray[np.complex64]) -> None:
        """Add samples; waits while the store is behind by more than `MAX_BUFFERED_BYTES`.

        Raises
        ------
        UnavailableError
            The store could not take what was written before.
        RecordingBrokenOffError
            There is no room in the folder for temporary files.
        """
        self._num_written += iq.size
        left = np.ascontiguousarray(iq, dtype="<c8").data.cast("B")
        while left:
            await self._pipe.room()
            if self._stored.done():
                await self._stored
            left = left[self._pipe.add(left) :]

    async def finish(self, num_samples: int | None = None) -> UploadedIq:
        """Wait until everything is stored. Raises as `write`.

        Of a stream that ended early only the first `num_samples` are kept.
        """
        if num_samples is None or num_samples >= self._num_samples:
            etag = await asyncio.shield(self._stored)
            return UploadedIq(self._pipe.sha256(), etag)
        # The length was announced to the store: the object is completed and then replaced by a shorter one.
        while self._num_written < self._num_samples:
            await self.write(np.zeros(min(_FILL_SAMPLES, self._num_samples - self._num_written), np.complex64))
        await asyncio.shield(self._stored)
        shorten = asyncio.get_running_loop().run_in_executor
        return UploadedIq(*await shorten(self._executor, shorten_iq, self._objects, self._location, num_samples))

    async def abort(self) -> None:
        """Discard what is not stored yet, and wait for the thread to end."""
        self._pipe.abort()
        await asyncio.wait([self._stored])
        if not self._stored.cancelled():
            self._stored.exception()  # retrieved, so that asyncio does not log it

    def _store(self, objects: ObjectStore, location: ObjectLocation) -> str:
        try:
            return put_live_iq(objects, location, self._pipe, self._pipe.length)
        finally:
            self._pipe.close()


class _Pipe:
    """Bytes that one side adds without waiting for the other, which reads them as from a file.

    They are in a temporary file, used as a ring: a part of each of seven stations would be 40 MB of memory. The file
    has no name, so that nothing is left of it when the process is killed.
    """

    def __init__(self, length: int, loop: asyncio.AbstractEventLoop, turns: threading.Semaphore) -> None:
        self.length = length
        self._loop = loop
        self._turns = turns
        self._has_turn = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._changed = threading.Condition()
        self._file = _temporary_file()
        self._ring_bytes = min(length, MAX_BUFFERED_BYTES)
        self._num_added = 0
        self._num_read = 0
        self._is_aborted = False
        self._is_closed = False
        self._digest = hashlib.sha256()

    def add(self, data: memoryview) -> int:
        """Take as much as there is room for; returns the number of bytes taken."""
        with self._changed:
            if self._is_closed:
                return len(data)
            begin = self._num_added % self._ring_bytes
            num_free = self._ring_bytes - (self._num_added - self._num_read)
            taken = data[: min(num_free, self._ring_bytes - begin)]
            try:
                num_taken = os.pwrite(self._file.fileno(), taken, begin)
            except OSError as error:
                raise _no_room(error) from error
            self._num_added += num_taken
            if num_taken == num_free:
                self._has_room.clear()
            self._changed.notify_all()
        return num_taken

    async def room(self) -> None:
        """Wait until there is room, or nothing is read any more."""
        await self._has_room.wait()

    def abort(self) -> None:
        """Make the reader fail."""
        with self._changed:
            self._is_aborted = True
            self._changed.notify_all()

    def close(self) -> None:
        """End reading: later bytes are discarded."""
        self._end_turn()
        with self._changed:
            self._is_closed = True
            self._file.close()
        self._loop.call_soon_threadsafe(self._has_room.set)

    def read(self, size: int = -1, /) -> bytes:
        """Return ``size`` bytes once they are available, fewer only at the end; never more than the ring holds."""
        self._end_turn()  # what was read before is stored
        wanted = min(size if size >= 0 else self.length, self.length - self._num_read, self._ring_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._is_aborted or self._num_added - self._num_read >= wanted)
        self._turns.acquire()
        self._has_turn = True
        with self._changed:
            if self._is_aborted:
                raise RecordingBrokenOffError("the recording was interrupted")
            begin = self._num_read % self._ring_bytes
            data = os.pread(self._file.fileno(), min(wanted, self._ring_bytes - begin), begin)
            if len(data) < wanted:
                data += os.pread(self._file.fileno(), wanted - len(data), 0)
            self._num_read += wanted
        self._loop.call_soon_threadsafe(self._has_room.set)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        """Digest of what was read."""
        return self._digest.hexdigest()

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turns.release()


def _temporary_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> RecordingBrokenOffError:
    return RecordingBrokenOffError(
        f"cannot buffer samples: {error.strerror} in {tempfile.gettempdir()}; free "
        f"{MAX_BUFFERED_BYTES >> 20} MiB for each station, or set TMPDIR to another folder"
    )
