"""Files that commands write."""

from pathlib import Path

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.errors import HeimdallError


class NotWrittenError(HeimdallError):
    """A file cannot be written."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file, creating its folder if it does not exist, and print its path.

    Raises
    ------
    NotWrittenError
        With the reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise NotWrittenError(f"{path} could not be written: {error}") from error
    output.print(f"written: {path}")
