"""IQ of datasets in both forms: new objects are SigMF datasets, those of older versions stay `.npy` to the byte."""

import io
from datetime import timedelta

import numpy as np
import pytest
import sigmf

from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.regenerating import regenerate_iq, write_iq
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.requesting import expand_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines_tests.datasets.support import THREE, add, assert_agrees, execute, make, object_sizes, query
from heimdall_pipelines_tests.npy_objects import dataset_as_npy, read

RX = THREE[1].rx_id


@pytest.fixture
def old(stores, remembered):
    """Two batches of an older version, of three samples and one."""

    def make_old(stores):
        dataset = add(stores, "old", 4, batch_size=3)
        make(stores, "old", 0)
        make(stores, "old", 1)
        dataset_as_npy(stores, dataset.id)
        return dataset

    return remembered(stores, "old IQ forms", make_old)


def location(stores, dataset, key):
    return ObjectLocation(stores.objects.synthetic_iq_bucket, f"synthetic/{dataset.id}/{key}")


def contents(stores, dataset):
    """Every object of a dataset, and its IQ rows."""
    objects = {key: read(stores, location(stores, dataset, key)) for key in object_sizes(stores, dataset)}
    rows = query(
        stores,
        "SELECT sample_idx, truth, receivers_metadata, iq_metadata, iq_storage_paths, digest"
        " FROM heimdall.synthetic_iq_samples WHERE dataset_id = :id ORDER BY sample_idx",
        id=dataset.id,
    )
    return objects, rows


def problems(stores, name):
    validation = validate_dataset(stores, name, checksums=True, seed=1)
    return {outcome.name: outcome.examples for outcome in validation.outcomes if not outcome.passed}


def repaired(stores, name):
    with Workers(1) as workers:
        return repair_dataset(stores, name, workers, checksums=True, min_orphan_age=timedelta(0))


def test_a_new_object_is_opened_by_sigmf_and_by_numpy_alone(stores, tmp_path):
    dataset = add(stores, "new", 1)
    make(stores, "new")
    for ending in ("sigmf-data", "sigmf-meta"):
        (tmp_path / f"{RX}.{ending}").write_bytes(read(stores, location(stores, dataset, f"0/{RX}.{ending}")))
    samples = np.fromfile(tmp_path / f"{RX}.sigmf-data", "<c8")
    assert samples.size == dataset.spec.num_iq_samples
    for name in (f"{RX}.sigmf-meta", f"{RX}.sigmf-data"):
        recording = sigmf.fromfile(tmp_path / name)
        recording.validate()
        np.testing.assert_array_equal(recording.read_samples(), samples)
    assert recording.get_global_field("core:dataset") is None
    assert "core:header_bytes" not in recording.get_capture_info(0)
    assert problems(stores, "new") == {}


def test_a_dataset_of_npy_objects_is_healthy_and_regenerates_to_the_same_bytes(stores, old, tmp_path):
    assert problems(stores, "old") == {}
    assert_agrees(stores, "old", range(4))
    for one in regenerate_iq(stores, "old", 2):
        assert one.stored.identical
        data, meta = write_iq(tmp_path, one)
        assert data.name == f"{one.rx_id}.npy"
        assert data.read_bytes() == read(stores, one.stored.location)
        np.testing.assert_array_equal(np.load(data), sigmf.fromfile(meta).read_samples())


def lose(*keys):
    return lambda stores, dataset: stores.objects.remove_keys(
        stores.objects.synthetic_iq_bucket, [f"synthetic/{dataset.id}/{key}" for key in keys]
    )


def remove_all(stores, dataset):
    stores.objects.remove(stores.objects.synthetic_iq_bucket, f"synthetic/{dataset.id}/")


def change(key):
    def changed(stores, dataset):
        content = bytearray(read(stores, location(stores, dataset, key)))
        content[-9] ^= 1
        stores.objects.put(location(stores, dataset, key), io.BytesIO(content), len(content), "a/b")

    return changed


def on_iq_rows(statement, where="TRUE"):
    return lambda stores, _: execute(stores, f"{statement} WHERE {where}")


def in_turn(*faults):
    def inject(stores, dataset):
        for fault in faults:
            fault(stores, dataset)

    return inject


DELETE = "DELETE FROM heimdall.synthetic_iq_samples"
SAID_TO_BE_NEW = (
    "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = jsonb_set(iq_metadata, '{format}', '\"sigmf\"'),"
    " iq_storage_paths = replace(iq_storage_paths::text, '.npy', '.sigmf-data')::jsonb"
)


def damaged(title, damage, detected_by, name):
    return pytest.param(damage, detected_by, marks=pytest.mark.fault(title), id=name)


@pytest.mark.parametrize(
    ("damage", "detected_by"),
    [
        damaged("`.npy` object of an older version lost", lose(f"1/{RX}.npy"), "objects_agree", "object"),
        damaged("`.npy` object of an older version changed", change(f"1/{RX}.npy"), "objects_agree", "bytes"),
        damaged("description of a `.npy` object lost", lose(f"1/{RX}.sigmf-meta"), "objects_agree", "description"),
        damaged("IQ row of `.npy` objects deleted", on_iq_rows(DELETE, "sample_idx = 1"), "iq_of_every_sample", "row"),
        damaged(
            "all IQ rows and objects of a dataset of `.npy` objects deleted",
            in_turn(on_iq_rows(DELETE), remove_all),
            "iq_of_every_sample",
            "all",
        ),
        damaged(
            "IQ row of `.npy` objects edited to name objects of the new form",
            on_iq_rows(SAID_TO_BE_NEW, "sample_idx = 1"),
            "rows_as_committed",
            "edited-row",
        ),
    ],
)
def test_damage_to_npy_objects_is_found_and_repaired_to_the_same_bytes(stores, old, fault, damage, detected_by):
    before = contents(stores, old)
    damage(stores, old)
    found = problems(stores, "old")
    assert detected_by in found, found
    plan = plan_repair(stores, "old", checksums=True)
    assert (plan.num_orphans, plan.num_young_orphans) == (0, 0)
    assert repaired(stores, "old").refusals == ()
    assert contents(stores, old) == before
    assert problems(stores, "old") == {}
    fault.record(detected_by=f"`{detected_by}`", result="repaired to the same bytes, in the form that was committed")


def test_a_batch_stays_in_its_form_and_later_ones_are_new(stores, old):
    before = contents(stores, old)[0]
    expand_dataset(stores, "old", 4)
    make(stores, "old", 0)
    make(stores, "old", 1)
    make(stores, "old", 2)
    sizes = object_sizes(stores, old)
    assert {key: read(stores, location(stores, old, key)) for key in before} == before
    forms = {idx: {key.rsplit(".", 1)[1] for key in sizes if key.startswith(f"{idx}/")} for idx in range(8)}
    assert forms == {idx: {"npy" if idx < 6 else "sigmf-data", "sigmf-meta"} for idx in range(8)}
    assert_agrees(stores, "old", range(8))
    assert problems(stores, "old") == {}


def test_a_deletion_leaves_no_object_of_either_form(stores, old):
    expand_dataset(stores, "old", 4)
    make(stores, "old", 2)
    delete_dataset(stores, "old")
    assert object_sizes(stores, old) == {}
