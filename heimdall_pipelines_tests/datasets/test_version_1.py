"""A dataset that generator version 1 made: it can be read, validated and deleted, and no sample is made of it."""

import math

import pytest

from heimdall_pipelines.datasets.deleting import delete_dataset
from heimdall_pipelines.datasets.regenerating import regenerate_iq
from heimdall_pipelines.datasets.repair import plan_repair, repair_dataset
from heimdall_pipelines.datasets.requesting import expand_dataset
from heimdall_pipelines.datasets.samples import GeneratorVersionError
from heimdall_pipelines.datasets.summary import summarise_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.store.dataset_snapshot import open_snapshot
from heimdall_pipelines.store.datasets import find_dataset
from heimdall_pipelines_tests.datasets.support import add, execute, feature_rows, make, object_sizes
from heimdall_pipelines_tests.sealing import reseal

WITHOUT_NEW_FIELDS = (
    "SET truth = jsonb_set(truth, '{receivers}', (SELECT jsonb_agg(link - 'rice_k_db' ORDER BY n)"
    " FROM jsonb_array_elements(truth -> 'receivers') WITH ORDINALITY AS links (link, n)))"
)


@pytest.fixture
def old(stores, remembered):
    """Two samples as version 1 left them: its number at the dataset and its batch, truth without what it lacked."""
    return remembered(stores, "version 1", make_old)


def make_old(stores):
    dataset = add(stores, "old", 2)
    make(stores, "old")
    for table in ("measurement_features", "synthetic_iq_samples"):
        execute(stores, f"UPDATE heimdall.{table} {WITHOUT_NEW_FIELDS}")
    execute(stores, "UPDATE heimdall.synthetic_datasets SET generator_version = 1")
    execute(stores, "UPDATE heimdall.synthetic_batches SET generator_version = '1'")
    reseal(stores)
    return dataset


def damaged(stores, dataset):
    """Remove a row, so that a repair would have to make a sample."""
    execute(stores, "DELETE FROM heimdall.measurement_features WHERE sample_idx = 1")


def test_it_is_validated_without_making_a_sample(stores, old):
    validation = validate_dataset(stores, "old", checksums=True)
    assert [outcome for outcome in validation.outcomes if not outcome.passed] == []
    numbers = {name: value for outcome in validation.outcomes for name, value in outcome.numbers.items()}
    assert (numbers["samples_regenerated"], numbers["scenes_drawn_again"]) == (0, 0)


def test_a_validation_finds_what_is_missing_of_it(stores, old):
    damaged(stores, old)
    failed = {outcome.name for outcome in validate_dataset(stores, "old").outcomes if not outcome.passed}
    assert {"counts_agree", "samples_without_gap"} <= failed


def test_its_truth_lacks_what_version_1_did_not_store(stores, old):
    with open_snapshot(stores.database, "old") as snapshot:
        links = snapshot.sample(0).truth.receivers
    assert {link.rice_k_db for link in links} == {None}
    assert all(math.isfinite(link.delay_s) for link in links)


def test_its_summary_reads_it(stores, old):
    assert summarise_dataset(stores.database, "old").counts.features == 2


@pytest.mark.parametrize("act", ["regenerate", "expand", "make", "repair"])
def test_what_would_make_samples_names_versions_and_ways_out(stores, old, act):
    if act == "repair":
        damaged(stores, old)
        assert not plan_repair(stores, "old").is_possible
    before = feature_rows(stores, old), object_sizes(stores, old)
    with pytest.raises(GeneratorVersionError) as caught, Workers(1) as workers:
        {
            "regenerate": lambda: regenerate_iq(stores, "old", 0),
            "expand": lambda: expand_dataset(stores, "old", 5),
            "make": lambda: make(stores, "old"),
            "repair": lambda: repair_dataset(stores, "old", workers),
        }[act]()
    message = str(caught.value)
    for said in (
        "generator version 1",
        "this is version 2",
        "depended on the processor",
        "can be kept",
        "create a new dataset with the same parameters and seed",
    ):
        assert said in message
    assert (feature_rows(stores, old), object_sizes(stores, old)) == before


def test_it_is_deleted_with_all_its_objects(stores, old):
    delete_dataset(stores, "old")
    assert find_dataset(stores.database, "old") is None
    assert object_sizes(stores, old) == {}
