"""An embedded S3 server of a test's own, whose files the test may damage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from heimdall_pipelines.local.ports import LOOPBACK
from heimdall_pipelines.local.seaweed import EmbeddedS3
from heimdall_pipelines.settings import Settings

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-very-secret-key"


class OwnS3:
    """A running server and its files."""

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedS3(folder / "s3")
        self.port = self.server.start(ACCESS_KEY, SECRET_KEY, [])

    @property
    def data(self) -> Path:
        return self.server.data_folder

    def settings(self, others: Settings, **more: object) -> Settings:
        """Those of the tests' PostgreSQL with this server."""
        mine = {
            "s3_endpoint": f"{LOOPBACK}:{self.port}",
            "s3_access_key": ACCESS_KEY,
            "s3_secret_key": SecretStr(SECRET_KEY),
            "s3_folder": self.data,
        }
        return others.model_copy(update=mine | more)

    def file_of(self, content: bytes) -> tuple[Path, int]:
        """The volume file that holds these bytes, and where: on disk they are as they were put."""
        for path in self.data.glob("*.dat"):
            begin = path.read_bytes().find(content)
            if begin >= 0:
                return path, begin
        raise AssertionError("no volume has these bytes")

    def flip_a_byte(self, content: bytes) -> None:
        """Let one byte of an object rot on the disk, behind the server's back."""
        path, begin = self.file_of(content)
        with path.open("r+b") as file:
            file.seek(begin + len(content) // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 0x10]))


@contextmanager
def own_s3(folder: Path) -> Iterator[OwnS3]:
    """Start one; it ends with the test."""
    started = OwnS3(folder)
    try:
        yield started
    finally:
        started.server.stop()
