"""Report of a dataset as one HTML file: what it is, pictures, errors of the estimates, rejections, batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from heimdall_pipelines.datasets.baseline_summary import HEADINGS
from heimdall_pipelines.datasets.summary import DatasetSummary, summarise_dataset
from heimdall_pipelines.report_page import Section, page, paragraph, picture, table
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.terrain.ground import terrain_if_there

if TYPE_CHECKING:
    from heimdall_pipelines.store.datasets import Dataset
    from heimdall_pipelines.store.stores import Stores

_MOST_BATCHES = 200


def dataset_report(stores: Stores, name: str) -> str:
    """Make the report of a dataset.

    Returns
    -------
    str
        One HTML file that loads nothing from elsewhere.

    Raises
    ------
    DatasetNotFoundError
        There is no such dataset.
    UnavailableError
        PostgreSQL or the S3 store could not be reached.
    """
    summary = summarise_dataset(stores.database, name)
    dataset = summary.dataset
    sections = [
        Section("Dataset", _facts(summary)),
        Section("Pictures", _pictures(stores, summary)),
        Section("Estimates against truth", _errors(summary)),
        Section("Baselines", _baselines(summary)),
        Section("Scenes", _scenes(summary)),
        Section("Receivers", _receivers(dataset)),
        Section("Parameters", table(("parameter", "value"), _parameters(dataset))),
        Section("Batches", _batches(stores, dataset)),
    ]
    lead = (
        f"{summary.counts.features} of {dataset.target_num_samples} samples, made on "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
    return page(dataset.name, lead, sections)


def _facts(summary: DatasetSummary) -> str:
    dataset, detection = summary.dataset, summary.detection
    return table(
        ("", ""),
        (
            ("id", str(dataset.id)),
            ("seed", str(dataset.seed)),
            ("samples requested", str(dataset.target_num_samples)),
            ("rows of features", str(summary.counts.features)),
            ("links", str(summary.links.snr_db.size)),
            (
                f"detected at {detection.min_snr_db:g} dB or more",
                f"{detection.present_above} of {detection.num_above} links",
            ),
            ("detected below", f"{detection.present_below} of {detection.num_below} links"),
            ("health", dataset.health_status),
            ("root digest", summary.content_sha256 or "none"),
        ),
    )


def _pictures(stores: Stores, summary: DatasetSummary) -> str:
    from heimdall_pipelines.datasets.summary_pictures import summary_pictures

    terrain = terrain_if_there(summary.dataset.terrain_tiles, stores.objects)
    drawn = summary_pictures(summary, terrain)
    if not drawn:
        return paragraph("The dataset has no samples yet.", "warn")
    return "".join(f"{paragraph(title)}{picture(title, png)}" for title, png in drawn.items())


def _errors(summary: DatasetSummary) -> str:
    parts = [
        table(
            ("feature", "unit", "estimates", "bias", "rms error", "greatest", "compared"),
            ((x.feature, x.unit, x.num, x.bias, x.rmse, x.worst, x.note) for x in summary.errors),
        )
    ]
    spread = summary.delay_spread
    if spread is not None:
        parts.append(
            paragraph(
                f"Delay spread: over {spread.num} links without a direct path the feature is {spread.median_ratio:.2f} "
                f"times the true rms spread (median); rank correlation {spread.rank_correlation:.2f}."
            )
        )
    return "".join(parts)


def _baselines(summary: DatasetSummary) -> str:
    if summary.baselines is None:
        return paragraph("The dataset has no samples yet.", "warn")
    return table(HEADINGS, summary.baselines.cells()) + paragraph(f"Located: {summary.baselines.note()}.", "note")


def _scenes(summary: DatasetSummary) -> str:
    rejections = sorted(summary.rejections.items(), key=lambda item: -item[1])
    return paragraph(f"{summary.attempts} scenes were drawn; {summary.acceptance:.1%} of them were accepted.") + table(
        ("rejected because", "scenes"), rejections
    )


def _receivers(dataset: Dataset) -> str:
    return table(
        ("receiver", "latitude", "longitude", "altitude, m"),
        ((x.rx_id, x.latitude, x.longitude, x.altitude_m) for x in dataset.receivers),
    )


def _parameters(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for name, value in dataset.spec.model_dump(mode="json").items():
        yield name, value if isinstance(value, str) else json.dumps(value)


def _batches(stores: Stores, dataset: Dataset) -> str:
    batches = list_batches(stores.database, dataset.id)
    shown = table(
        ("batch", "first sample", "samples", "scenes drawn", "stopped because"),
        (
            (x.batch_no, x.first_sample_idx, x.num_samples, x.attempts, x.stopped_reason)
            for x in batches[:_MOST_BATCHES]
        ),
    )
    more = len(batches) - _MOST_BATCHES
    return shown + (paragraph(f"and {more} more", "note") if more > 0 else "")
