"""`heimdall db`: the schema."""

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.environment import prepare, servers
from heimdall_pipelines.settings import load_settings
from heimdall_pipelines.store.stores import open_stores

app = typer.Typer(help="The database's schema and the buckets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `migrate` a subcommand while it is the only one."""


@app.command("migrate")
def migrate_database() -> None:
    """Bring the schema to what this version needs and create the buckets; safe to run at any time."""
    with servers(), open_stores(load_settings()) as opened:
        before, after = prepare(opened)
    if before == after:
        output.print(f"the schema is at revision {after} already")
    else:
        output.print(f"schema migrated from {before or 'nothing'} to revision {after}")
