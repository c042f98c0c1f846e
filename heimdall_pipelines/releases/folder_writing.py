"""Writes a folder that is complete or absent: under a temporary name, with checksums last, renamed at the end."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.learning.description import SUMS_FILE

_BLOCK_BYTES = 2**20
_PIECES_AHEAD = 8  # written, but not hashed yet


class ExportError(HeimdallError):
    """The export cannot be written or is refused; nothing is left under its name."""


class HashedFile:
    """A file that is written in order, and its SHA-256.

    Parameters
    ----------
    file : file
    hashing : ThreadPoolExecutor, optional
        A single thread that hashes, for a file of large pieces: reading, writing and hashing then go on at once. The
        pieces must not change afterwards.
    """

    def __init__(self, file: BinaryIO, hashing: ThreadPoolExecutor | None = None) -> None:
        self._file = file
        self._hashing = hashing
        self._pieces: deque[Future[None]] = deque()
        self._digest = hashlib.sha256()
        self.position = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        if self._hashing is None:
            self._digest.update(data)
        else:
            self._pieces.append(self._hashing.submit(self._digest.update, data))
            self._hash_all_but(_PIECES_AHEAD)
        self._file.write(data)
        self.position += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.position

    def flush(self) -> None:
        """Pass the bytes on to the system."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """Whether no more can be written."""
        return self._file.closed

    def close(self) -> None:
        """Do nothing: the folder closes its files."""

    def readable(self) -> bool:
        """False, as Arrow asks."""
        return False

    def writable(self) -> bool:
        """True, as Arrow asks."""
        return True

    def seekable(self) -> bool:
        """False, as Arrow asks."""
        return False

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        self._hash_all_but(0)
        return self._digest.hexdigest()

    def _hash_all_but(self, num: int) -> None:
        while len(self._pieces) > num:
            self._pieces.popleft().result()


class NewFolder:
    """Files of an export that is being written."""

    def __init__(self, path: Path, syncing: ThreadPoolExecutor) -> None:
        self.path = path
        self._syncing = syncing
        self._synced: dict[str, Future[None]] = {}
        self._sums: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    @contextmanager
    def file(self, name: str, *, is_part: bool = True, is_large: bool = False) -> Iterator[HashedFile]:
        """Write a file; one that is no part of the export is for the caller to remove.

        Parameters
        ----------
        name : str
        is_part : bool, optional
        is_large : bool, optional
            It is written in large pieces, that are hashed by a thread.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            hashing = stack.enter_context(ThreadPoolExecutor(1, "hashing")) if is_large else None
            hashed = HashedFile(stack.enter_context(path.open("wb")), hashing)
            yield hashed
            sha256 = hashed.sha256
        if is_part:
            self._sums[name], self._sizes[name] = sha256, hashed.position
            self._synced[name] = self._syncing.submit(_sync, path)

    def write(self, name: str, content: str) -> None:
        """Write a text file."""
        with self.file(name) as file:
            file.write(content.encode())

    def copy(self, source: Path, name: str) -> None:
        """Write a file with the content of another."""
        with source.open("rb") as opened, self.file(name, is_large=True) as file:
            while block := opened.read(_BLOCK_BYTES):
                file.write(block)

    def sha256(self, name: str) -> str:
        """Of a file that is written."""
        return self._sums[name]

    def size_bytes(self, name: str) -> int:
        """Of a file that is written."""
        return self._sizes[name]

    @property
    def total_bytes(self) -> int:
        """Of all files that are written."""
        return sum(self._sizes.values())

    def write_sums(self) -> None:
        """Write the checksums of all files, and have everything on the disk."""
        content = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(self._sums.items()))
        for synced in self._synced.values():
            synced.result()
        path = self.path / SUMS_FILE
        path.write_text(content)
        _sync(path)
        _sync(self.path)


@contextmanager
def new_folder(target: Path) -> Iterator[NewFolder]:
    """Write a folder; at the end of the block it gets its name, after an error nothing is left.

    What a killed export left is removed first: an export starts clean.

    Raises
    ------
    ExportError
        The name is taken, another export to this name is running, or the files cannot be written.
    """
    target = target.absolute()
    partial = target.with_name(f".{target.name}.partial")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"{target} exists already and is not an empty folder: give another one with -o")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ExportError(f"{target}: the folder cannot be made: {error.strerror or error}") from error
    try:
        _lock(descriptor, target)
        _empty(partial)
        try:
            # A file is on the disk while the next one is written.
            with ThreadPoolExecutor(1, "syncing") as syncing:
                folder = NewFolder(partial, syncing)
                yield folder
                folder.write_sums()
            if target.is_dir():
                target.rmdir()
            partial.rename(target)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and not isinstance(error, HeimdallError):
                raise ExportError(_what_failed(target, error)) from error
            raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ExportError(f"{target} is being written by another export; wait for it, or give another -o") from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _what_failed(target: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{target}: no room is left on the device; the export was removed. Make room, or give another -o"
    return f"{target} cannot be written: {error.strerror or error}; the export was removed"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
