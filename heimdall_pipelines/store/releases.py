"""Rows of dataset_releases, and reads of the samples that a release or an export has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg2.errors import UniqueViolation

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.store.columns import columns_of, insert_sql
from heimdall_pipelines.store.digest_rows import content_sql, microseconds_sql, root_sql
from heimdall_pipelines.store.sql import raised_for, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading

_ROWS_PER_FETCH = 500
_OF_FIRST = "f.dataset_id = :id AND f.sample_idx >= :first AND f.sample_idx < :end"


class ReleaseNotFoundError(HeimdallError):
    """The dataset has no release of this version."""


class ReleaseExistsError(HeimdallError):
    """The dataset has a release of this version, which never changes."""


class ReleasedError(HeimdallError):
    """The dataset has releases, which the operation would change or delete."""


@dataclass(frozen=True)
class Release:
    """A row of dataset_releases; ``group_hashes`` are 32 bytes each."""

    dataset_id: UUID
    version: int
    num_samples: int
    root: bytes
    group_hashes: bytes
    rows_root: bytes
    generator_version: int
    feature_version: int
    licence: str
    splits: dict[str, Any]
    baselines: dict[str, Any] | None
    forced_because: str | None
    released_at: datetime


_COLUMNS = columns_of(Release)
_GIVEN = [field.name for field in fields(Release) if field.name not in ("baselines", "released_at")]


def add_release(database: Database, release: Release) -> None:
    """Add a release; its time is that of the database.

    Raises
    ------
    ReleaseExistsError
        The version is taken.
    """
    taken = ReleaseExistsError(
        f"version {release.version} is released already, and a release never changes; choose another --version"
    )
    with raised_for(UniqueViolation, taken), database.transaction() as connection:
        connection.execute(
            text(insert_sql("dataset_releases", _GIVEN)), vars(release) | {"splits": json.dumps(release.splits)}
        )


def list_releases(database: Reading, dataset_id: UUID) -> list[Release]:
    """Releases of a dataset by version."""
    rows = database.read(
        f"SELECT {_COLUMNS} FROM heimdall.dataset_releases WHERE dataset_id = %(id)s ORDER BY version",
        {"id": dataset_id},
    )
    return [_release(row._asdict()) for row in rows]


def get_release(database: Database, dataset_id: UUID, name: str, version: int) -> Release:
    """A release of a dataset.

    Raises
    ------
    ReleaseNotFoundError
        The message has the versions that exist.
    """
    found = list_releases(database, dataset_id)
    for release in found:
        if release.version == version:
            return release
    known = ", ".join(f"{name}@{release.version}" for release in found)
    what = f"it has {known}" if known else f"it has none; to release it: heimdall dataset release {name}"
    raise ReleaseNotFoundError(f"dataset {name} has no release {version}: {what}")


def set_baselines(database: Database, dataset_id: UUID, version: int, baselines: Mapping[str, Any]) -> None:
    """Store the errors of the baselines with a release; its samples and splits do not change."""
    with database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE heimdall.dataset_releases SET baselines = CAST(:baselines AS jsonb)"
                " WHERE dataset_id = :id AND version = :version"
            ),
            {"id": dataset_id, "version": version, "baselines": json.dumps(baselines)},
        )


def require_no_releases(database: Database, dataset_id: UUID, name: str, what: str, otherwise: str) -> None:
    """Refuse an operation that would change released samples.

    Raises
    ------
    ReleasedError
        Names the releases; `what` says what would happen to them, `otherwise` what to do instead.
    """
    releases = list_releases(database, dataset_id)
    if releases:
        names = ", ".join(f"{name}@{release.version}" for release in releases)
        raise ReleasedError(f"{what} {names}, which never change: {otherwise}")


def rows_root_now(connection: Connection, dataset_id: UUID, num_samples: int) -> bytes:
    """SHA-256 over the digests of the first feature rows, as they are in the database now."""
    found = connection.execute(
        text(
            f"SELECT {root_sql(content_sql('f.digest'), 'f.sample_idx')} FROM heimdall.measurement_features f"
            f" WHERE {_OF_FIRST}"
        ),
        {"id": dataset_id, "first": 0, "end": num_samples},
    ).scalar_one()
    return bytes(found)


def feature_versions(connection: Connection, dataset_id: UUID, num_samples: int) -> dict[int, int]:
    """Rows of each feature version among the first samples."""
    rows = connection.execute(
        text(
            f"SELECT f.feature_version AS version, count(*) AS num FROM heimdall.measurement_features f"
            f" WHERE {_OF_FIRST} GROUP BY 1"
        ),
        {"id": dataset_id, "first": 0, "end": num_samples},
    )
    return {row.version: row.num for row in rows}


@dataclass(frozen=True)
class TextRow:
    """A feature row whose JSON is text, which Arrow reads many times faster than Python."""

    sample_idx: int
    start_time_unix_us: int
    feature_version: int
    tx_latitude: float | None
    tx_longitude: float | None
    tx_altitude_m: float | None
    tx_power_dbm: float | None
    num_receivers_in_sample: int
    num_receivers_detected: int
    overall_confidence: float | None
    mean_snr_db: float | None
    gdop: float | None
    extraction_failed: bool
    error_message: str | None
    receivers: str
    truth: str | None
    extraction: str
    rejections: str | None
    differences: str | None


def _text_columns(sample_idx: str) -> str:
    """SQL of a `TextRow`, with this as its number."""
    as_text = {
        "sample_idx": sample_idx,
        "start_time_unix_us": microseconds_sql("timestamp"),
        "receivers": "receiver_features::text",
        "truth": "truth::text",
        "extraction": "(extraction_metadata - 'rejections')::text",
        "rejections": "(extraction_metadata -> 'rejections')::text",
        "differences": "time_differences::text",
    }
    return columns_of(TextRow, renamed=as_text)


def rows_as_text(connection: Connection, dataset_id: UUID, first: int, end: int) -> Iterator[TextRow]:
    """Feature rows of the samples ``first <= sample_idx < end``, in order; streamed."""
    rows = connection.execute(
        text(
            f"SELECT {_text_columns('sample_idx')} FROM heimdall.measurement_features f"
            f" WHERE {_OF_FIRST} ORDER BY sample_idx"
        ),
        {"id": dataset_id, "first": first, "end": end},
        execution_options={"yield_per": _ROWS_PER_FETCH},
    )
    for row in rows:
        yield TextRow(*row)


def session_rows_as_text(connection: Connection, session_id: UUID, first_idx: int) -> Iterator[TextRow]:
    """Feature rows of a session by segment, whose ``sample_idx`` is counted from `first_idx`; streamed."""
    columns = _text_columns("segment_idx + CAST(:first AS integer)")
    rows = connection.execute(
        text(
            f"SELECT {columns} FROM heimdall.measurement_features WHERE recording_session_id = :id ORDER BY segment_idx"
        ),
        {"id": session_id, "first": first_idx},
        execution_options={"yield_per": _ROWS_PER_FETCH},
    )
    for row in rows:
        yield TextRow(*row)


@dataclass(frozen=True)
class StoredIqSums:
    """Checksums of a sample's stored IQ.

    Attributes
    ----------
    sample_idx : int
    num_samples : int
        Complex samples of each receiver.
    sha256, keys : dict of str to str
        Of the objects, by rx_id.
    sidecar_sha256 : dict of str to str
        By rx_id; empty in rows of older versions.
    """

    sample_idx: int
    num_samples: int
    sha256: dict[str, str]
    keys: dict[str, str]
    sidecar_sha256: dict[str, str]


def stored_iq_sums(connection: Connection, dataset_id: UUID, first: int, end: int) -> Iterator[StoredIqSums]:
    """Checksums of the samples ``first <= sample_idx < end`` whose IQ is stored; in order, streamed."""
    rows = connection.execute(
        text(
            "SELECT f.sample_idx, (f.iq_metadata ->> 'num_samples')::integer AS num, f.iq_metadata -> 'sha256' AS sums,"
            " f.iq_storage_paths AS keys, coalesce(f.iq_metadata -> 'sidecar_sha256', '{}') AS sidecar_sums"
            f" FROM heimdall.synthetic_iq_samples f WHERE {_OF_FIRST} ORDER BY f.sample_idx"
        ),
        {"id": dataset_id, "first": first, "end": end},
        execution_options={"yield_per": _ROWS_PER_FETCH},
    )
    for row in rows:
        yield StoredIqSums(row.sample_idx, row.num, row.sums, row.keys, row.sidecar_sums)


def _release(values: Mapping[str, Any]) -> Release:
    as_bytes = {name: bytes(values[name]) for name in ("root", "group_hashes", "rows_root")}
    return Release(**{**values, **as_bytes})
