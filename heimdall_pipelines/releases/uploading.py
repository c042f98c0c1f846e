"""Uploads an export to the S3 store; its checksums last, so that half of one never looks complete."""

from collections.abc import Callable
from pathlib import Path

from heimdall_pipelines.learning.description import SUMS_FILE
from heimdall_pipelines.releases.exporting import ExportReport
from heimdall_pipelines.store.iq_objects import IQ_CONTENT_TYPE
from heimdall_pipelines.store.objects import ObjectLocation, ObjectStore

EXPORTS_PREFIX = "exports/"


def upload_export(
    objects: ObjectStore, report: ExportReport, folder: Path, log: Callable[[str], object] = lambda _: None
) -> str:
    """Store the files of an export in the bucket of synthetic IQ.

    Parameters
    ----------
    objects : ObjectStore
    report : ExportReport
    folder : Path
        Where its files are.
    log : callable, optional
        Called with a line at the end.

    Returns
    -------
    str
        Address that the keys begin with: ``s3://bucket/exports/NAME@VERSION/`` or, without a release,
        ``s3://bucket/exports/NAME-ROOT/``. Files of an earlier export under it are replaced.

    Raises
    ------
    ObjectsUnavailableError
        The store could not be reached; the export then has no checksums.
    """
    description = report.description
    label = description.label if description.version is not None else f"{description.name}-{str(description.root)[:12]}"
    prefix = f"{EXPORTS_PREFIX}{label}/"
    bucket = objects.synthetic_iq_bucket
    objects.remove_keys(bucket, [prefix + SUMS_FILE])
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for name in [*(name for name in names if name != SUMS_FILE), SUMS_FILE]:
        path = folder / name
        with path.open("rb") as file:
            objects.put(ObjectLocation(bucket, prefix + name), file, path.stat().st_size, IQ_CONTENT_TYPE)
    log(f"{len(names)} files stored under {bucket}/{prefix}")
    return f"s3://{bucket}/{prefix}"
