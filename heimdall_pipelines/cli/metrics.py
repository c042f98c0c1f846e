"""`heimdall metrics`: the numbers of `heimdall status` for Prometheus, as a file or over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.signals import stop_on_signals
from heimdall_pipelines.errors import HeimdallError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LOOPBACK = "127.0.0.1"
_LAST_PORT = 65_535
_PORT_DIGITS = 5


class MetricsError(HeimdallError):
    """The metrics cannot be written or served."""


def metrics(
    textfile: Annotated[
        Path | None, typer.Option(help="Write the metrics once, for node_exporter's textfile collector: NAME.prom")
    ] = None,
    serve: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Serve the metrics until Ctrl-C; default host: loopback")
    ] = None,
) -> None:
    """Export the numbers of `heimdall status` to Prometheus: --textfile PATH or --serve [HOST:]PORT."""
    from prometheus_client import CollectorRegistry

    from heimdall_pipelines.cli.status import look_around
    from heimdall_pipelines.status.metrics import StatusCollector

    if (textfile is None) == (serve is None):
        raise typer.BadParameter("give either --textfile or --serve")
    registry = CollectorRegistry()
    registry.register(StatusCollector(look_around))
    if textfile is not None:
        _write(textfile, registry)
    elif serve is not None:
        _serve(*parse_address(serve), registry)


def parse_address(words: str) -> tuple[str, int]:
    """Read [HOST:]PORT.

    >>> parse_address("9464"), parse_address("0.0.0.0:9464"), parse_address("[::1]:9464")
    (('127.0.0.1', 9464), ('0.0.0.0', 9464), ('::1', 9464))
    """
    host, colon, port = words.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS and 1 <= int(port) <= _LAST_PORT
    if not is_port or (colon and not host):
        raise typer.BadParameter(f"{words!r}: [HOST:]PORT is expected, such as 9464 or 0.0.0.0:9464")
    return host.strip("[]") or LOOPBACK, int(port)


def _write(textfile: Path, registry: CollectorRegistry) -> None:
    from prometheus_client import write_to_textfile

    try:
        write_to_textfile(str(textfile), registry)  # writes another file and renames it: readers see a complete file
    except OSError as error:
        raise MetricsError(f"{textfile} could not be written: {error}") from error


def _serve(host: str, port: int, registry: CollectorRegistry) -> None:
    from prometheus_client import start_http_server

    stopping = stop_on_signals()
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise MetricsError(f"cannot listen on {host}:{port}: {error}; give another address with --serve") from error
    output.print(f"metrics: http://{host}:{port}/metrics (Ctrl-C to stop)")
    stopping.wait()
    server.shutdown()
    thread.join()
