"""Arguments and options that several commands have; this module imports as little as their help needs."""

from pathlib import Path
from typing import Annotated

import typer

from heimdall_pipelines.datasets.limits import MAX_WORKERS

_SESSION = "The session's slug or id, see: heimdall session list"

Session = Annotated[str, typer.Argument(help=_SESSION)]
OptionalSession = Annotated[str | None, typer.Argument(help=_SESSION)]
DatasetName = Annotated[str, typer.Argument(help="The dataset's name, such as night")]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        min=1, max=MAX_WORKERS, help="Processes that generate samples; default: HEIMDALL_WORKERS, else one per core"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables")]
Limit = Annotated[int, typer.Option(help="Maximum number, newest first", min=1)]
DeleteAtOnce = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Output folder; created if it does not exist")]

# Of commands that compute time differences.
Trust = Annotated[
    list[str] | None,
    typer.Option(help="Station whose clock is right to 20 us although its file does not say so; may be repeated"),
]
Bandwidth = Annotated[str | None, typer.Option(help="Width of the channel, such as 500Hz; default: the session's")]
FromSecond = Annotated[float | None, typer.Option("--from", help="First second of the session to use", min=0)]
UntilSecond = Annotated[float | None, typer.Option("--until", help="Second of the session to end at", min=0)]
