"""Reads of a dataset's samples: their numbers, their truth and their estimates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from heimdall_pipelines.model.time_differences import PairTimeDifference, read_time_differences
from heimdall_pipelines.store.features import ReceiverFeatures
from heimdall_pipelines.store.sql import text

if TYPE_CHECKING:
    from heimdall_pipelines.model.truth import SampleTruth
    from heimdall_pipelines.store.database import Database
    from heimdall_pipelines.store.reading import Reading


@dataclass(frozen=True)
class DatasetCounts:
    """Numbers of a dataset's rows and objects, counted row by row."""

    features: int
    iq_samples: int
    iq_objects: int


@dataclass(frozen=True)
class StoredSample:
    """Truth and estimates of one sample, for a summary."""

    sample_idx: int
    truth: SampleTruth
    receivers: tuple[ReceiverFeatures, ...]
    time_differences: tuple[PairTimeDifference, ...] | None
    gdop: float | None
    mean_snr_db: float | None


def count_rows(database: Reading, dataset_id: UUID) -> DatasetCounts:
    """Count feature rows, IQ rows and the objects that these name."""
    (row,) = database.read(
        "SELECT (SELECT count(*) FROM heimdall.measurement_features WHERE dataset_id = %(id)s) AS features,"
        " count(*) AS iq_samples,"
        " coalesce(sum((SELECT count(*) FROM jsonb_object_keys(iq_storage_paths))), 0)::bigint AS iq_objects"
        " FROM heimdall.synthetic_iq_samples WHERE dataset_id = %(id)s",
        {"id": dataset_id},
    )
    return DatasetCounts(**row._asdict())


def stream_samples(database: Database, dataset_id: UUID) -> Iterator[StoredSample]:
    """Truth and estimates of a dataset in the order of sample_idx, fetched in small groups.

    Raises
    ------
    MalformedTruthError
        Names the sample whose truth is missing or malformed.
    """
    with database.transaction() as connection:
        rows = connection.execution_options(yield_per=100).execute(
            text(
                "SELECT sample_idx, truth, receiver_features, time_differences, gdop, mean_snr_db"
                " FROM heimdall.measurement_features"
                " WHERE dataset_id = :id ORDER BY sample_idx"
            ),
            {"id": dataset_id},
        )
        for row in rows:
            yield StoredSample(
                sample_idx=row.sample_idx,
                truth=_truth(row),
                receivers=tuple(ReceiverFeatures.from_json(element) for element in row.receiver_features),
                time_differences=read_time_differences(row.time_differences),
                gdop=row.gdop,
                mean_snr_db=row.mean_snr_db,
            )


def _truth(row: Any) -> SampleTruth:
    from heimdall_pipelines.model.truth import MalformedTruthError, SampleTruth  # loads numpy

    try:
        return SampleTruth.from_json(row.truth)
    except MalformedTruthError as error:
        raise MalformedTruthError(f"sample {row.sample_idx}: {error}; see: heimdall dataset validate") from error


def get_truths(database: Reading, dataset_id: UUID, first: int, end: int) -> dict[int, SampleTruth]:
    """Truths of the feature rows with ``first <= sample_idx < end``, by sample; missing and malformed ones left out."""
    from heimdall_pipelines.model.truth import readable_truth  # loads numpy

    rows = database.read(
        "SELECT sample_idx, truth FROM heimdall.measurement_features WHERE dataset_id = %(id)s"
        " AND sample_idx >= %(first)s AND sample_idx < %(end)s AND truth IS NOT NULL",
        {"id": dataset_id, "first": first, "end": end},
    )
    truths = {row.sample_idx: readable_truth(row.truth) for row in rows}
    return {sample_idx: truth for sample_idx, truth in truths.items() if truth is not None}
