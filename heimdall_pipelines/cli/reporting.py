"""`heimdall session report` and `dataset report`: one HTML file each, linked from the UI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heimdall_pipelines.cli.arguments import DatasetName, Session
from heimdall_pipelines.cli.console import show_progress
from heimdall_pipelines.cli.environment import stores
from heimdall_pipelines.cli.files import write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder of the HTML file; created if it does not exist")]


def session_report(
    session: Session,
    out: Folder = Path(),
) -> None:
    """Write a session's report as one HTML file: waterfalls, map with the position, features over time, tables.

    The file loads nothing from the network. The UI links it from the asset recorded/positions.
    """
    from heimdall_pipelines.sessions.report import session_report as made_report
    from heimdall_pipelines.store.sessions import get_session

    with stores() as opened:
        slug = get_session(opened.database, session).slug
        _write(out / f"{slug}.html", made_report(opened, session, show_progress), ("recorded", "positions"), slug)


def dataset_report(
    name: DatasetName,
    out: Folder = Path(),
) -> None:
    """Write a dataset's report as one HTML file: pictures, errors of the estimates, parameters, batches.

    The file loads nothing from the network. The UI links it from the asset synthetic/dataset_summary.
    """
    from heimdall_pipelines.datasets.report import dataset_report as made_report

    with stores() as opened:
        _write(out / f"{name}.html", made_report(opened, name), ("synthetic", "dataset_summary"), name)


def _write(path: Path, content: str, asset: Sequence[str], partition: str) -> None:
    """Write the file, and note in Dagster where it is."""
    import dagster as dg  # takes a second to load

    from heimdall_pipelines.cli.dagster_instance import dagster_instance

    write_file(path, content.encode())
    observation = dg.AssetObservation(
        dg.AssetKey(list(asset)),
        partition=partition,
        metadata={"report": dg.MetadataValue.url(path.resolve().as_uri())},
        description="report written",
    )
    with dagster_instance() as instance:
        instance.report_runless_asset_event(observation)
