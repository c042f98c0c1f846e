"""Rows of synthetic samples, features and IQ: as JSON with their digests, and their replacement."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from heimdall_pipelines.model.receiver_sites import sites_to_json
from heimdall_pipelines.rf.feature_registry import TIME_DIFFERENCES_SINCE
from heimdall_pipelines.store.columns import listed, typed
from heimdall_pipelines.store.digests import new_row_digest
from heimdall_pipelines.store.features import (
    FEATURE_ROW_COLUMNS,
    FeatureRow,
    bytea_json,
    feature_digest,
    insert_feature_rows,
    json_arrays,
    with_digest,
)
from heimdall_pipelines.store.sql import text, time_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from heimdall_pipelines.model.row_metadata import IqMetadata
    from heimdall_pipelines.model.truth import SampleTruth
    from heimdall_pipelines.rf.receiver_site import ReceiverSite

OF_SAMPLES = "dataset_id = :id AND sample_idx = ANY(:idxs)"
_IQ_COLUMNS = {  # of synthetic_iq_samples; the dataset's id and timestamp are added when a row is inserted
    "sample_idx": "integer",
    "truth": "jsonb",
    "receivers_metadata": "jsonb",
    "iq_metadata": "jsonb",
    "iq_storage_paths": "jsonb",
    "digest": "bytea",
}
MEASURED = (  # columns of a feature row that its features decide
    "feature_version",
    "receiver_features",
    "time_differences",
    "overall_confidence",
    "mean_snr_db",
    "num_receivers_detected",
    "gdop",
)
MEASURED_OF_SAMPLE = {name: FEATURE_ROW_COLUMNS[name] for name in ("sample_idx", *MEASURED)}


@dataclass(frozen=True, kw_only=True)
class SampleFeatureRow(FeatureRow):
    """One synthetic transmission at its receivers, with its truth."""

    sample_idx: int
    truth: SampleTruth

    def of_version(self, feature_version: int) -> SampleFeatureRow:
        """The same row as an earlier version of the features would have made it."""
        receivers = tuple(receiver.of_version(feature_version) for receiver in self.receivers)
        pairs = self.time_differences if feature_version >= TIME_DIFFERENCES_SINCE else None
        return replace(self, receivers=receivers, time_differences=pairs, feature_version=feature_version)

    def without_bound(self) -> SampleFeatureRow:
        """The same row as versions made it that did not compute the bound of the position."""
        return replace(self, truth=self.truth.without_bound())

    def columns(self) -> dict[str, Any]:
        """Values for `insert_feature_rows`, without the row's id and dataset."""
        return super().columns() | {"truth": self.truth.to_json()}


@dataclass(frozen=True, kw_only=True)
class IqSampleRow:
    """Where the IQ of one sample is stored: a row of synthetic_iq_samples."""

    sample_idx: int
    start_time_unix_ns: int
    truth: SampleTruth
    receivers_metadata: tuple[ReceiverSite, ...]
    iq_metadata: IqMetadata
    iq_storage_paths: dict[str, str]


def feature_row_json(dataset_id: UUID, row: SampleFeatureRow) -> str:
    """A feature row with its digest, as `commit_batch` takes it; made in the worker, so that the commit is short."""
    return json.dumps(with_digest(_feature_values(dataset_id, row)), allow_nan=False)


def sample_digest(dataset_id: UUID, row: SampleFeatureRow) -> bytes:
    """Digest that a feature row has when it is committed."""
    return feature_digest(_feature_values(dataset_id, row))


def iq_row_json(dataset_id: UUID, row: IqSampleRow) -> str:
    """A row of synthetic_iq_samples with its digest, as `commit_batch` takes it."""
    values = _iq_values(row)
    return json.dumps(values | {"digest": bytea_json(iq_digest(dataset_id, row))}, allow_nan=False)


def iq_digest(dataset_id: UUID, row: IqSampleRow) -> bytes:
    """Digest that a row of synthetic_iq_samples has when it is committed."""
    values = _iq_values(row)
    return new_row_digest("synthetic_iq_samples", values | {"dataset_id": dataset_id, "timestamp": values["time_us"]})


def _feature_values(dataset_id: UUID, row: SampleFeatureRow) -> dict[str, Any]:
    # The id is the same however often the sample is made.
    row_id = uuid5(NAMESPACE_URL, f"heimdall:dataset:{dataset_id}:{row.sample_idx}")
    return row.columns() | {"id": str(row_id), "dataset_id": str(dataset_id)}


def _iq_values(row: IqSampleRow) -> dict[str, Any]:
    values = vars(row) | {
        "truth": row.truth.to_json(),
        "receivers_metadata": sites_to_json(row.receivers_metadata),
        "iq_metadata": row.iq_metadata.to_json(),
        "time_us": row.start_time_unix_ns // 1000,
    }
    del values["start_time_unix_ns"]
    return values


def features_json(row: SampleFeatureRow) -> str:
    """A row as `replace_features` takes it."""
    columns = row.columns()
    return json.dumps({name: columns[name] for name in MEASURED_OF_SAMPLE}, allow_nan=False)


def replace_sample_rows(
    connection: Connection, dataset_id: UUID, table: str, sample_idxs: Sequence[int], rows: Sequence[str]
) -> None:
    """Replace the rows of some samples in one table.

    Parameters
    ----------
    connection : Connection
    dataset_id : UUID
    table : {"measurement_features", "synthetic_iq_samples"}
    sample_idxs : sequence of int
        Samples whose rows are deleted.
    rows : sequence of str
        Of some or all of these samples, from `feature_row_json` or `iq_row_json`.
    """
    connection.execute(
        text(f"DELETE FROM heimdall.{table} WHERE {OF_SAMPLES}"), {"id": dataset_id, "idxs": list(sample_idxs)}
    )
    if table == "measurement_features":
        insert_feature_rows(connection, rows)
    else:
        _insert_iq_rows(connection, dataset_id, rows)


def _insert_iq_rows(connection: Connection, dataset_id: UUID, rows: Sequence[str]) -> None:
    for array in json_arrays(rows):
        connection.execute(
            text(
                f"INSERT INTO heimdall.synthetic_iq_samples (dataset_id, timestamp, {listed(_IQ_COLUMNS)})"
                f" SELECT :id, {time_sql('r.time_us')}, {listed(_IQ_COLUMNS, 'r')}"
                f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (time_us bigint, {typed(_IQ_COLUMNS)})"
            ),
            {"id": dataset_id, "rows": array},
        )
