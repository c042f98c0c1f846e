"""Releases of datasets that never change, their exports as files, and the verification of both."""

from importlib.util import find_spec

from heimdall_pipelines.errors import HeimdallError


class PyarrowMissingError(HeimdallError):
    """Releases and exports need pyarrow."""


def require_pyarrow() -> None:
    """Say what to install where pyarrow is missing."""
    if find_spec("pyarrow") is None:
        raise PyarrowMissingError("releases and exports need pyarrow: pip install 'heimdall-pipelines[learning]'")
