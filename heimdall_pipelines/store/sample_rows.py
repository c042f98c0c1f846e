"""Rows of one synthetic sample as they are stored: its features and its IQ, as JSON with their digests."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from heimdall_pipelines.model.receiver_sites import sites_to_json
from heimdall_pipelines.rf.feature_registry import TIME_DIFFERENCES_SINCE
from heimdall_pipelines.store.digests import new_row_digest
from heimdall_pipelines.store.features import (
    FEATURE_ROW_COLUMNS,
    FeatureRow,
    bytea_json,
    feature_digest,
    with_digest,
)

if TYPE_CHECKING:
    from heimdall_pipelines.model.row_metadata import IqMetadata
    from heimdall_pipelines.model.truth import SampleTruth
    from heimdall_pipelines.rf.receiver_site import ReceiverSite

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
