"""The asset of exported datasets: a folder, or the objects of a bucket."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from heimdall_pipelines.defs.asset_metadata import OWNERS
from heimdall_pipelines.defs.metadata import table_metadata
from heimdall_pipelines.defs.outages import RUN_AGAIN_WHOLE, retried_after_outage
from heimdall_pipelines.defs.partitions import synthetic_datasets
from heimdall_pipelines.defs.synthetic import MEASUREMENT_FEATURES
from heimdall_pipelines.releases import require_pyarrow
from heimdall_pipelines.releases.baseline_tables import baseline_table
from heimdall_pipelines.store.stores import Stores

if TYPE_CHECKING:
    from heimdall_pipelines.releases.exporting import ExportReport


class DatasetExportConfig(dg.Config):
    """What is exported, and to where."""

    folder: str | None = Field(
        default=None,
        description="Folder on the machine that executes the run; must not exist, or be empty. Default: the bucket of "
        "synthetic IQ, under exports/",
    )
    version: int | None = Field(default=None, description="Release; default: the dataset as it stands")
    iq: str = Field(default="none", description="IQ: none, stored, all, or a number of samples")
    licence: str | None = Field(default=None, description="Licence of a dataset without release, such as CC-BY-4.0")
    force: bool = Field(default=False, description="Export also a dataset that is not healthy; the card says so")


@dg.asset(
    key=["synthetic", "dataset_export"],
    group_name="synthetic",
    owners=OWNERS,
    kinds={"parquet"},
    partitions_def=synthetic_datasets,
    deps=[dg.AssetDep(MEASUREMENT_FEATURES, partition_mapping=dg.AllPartitionMapping())],
)
def synthetic_dataset_export(
    context: dg.AssetExecutionContext, config: DatasetExportConfig, stores: dg.ResourceParam[Stores]
) -> dg.MaterializeResult[None]:
    """A dataset, or a release of it, as Parquet files with card, Croissant metadata and checksums."""
    require_pyarrow()
    from heimdall_pipelines.releases.exporting import export_dataset
    from heimdall_pipelines.releases.uploading import upload_export

    name = context.partition_key if config.version is None else f"{context.partition_key}@{config.version}"

    def export(folder: Path) -> "ExportReport":
        return export_dataset(
            stores,
            name,
            folder,
            iq=config.iq,
            licence=config.licence,
            force=config.force,
            progress=context.log.info,
        )

    with retried_after_outage(context.op_execution_context):
        if config.folder is not None:
            report = export(Path(config.folder))
            place: dg.MetadataValue = dg.MetadataValue.path(str(Path(config.folder).absolute()))
        else:
            with tempfile.TemporaryDirectory(prefix="heimdall-export-") as parent:
                report = export(Path(parent) / "export")
                address = upload_export(stores.objects, report, Path(parent) / "export", context.log.info)
            place = dg.MetadataValue.url(address)
    return dg.MaterializeResult(metadata=_metadata(report) | {"place": place})


export_synthetic_dataset = dg.define_asset_job(
    "export_synthetic_dataset",
    selection=dg.AssetSelection.assets(synthetic_dataset_export),
    description="Exports one synthetic dataset.",
    tags=RUN_AGAIN_WHOLE,
)


def _metadata(report: "ExportReport") -> dict[str, dg.MetadataValue]:
    description = report.description
    splits = [
        (kind, *(str(split.leaks.get("sizes", {}).get(part, 0)) for part in ("train", "validation", "test", "none")))
        for kind, split in description.splits.items()
    ]
    metadata: dict[str, dg.MetadataValue] = {
        "export": dg.MetadataValue.text(description.label),
        "root": dg.MetadataValue.text(str(description.root)),
        "samples": dg.MetadataValue.int(description.num_samples),
        "size_bytes": dg.MetadataValue.int(report.size_bytes),
        "tables": table_metadata(("table", "rows"), [(table, str(num)) for table, num in report.rows.items()]),
        "splits": table_metadata(("split", "train", "validation", "test", "none"), splits),
    }
    if description.baselines is not None:
        metadata["baselines"] = dg.MetadataValue.md(baseline_table(description.baselines))
    return metadata
