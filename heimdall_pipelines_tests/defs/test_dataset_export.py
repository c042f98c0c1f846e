"""The asset of exported datasets: into a folder, or into the bucket with its checksums last."""

import dagster as dg
import pytest

from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import SYNTHETIC_DATASETS
from heimdall_pipelines.releases.releasing import release_dataset
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.store.objects import ObjectLocation, ObjectsUnavailableError
from heimdall_pipelines_tests.releases.support import NAME, healthy


@pytest.fixture
def instance(environment):
    with dg.DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions(SYNTHETIC_DATASETS, [NAME])
        yield made


def export(instance, **config):
    job = build_definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["synthetic", "dataset_export"])],
        partition_key=NAME,
        run_config={"ops": {"synthetic__dataset_export": {"config": config}}},
    )
    (materialization,) = result.asset_materializations_for_node("synthetic__dataset_export")
    return materialization.metadata


def test_an_export_into_a_folder_shows_tables_splits_and_root(instance, stores, tmp_path):
    healthy(stores, 12)
    release = release_dataset(stores, NAME)
    metadata = export(instance, folder=str(tmp_path / "export"), version=1, iq="1")
    assert metadata["root"].value == release.root.hex()
    assert metadata["samples"].value == 12
    assert "links" in str(metadata["tables"].value)
    assert "region" in str(metadata["splits"].value)
    assert metadata["place"].value == str(tmp_path / "export")
    assert verify_export(tmp_path / "export").passed


def test_an_export_into_the_bucket_is_complete_and_verified(instance, stores, tmp_path):
    healthy(stores, 12)
    release_dataset(stores, NAME)
    metadata = export(instance, version=1)
    bucket, prefix = stores.objects.synthetic_iq_bucket, f"exports/{NAME}@1/"
    assert metadata["place"].value == f"s3://{bucket}/{prefix}"
    for entry in stores.objects.entries(bucket, prefix):
        path = tmp_path / entry.key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stores.objects.read(ObjectLocation(bucket, entry.key), 0, entry.size_bytes))
    found = verify_export(tmp_path)
    assert (found.problems, found.num_files) == ([], 9)


def test_a_broken_upload_has_no_checksums(stores, tmp_path, monkeypatch):
    from heimdall_pipelines.releases.exporting import export_dataset
    from heimdall_pipelines.releases.uploading import upload_export

    healthy(stores, 5)
    report = export_dataset(stores, NAME, tmp_path / "export")
    address = upload_export(stores.objects, report, tmp_path / "export")
    bucket, prefix = address.removeprefix("s3://").split("/", 1)
    put = stores.objects.put

    def broken(location, *rest):
        if location.key.endswith("samples.parquet"):
            raise ObjectsUnavailableError("S3 was lost")
        return put(location, *rest)

    monkeypatch.setattr(stores.objects, "put", broken)
    with pytest.raises(ObjectsUnavailableError):
        upload_export(stores.objects, report, tmp_path / "export")
    assert prefix + "SHA256SUMS" not in {entry.key for entry in stores.objects.entries(bucket, prefix)}
