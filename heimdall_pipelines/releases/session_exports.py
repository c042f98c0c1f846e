"""Exports the features of recording sessions as a folder of files, as datasets are exported."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heimdall_pipelines.learning.description import ExportDescription
from heimdall_pipelines.releases.export_tables import write_rows, write_samples, write_table
from heimdall_pipelines.releases.exporting import ExportReport, finish, throttled
from heimdall_pipelines.releases.folder_writing import ExportError, new_folder
from heimdall_pipelines.releases.licences import DEFAULT_LICENCE, licence_of
from heimdall_pipelines.releases.splitting import definitions_of_sessions, describe_splits, split_codes
from heimdall_pipelines.releases.stored_rows import session_tables
from heimdall_pipelines.store.releases import TextRow, session_rows_as_text
from heimdall_pipelines.store.sessions import RecordingSession, get_session
from heimdall_pipelines.store.stores import Stores
from heimdall_pipelines.throttle import Progress


def export_sessions(
    stores: Stores,
    keys: Sequence[str],
    folder: Path,
    *,
    licence: str | None = None,
    progress: Progress = lambda _: None,
) -> ExportReport:
    """Write the features of sessions, split by day, into a folder that appears when it is complete.

    Parameters
    ----------
    stores : Stores
    keys : sequence of str
        Slugs or ids; their segments are the samples, in this order.
    folder : Path
        Must not exist, or be empty.
    licence : str, optional
        Identifier of `licences.LICENCES`, or a text file.
    progress : callable, optional
        Called with a line every few seconds.

    Raises
    ------
    SessionNotFoundError
    ExportError
        A session is given twice or has no features, their versions differ, or the folder cannot be written.
    """
    sessions = [get_session(stores.database, key) for key in keys]
    if len({session.id for session in sessions}) != len(sessions):
        raise ExportError("a session is given twice")
    definitions = definitions_of_sessions(seed=0)
    with new_folder(folder) as files, stores.database.snapshot() as connection:
        name = sessions[0].slug if len(sessions) == 1 else "sessions"
        report = throttled(progress, name, 0)
        written = write_rows(files, session_tables(_rows(connection, sessions)), definitions, report)
        if len(written.feature_versions) != 1:
            listed = ", ".join(map(str, sorted(written.feature_versions)))
            raise ExportError(
                f"the sessions have features of versions {listed}; to have one: heimdall session extract --stale"
            )
        codes = split_codes(definitions, written.places, None)
        write_samples(files, codes)
        num_iq = write_table(files, "iq", ())
        starts = [session.start_time for session in sessions if session.start_time is not None]
        description = ExportDescription(
            name=name,
            kind="sessions",
            version=None,
            num_samples=written.num_samples,
            date=f"{max(starts):%Y-%m-%d}" if starts else "1970-01-01",
            licence=licence_of(licence or DEFAULT_LICENCE),
            feature_version=next(iter(written.feature_versions)),
            iq="none",
            has_time_differences=True,
            sessions=tuple(session.slug for session in sessions),
        )
        description = replace(description, splits=describe_splits(definitions, written.places, codes))
        rows = written.num_rows(num_iq)
        finish(files, description, rows, [])
        return ExportReport(folder, description, rows, (), files.total_bytes)


def _rows(connection: Any, sessions: Sequence[RecordingSession]) -> Iterator[TextRow]:
    first = 0
    for session in sessions:
        num = 0
        for row in session_rows_as_text(connection, session.id, first):
            yield row
            num += 1
        if not num:
            raise ExportError(
                f"session {session.slug} has no features; to extract them: heimdall session extract {session.slug}"
            )
        first += num
