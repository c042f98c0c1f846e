"""IQ on its way from the event loop, where it arrives, to the thread that stores it; little of it is in memory."""

import asyncio
import ctypes
import hashlib
import mmap
import threading
from concurrent.futures import Executor
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.formats.npy import npy_header_bytes
from heimdall_pipelines.store.iq_objects import LIVE_PART_SIZE_BYTES, put_live_iq
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore

MAX_BUFFERED_BYTES = LIVE_PART_SIZE_BYTES + 2**20  # the next part, while one is being stored
_M_MMAP_THRESHOLD = -3  # of mallopt, from malloc.h
PARTS_AT_ONCE = 2  # of all stations: those of the same rate are full at the same time


def give_back_large_blocks() -> None:
    """Have glibc map blocks of 1 MiB or more on their own from now on, so that they are given back when they are freed.

    Otherwise it learns from the first part that is freed to keep the next ones, in an arena for each thread. Where the
    C library is another one, nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


class RecordingBrokenOffError(HeimdallError):
    """The stream ended before all its samples came: what was uploaded of it is dropped."""


class IqUpload:
    """One ``.npy`` object whose samples are still to come.

    Parameters
    ----------
    objects : ObjectStore
    location : ObjectLocation
    num_samples : int
        Known before the first one, since the header says it.
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
        header = npy_header_bytes(num_samples)
        self._pipe = _Pipe(len(header) + 8 * num_samples, asyncio.get_running_loop(), turns)
        self._pipe.add(memoryview(header))
        self._stored = asyncio.get_running_loop().run_in_executor(executor, self._store, objects, location)

    async def write(self, iq: NDArray[np.complex64]) -> None:
        """Add samples; waits while the store is behind by more than `MAX_BUFFERED_BYTES`.

        Raises
        ------
        UnavailableError
            The store could not take what was written before.
        """
        left = np.ascontiguousarray(iq, dtype="<c8").data.cast("B")
        while left:
            await self._pipe.room()
            if self._stored.done():
                await self._stored
            left = left[self._pipe.add(left) :]

    async def finish(self) -> str:
        """Wait until everything is stored; gives the object's SHA-256. Raises as `write`."""
        await asyncio.shield(self._stored)
        return self._pipe.sha256()

    async def abort(self) -> None:
        """Give up what is not stored yet, and wait for the thread to end."""
        self._pipe.abort()
        await asyncio.wait([self._stored])
        if not self._stored.cancelled():
            self._stored.exception()  # taken, so that nobody is told of it once more

    def _store(self, objects: ObjectStore, location: ObjectLocation) -> None:
        try:
            put_live_iq(objects, location, self._pipe, self._pipe.length)
        finally:
            self._pipe.close()


class _Pipe:
    """Bytes that one side adds without ever blocking, and the other reads, blocking, as from a file.

    They lie in memory mapped for them alone: the C library would keep what many threads have freed.
    """

    def __init__(self, length: int, loop: asyncio.AbstractEventLoop, turns: threading.Semaphore) -> None:
        self.length = length
        self._loop = loop
        self._turns = turns
        self._has_turn = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._changed = threading.Condition()
        self._buffer = mmap.mmap(-1, min(length, MAX_BUFFERED_BYTES))
        self._num_buffered = 0
        self._num_unread = length
        self._is_aborted = False
        self._is_closed = False
        self._digest = hashlib.sha256()

    def add(self, data: memoryview) -> int:
        """Take as much as there is room for; gives how much that is."""
        with self._changed:
            if self._is_closed:
                return len(data)
            end = min(self._num_buffered + len(data), len(self._buffer))
            num_taken = end - self._num_buffered
            self._buffer[self._num_buffered : end] = data[:num_taken]
            self._num_buffered = end
            if end == len(self._buffer):
                self._has_room.clear()
            self._changed.notify_all()
        return num_taken

    async def room(self) -> None:
        """Wait until there is room, or nothing is read any more."""
        await self._has_room.wait()

    def abort(self) -> None:
        """Have whoever reads fail."""
        with self._changed:
            self._is_aborted = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing is read any more."""
        self._end_turn()
        with self._changed:
            self._is_closed = True
            self._buffer.close()
        self._loop.call_soon_threadsafe(self._has_room.set)

    def read(self, size: int = -1, /) -> bytes:
        """Give ``size`` bytes as soon as there are so many, fewer only at the end; never more than the buffer holds."""
        self._end_turn()  # what was read before is stored
        wanted = min(size if size >= 0 else self.length, self._num_unread, len(self._buffer))
        with self._changed:
            self._changed.wait_for(lambda: self._is_aborted or self._num_buffered >= wanted)
        self._turns.acquire()
        self._has_turn = True
        with self._changed:
            if self._is_aborted:
                raise RecordingBrokenOffError("the recording broke off")
            data = self._buffer[:wanted]
            self._num_buffered -= wanted
            self._buffer.move(0, wanted, self._num_buffered)
            self._num_unread -= wanted
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
