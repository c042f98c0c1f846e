"""Alembic's environment and the schema's history; run by ``store.migrate``, never by hand."""
