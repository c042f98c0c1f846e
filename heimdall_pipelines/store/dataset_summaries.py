"""From which content of a dataset its last summary was computed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading


@dataclass(frozen=True)
class SummarisedContent:
    """The content that a dataset's last summary was computed from.

    Attributes
    ----------
    num_samples : int
    content_sha256 : str
        Root digest of the dataset then.
    summarised_at : datetime
    is_current : bool
        Whether the dataset has this root now.
    """

    num_samples: int
    content_sha256: str
    summarised_at: datetime
    is_current: bool


def content_sha256(database: Reading, dataset_id: UUID) -> str | None:
    """Root digest of a dataset, which changes with any of its samples; None if it has none."""
    found = database.read(
        "SELECT encode(root, 'hex') AS root FROM heimdall.synthetic_datasets WHERE id = %(id)s", {"id": dataset_id}
    )
    return found[0].root if found else None


def record_summary(database: Database, dataset_id: UUID, *, num_samples: int, content_sha256: str | None) -> None:
    """Record that a dataset was summarised; nothing if it has no root, or was deleted meanwhile."""
    if content_sha256 is None:
        return
    with database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO heimdall.dataset_summaries (dataset_id, num_samples, content_sha256)"
                " SELECT id, :num_samples, :content FROM heimdall.synthetic_datasets WHERE id = :id"
                " ON CONFLICT (dataset_id) DO UPDATE SET num_samples = excluded.num_samples,"
                " content_sha256 = excluded.content_sha256, summarised_at = now()"
            ),
            {"id": dataset_id, "num_samples": num_samples, "content": content_sha256},
        )


def summarised_content(connection: Connection, dataset_id: UUID) -> SummarisedContent | None:
    """Content of a dataset's last summary, None if it was never summarised; within a snapshot."""
    row = connection.execute(
        text(
            "SELECT s.num_samples, s.content_sha256, s.summarised_at,"
            " encode(d.root, 'hex') IS NOT DISTINCT FROM s.content_sha256 AS is_current"
            " FROM heimdall.dataset_summaries s JOIN heimdall.synthetic_datasets d ON d.id = s.dataset_id"
            " WHERE s.dataset_id = :id"
        ),
        {"id": dataset_id},
    ).first()
    return None if row is None else SummarisedContent(**row._mapping)


def outdated_summaries(database: Reading) -> dict[UUID, tuple[int, str]]:
    """Datasets whose content has changed since their summary: samples summarised, and the present root."""
    rows = database.read(
        "SELECT d.id, s.num_samples, encode(d.root, 'hex') AS root"
        " FROM heimdall.dataset_summaries s JOIN heimdall.synthetic_datasets d ON d.id = s.dataset_id"
        " WHERE d.root IS NOT NULL AND encode(d.root, 'hex') <> s.content_sha256"
    )
    return {row.id: (row.num_samples, row.root) for row in rows}
