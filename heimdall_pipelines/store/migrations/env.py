"""Alembic's entry: runs the migrations on the connection that ``store.migrate`` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    version_table="schema_version",
    version_table_schema="heimdall",
    transaction_per_migration=False,
)
context.run_migrations()
