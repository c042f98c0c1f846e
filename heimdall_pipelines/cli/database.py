"""`heimdall db`: the schema."""

from typing import Annotated

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.environment import prepare, servers, stores
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.leftovers import find_leftovers, remove_leftover
from heimdall_pipelines.store.stores import open_stores

app = typer.Typer(help="The database's schema and the buckets.", no_args_is_help=True)


@app.command("migrate")
def migrate_database() -> None:
    """Bring the schema to what this version needs and create the buckets; safe to run at any time."""
    with servers(), open_stores(load_settings()) as opened:
        before, after = prepare(opened)
    if before == after:
        output.print(f"the schema is at revision {after} already")
    else:
        output.print(f"schema migrated from {before or 'nothing'} to revision {after}")


@app.command("sweep")
def sweep(
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; without, only say what would be")] = False,
) -> None:
    """Find objects of datasets and sessions that are no more, such as a killed deletion leaves; young ones stay."""
    num_found = 0
    with stores() as opened:
        for leftover in find_leftovers(opened):
            num_found += 1
            size = f"{leftover.num_objects} objects, {leftover.num_bytes / 1e6:.1f} MB"
            what = f"{leftover.bucket}/{leftover.prefix}: {size}"
            if leftover.is_young:
                output.print(f"left alone, younger than an hour: {what}", soft_wrap=True)
            elif apply:
                remove_leftover(opened, leftover)
                output.print(f"removed: {what}", soft_wrap=True)
            else:
                output.print(f"of no dataset or session: {what}", soft_wrap=True)
    if not num_found:
        output.print("every object is of a dataset or a session that is there")
    elif not apply:
        output.print("Nothing was changed. To remove them: heimdall db sweep --apply")
