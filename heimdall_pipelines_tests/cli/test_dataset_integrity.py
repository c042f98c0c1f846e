"""`heimdall dataset validate`, `repair` and `heimdall db sweep` as people type them."""

import io
import json
import re
from datetime import timedelta
from functools import partial

import dagster as dg
import pytest

from heimdall_pipelines.cli import dataset_integrity
from heimdall_pipelines.datasets import repair
from heimdall_pipelines.datasets.findings import DATASET_CHECKS
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.store import orphans
from heimdall_pipelines.store.dataset_locks import shared_lock
from heimdall_pipelines.store.datasets import get_dataset, mark_dataset_deleted
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.orphans import find_orphans
from heimdall_pipelines_tests.datasets.support import add, assert_agrees, execute, make, object_sizes, query
from heimdall_pipelines_tests.defs.support import BATCH_CHECKS, failed, last_words_of_batch, last_words_of_dataset
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options

ALL_PASS = dict.fromkeys(DATASET_CHECKS, "SUCCEEDED")
VALIDATE, REPAIR = ("dataset", "validate"), ("dataset", "repair")


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch):
    monkeypatch.setenv("HEIMDALL_WORKERS", "1")


@pytest.fixture
def night(stores):
    """A dataset of two batches of two samples."""
    dataset = add(stores, "night", 4, batch_size=2)
    for batch_no in (0, 1):
        make(stores, "night", batch_no)
    return dataset


def remove_object(stores, dataset, key):
    stores.objects.remove_keys(stores.objects.synthetic_iq_bucket, [f"synthetic/{dataset.id}/{key}"])


def put(stores, bucket, key):
    stores.objects.put(ObjectLocation(bucket, key), io.BytesIO(b"x"), 1, "application/octet-stream")


def delete_feature_row(stores, sample_idx):
    execute(stores, "DELETE FROM heimdall.measurement_features WHERE sample_idx = :idx", idx=sample_idx)


def health(stores, name="night"):
    dataset = get_dataset(stores.database, name)
    return dataset.health_status, dataset.last_validated_at is not None


def last_words(name="night", batch_no=0):
    """Dagster's, of the dataset and of a batch."""
    with dg.DagsterInstance.get() as instance:
        return last_words_of_dataset(instance, name), last_words_of_batch(instance, name, batch_no)


def bytes_stored(stores, dataset):
    """Bytes of a dataset's objects and rows, counted one by one; PostgreSQL gives some rows 3 bytes more or less."""
    in_rows = num_rows = 0
    for table in ("measurement_features", "synthetic_iq_samples", "synthetic_batches", "synthetic_datasets"):
        column = "id" if table == "synthetic_datasets" else "dataset_id"
        statement = f"SELECT pg_column_size(t.*) AS size FROM heimdall.{table} t WHERE {column} = :id"
        sizes = [row["size"] for row in query(stores, statement, id=dataset.id)]
        in_rows, num_rows = in_rows + sum(sizes), num_rows + len(sizes)
    assert in_rows > 500 * num_rows
    return pytest.approx(sum(object_sizes(stores, dataset).values()) + in_rows, abs=3 * num_rows)


# validate


@pytest.mark.slow
def test_a_healthy_dataset_ends_with_0_and_dagster_and_the_tables_agree(heimdall, stores, night):
    assert "never validated: heimdall dataset validate night" in heimdall("dataset", "show", "night")[1]
    num_bytes = bytes_stored(stores, night)
    code, out, _ = heimdall(*VALIDATE, "night")
    assert (code, out.count(" passed ")) == (0, len(DATASET_CHECKS))
    assert "dataset night: healthy, 0 of 4 samples affected" in out
    assert "objects_expected 12, sidecars 12, objects 12, checksums_compared 0, objects_without_row 0" in out
    assert health(stores) == ("healthy", True)
    assert last_words() == (ALL_PASS, {}), "batches without a problem are not looked at again"
    size_bytes = get_dataset(stores.database, "night").storage_size_bytes
    assert size_bytes == num_bytes
    assert re.search(r"night +feature_based +4 +4 +none +healthy ", heimdall("dataset", "list")[1])
    shown = heimdall("dataset", "show", "night")[1]
    assert re.search(r"healthy at the last validation, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", shown)
    assert f"{size_bytes / 1e6:.1f} MB of rows and objects" in shown


@pytest.mark.slow
def test_checksums_are_compared_where_it_is_asked_for(heimdall, stores, night):
    code, out, _ = heimdall(*VALIDATE, "night", "--checksums")
    assert (code, "checksums_compared 12" in out) == (0, True)
    size_bytes = object_sizes(stores, night)["1/milano-baggio.sigmf-data"]
    location = ObjectLocation(stores.objects.synthetic_iq_bucket, f"synthetic/{night.id}/1/milano-baggio.sigmf-data")
    stores.objects.put(location, io.BytesIO(bytes(size_bytes)), size_bytes, "application/octet-stream")
    code, out, _ = heimdall(*VALIDATE, "night", "--checksums")
    assert code == 1
    assert f"  - sample 1: {location.key} was changed since it was stored: its SHA-256 differs" in out


@pytest.mark.slow
def test_issues_exit_with_1_and_show_numbers_examples_and_repair(heimdall, stores, night):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    delete_feature_row(stores, 3)
    code, out, _ = heimdall(*VALIDATE, "night")
    assert code == 1
    assert re.search(r"objects_agree +failed \(ERROR\), 1 problem +objects_expected 12, sidecars 12, objects 11,", out)
    assert f"  - sample 0: synthetic/{night.id}/0/milano-baggio.sigmf-data is missing" in out
    assert "  - sample 3: its feature row is missing" in out
    assert "  to repair: heimdall dataset repair night --apply" in out
    assert health(stores) == ("critical", True)
    of_dataset, of_first = last_words(batch_no=0)
    assert failed(of_dataset) >= {"objects_agree", "samples_without_gap", "counts_agree"}
    assert failed(of_first) == {"objects_agree"}
    assert "samples_without_gap" in failed(last_words(batch_no=1)[1])
    assert re.search(r"night +feature_based .* critical ", heimdall("dataset", "list")[1])


@pytest.mark.slow
def test_of_very_many_problems_twenty_are_printed(heimdall, stores, night):
    for key in object_sizes(stores, night):
        remove_object(stores, night, key)
    _, out, _ = heimdall(*VALIDATE, "night")
    assert out.count("is missing\n") == 20
    assert "  and 4 more" in out


@pytest.mark.slow
def test_a_dataset_may_be_validated_again_and_the_last_result_is_dagsters(heimdall, stores, night):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    for _ in range(2):
        assert heimdall(*VALIDATE, "night")[0] == 1
    assert [failed(words) >= {"objects_agree"} for words in last_words()] == [True, True]
    make(stores, "night", 0)  # regenerated as a whole, the same bytes
    assert heimdall(*VALIDATE, "--all")[0] == 0
    assert last_words() == (ALL_PASS, dict.fromkeys(BATCH_CHECKS, "SUCCEEDED"))


@pytest.mark.slow
def test_json_is_one_document_on_standard_output(heimdall, stores, night):
    add(stores, "empty", 2)
    document = json.loads(heimdall(*VALIDATE, "night", "--json")[1])
    assert (document["dataset"], document["health_status"], document["samples"]) == ("night", "healthy", 4)
    assert document["storage_size_bytes"] == get_dataset(stores.database, "night").storage_size_bytes
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    code, out, _ = heimdall(*VALIDATE, "--all", "--json")
    assert code == 1
    night_now, empty = json.loads(out)
    assert (empty["dataset"], empty["health_status"]) == ("empty", "healthy")
    (wrong,) = [check for check in night_now["checks"] if check["check"] == "objects_agree"]
    assert (wrong["passed"], wrong["severity"], wrong["num_problems"]) == (False, "ERROR", 1)
    assert wrong["repair"] == "heimdall dataset repair night --apply"


@pytest.mark.parametrize("arguments", [("absent",), ("absent", "--json"), ("../", "--checksums")])
def test_an_impossible_validation_exits_with_2_and_a_message(heimdall, arguments):
    code, out, err = heimdall(*VALIDATE, *arguments)
    assert (code, out) == (2, "")
    assert err == f"Error: unknown dataset {arguments[0]}; see: heimdall dataset list\n"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["PostgreSQL", "S3 store"])
@pytest.mark.parametrize("options", [("night",), ("--all", "--json")])
def test_an_outage_in_the_middle_is_no_result_and_ends_with_2(
    heimdall, stores, night, link, monkeypatch, server, options
):
    look = dataset_integrity.validate_dataset
    with link(server) as way:

        def cut_and_look(*arguments, **more):
            way.cut()
            return look(*arguments, **more)

        monkeypatch.setattr(dataset_integrity, "validate_dataset", cut_and_look)
        code, out, err = heimdall(*VALIDATE, *options)
        assert (code, out) == (2, "")
        assert f"Error: {server} at " in err
        code, out, err = heimdall(*VALIDATE, *options)  # from its beginning on
        assert (code, out) == (2, "")
        assert err.startswith(f"Error: {server} at ")
    assert health(stores) == ("unknown", False)
    assert last_words() == ({}, {})


@pytest.mark.slow
def test_all_are_validated_but_those_being_deleted(heimdall, stores, night):
    mark_dataset_deleted(stores.database, add(stores, "to_delete", 1))
    code, out, _ = heimdall(*VALIDATE, "--all")
    assert code == 0
    assert re.findall(r"^dataset (\S+):", out, re.MULTILINE) == ["night"]
    assert "passed" not in out, "one line of each that is healthy"
    code, out, err = heimdall(*VALIDATE, "to_delete")
    assert (code, out) == (2, "")
    assert "is being deleted since" in err
    assert "finish it with: heimdall dataset delete to_delete" in err


@pytest.mark.slow
def test_an_impossible_validation_does_not_stop_the_others(heimdall, stores, night):
    add(stores, "newer", 1)
    execute(
        stores, "UPDATE heimdall.synthetic_datasets SET spec = spec || '{\"colour\": \"red\"}' WHERE name = 'newer'"
    )
    reseal(stores)  # as if another version had created it
    add(stores, "empty", 1)
    code, out, err = heimdall(*VALIDATE, "--all")
    assert (code, re.findall(r"^dataset (\S+): healthy", out, re.MULTILINE)) == (2, ["night", "empty"])
    assert "Error: dataset newer: this version cannot read its parameters; they were edited" in err
    assert "  colour: there is no such parameter" in err
    documents = {document["dataset"]: document for document in json.loads(heimdall(*VALIDATE, "--all", "--json")[1])}
    assert {name for name, document in documents.items() if "error" in document} == {"newer"}
    assert health(stores, "newer") == ("unknown", False)


def test_validating_neither_one_nor_all_is_a_wrong_command(heimdall):
    assert heimdall(*VALIDATE)[0] == 2
    code, _, err = heimdall(*VALIDATE, "night", "--all")
    assert (code, "either a dataset's name or --all is expected" in err) == (2, True)


def test_without_datasets_all_are_validated(heimdall):
    assert heimdall(*VALIDATE, "--all")[:2] == (0, "no dataset to validate\n")
    assert json.loads(heimdall(*VALIDATE, "--all", "--json")[1]) == []


# make


@pytest.mark.slow
def test_dataset_make_checks_each_batch_and_records_it_in_dagster(heimdall, stores, monkeypatch):
    add(stores, "night", 4, batch_size=2)
    code, out, err = heimdall("dataset", "make", "night")
    assert (code, "generated: 4 samples in 2 batches" in out) == (0, True)
    assert "ERROR" not in err
    for batch_no in (0, 1):
        assert last_words(batch_no=batch_no)[1] == dict.fromkeys(BATCH_CHECKS, "SUCCEEDED")


@pytest.mark.slow
def test_what_a_batch_that_was_made_lacks_is_said_at_once(heimdall, stores, monkeypatch):
    dataset = add(stores, "night", 2)
    from heimdall_pipelines.cli import dataset_making

    look = dataset_making.evaluations_of_batch

    def lose_an_object_first(*arguments):
        remove_object(stores, dataset, "1/milano-baggio.sigmf-data")
        return look(*arguments)

    monkeypatch.setattr(dataset_making, "evaluations_of_batch", lose_an_object_first)
    _, _, err = heimdall("dataset", "make", "night")
    key = f"synthetic/{dataset.id}/1/milano-baggio.sigmf-data"
    assert f"ERROR night__00000, objects_agree: sample 1: {key} is missing" in err
    assert failed(last_words()[1]) == {"objects_agree"}


# repair


def test_a_repair_without_apply_prints_its_plan_only(heimdall, stores, night):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    delete_feature_row(stores, 3)
    rows = query(stores, "SELECT id, created_at FROM heimdall.measurement_features ORDER BY sample_idx")
    sizes = object_sizes(stores, night)
    code, out, _ = heimdall(*REPAIR, "night")
    assert code == 0
    assert "night: a repair would\n  regenerate: 2 samples (0, 3), rows and objects\n" in out
    assert out.endswith("Nothing was changed. To execute: heimdall dataset repair night --apply\n")
    plan = json.loads(heimdall(*REPAIR, "night", "--json")[1])
    assert (plan["dataset"], plan["nothing_to_do"], plan["to_regenerate"]) == ("night", False, [0, 3])
    assert query(stores, "SELECT id, created_at FROM heimdall.measurement_features ORDER BY sample_idx") == rows
    assert object_sizes(stores, night) == sizes
    assert health(stores) == ("unknown", False)


@pytest.mark.slow
def test_a_repair_exits_with_0_and_records_that_all_checks_pass(heimdall, stores, night):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    delete_feature_row(stores, 3)
    heimdall(*VALIDATE, "night")
    code, out, _ = heimdall(*REPAIR, "night", "--apply")
    assert code == 0
    assert "night: repaired\n  regenerated: 2 samples (0, 3), rows and objects\n" in out
    assert "dataset night: healthy, 0 of 4 samples affected" in out
    assert_agrees(stores, "night", range(4))
    assert health(stores) == ("healthy", True)
    for batch_no in (0, 1):
        assert last_words(batch_no=batch_no) == (ALL_PASS, dict.fromkeys(BATCH_CHECKS, "SUCCEEDED"))
    code, out, _ = heimdall(*REPAIR, "night", "--apply")
    assert (code, out.startswith("nothing to repair in night\n")) == (0, True)
    assert heimdall(*REPAIR, "night")[:2] == (0, "nothing to repair in night\n")


@pytest.mark.slow
def test_a_repair_prints_one_json_document(heimdall, stores, night):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    code, out, _ = heimdall(*REPAIR, "night", "--apply", "--json")
    document = json.loads(out)
    assert (code, document["repaired"]["to_regenerate"], document["validation"]["health_status"]) == (0, [0], "healthy")


@pytest.mark.slow
def test_young_orphans_are_kept(heimdall, stores, night, monkeypatch):
    put(stores, stores.objects.synthetic_iq_bucket, f"synthetic/{night.id}/1/stranger.sigmf-data")
    is_kept = "not removed: 1 objects without row that are younger than an hour"
    code, out, _ = heimdall(*REPAIR, "night", "--apply")
    assert (code, is_kept in out) == (1, True), "it is not well yet"
    monkeypatch.setattr(repair, "MIN_ORPHAN_AGE", timedelta(0))
    assert "  remove: 1 objects without row, 0.0 MB" in heimdall(*REPAIR, "night")[1]


def test_a_repair_refuses_while_a_batch_is_being_made(heimdall, stores, night):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    sizes = object_sizes(stores, night)
    with shared_lock(stores.database, night.id):
        code, out, err = heimdall(*REPAIR, "night", "--apply")
        assert heimdall(*REPAIR, "night")[0] == 0, "looking is allowed"
    assert (code, out) == (1, "")
    assert "Error: dataset night is being written: a batch of it is being made" in err
    assert "Nothing was changed; try again when it has ended" in err
    assert object_sizes(stores, night) == sizes


@pytest.mark.parametrize("options", [(), ("--apply",), ("--apply", "--json")])
def test_what_is_unknown_or_being_deleted_is_not_repaired(heimdall, stores, options):
    assert heimdall(*REPAIR, "absent", *options) == (
        1,
        "",
        "Error: unknown dataset absent; see: heimdall dataset list\n",
    )
    mark_dataset_deleted(stores.database, add(stores, "to_delete", 1))
    code, out, err = heimdall(*REPAIR, "to_delete", *options)
    assert (code, out, "heimdall dataset delete to_delete" in err) == (1, "", True)


def test_an_outage_during_a_repair_ends_with_1_and_names_the_server(heimdall, stores, night, link, monkeypatch):
    remove_object(stores, night, "0/milano-baggio.sigmf-data")
    look = repair.check_dataset
    with link("S3 store") as way:

        def cut_and_look(*arguments, **more):
            way.cut()
            return look(*arguments, **more)

        monkeypatch.setattr(repair, "check_dataset", cut_and_look)
        code, out, err = heimdall(*REPAIR, "night", "--apply")
    assert (code, out) == (1, "")
    assert "Error: S3 store at " in err


# repair --features


@pytest.mark.slow
def test_older_features_are_counted_then_regenerated_and_recorded(heimdall, stores, night):
    present = query(stores, "SELECT receiver_features FROM heimdall.measurement_features ORDER BY sample_idx")
    sizes = object_sizes(stores, night)
    make_older(stores)
    code, out, _ = heimdall(*REPAIR, "night", "--features")
    assert code == 0
    assert f"night: 4 rows of version 1 would be brought to version {FEATURE_VERSION}, each after a comparison" in out
    assert "Nothing was changed. To execute: heimdall dataset repair night --features --apply" in out
    assert query(stores, "SELECT feature_version AS v FROM heimdall.measurement_features") == [{"v": 1}] * 4

    code, out, _ = heimdall(*REPAIR, "night", "--features", "--apply")
    assert code == 0
    assert f"night: 4 rows of version 1; 4 brought to version {FEATURE_VERSION}\n" in out
    assert "dataset night: healthy, 0 of 4 samples affected" in out
    assert query(stores, "SELECT receiver_features FROM heimdall.measurement_features ORDER BY sample_idx") == present
    assert object_sizes(stores, night) == sizes
    assert last_words() == (ALL_PASS, dict.fromkeys(BATCH_CHECKS, "SUCCEEDED"))
    assert heimdall(*REPAIR, "night", "--features")[1] == f"all features of night are of version {FEATURE_VERSION}\n"


@pytest.mark.slow
def test_a_row_that_is_not_confirmed_is_named_and_ends_with_1(heimdall, stores, night):
    make_older(stores)
    execute(
        stores,
        "UPDATE heimdall.measurement_features SET receiver_features = jsonb_set(receiver_features,"
        " '{0,zero_crossing_rate,mean}', '0.123') WHERE sample_idx = 3",
    )
    code, out, _ = heimdall(*REPAIR, "night", "--features", "--apply", "--json")
    repaired = json.loads(out)["repaired"]
    assert (code, repaired["num_replaced"], repaired["num_kept"]) == (1, 3, 1)
    assert repaired["examples"] == ["sample 3: receiver_features is not as committed"]
    code, out, _ = heimdall(*REPAIR, "night", "--features", "--apply")
    assert (code, "  - sample 3: receiver_features is not as committed\n" in out) == (1, True)
    assert "first repair these: heimdall dataset repair night --sample IDX --apply" in out


@pytest.mark.parametrize("option", [("--checksums",), ("--sample", "1")])
def test_a_repair_of_features_does_nothing_else(heimdall, option):
    code, _, err = heimdall(*REPAIR, "night", "--features", *option)
    assert (code, "--features cannot be combined with --checksums or --sample" in err) == (2, True)


# sweep


def test_objects_of_no_dataset_or_session_are_found_and_removed_once_they_are_old(
    heimdall, stores, night, tmp_path, monkeypatch
):
    session = import_files(stores, npy_files(tmp_path, {"torino": noise(200_000)}), **npy_options()).session_id
    of_datasets, of_sessions = stores.objects.synthetic_iq_bucket, stores.objects.raw_iq_bucket
    gone = "00000000-0000-0000-0000-000000000001"
    code, out, _ = heimdall("db", "sweep", "--apply")
    assert (code, out) == (0, "no orphans: every object belongs to a dataset or a session\n")

    put(stores, of_datasets, f"synthetic/{gone}/0/torino.sigmf-data")
    put(stores, of_sessions, f"sessions/{gone}/torino.sigmf-data")
    places = f"{of_datasets}/synthetic/{gone}/: 1 objects", f"{of_sessions}/sessions/{gone}/: 1 objects"
    out = heimdall("db", "sweep", "--apply")[1]
    assert all(f"kept, younger than an hour: {place}" in out for place in places)
    assert {leftover.prefix for leftover in find_orphans(stores)} == {f"synthetic/{gone}/", f"sessions/{gone}/"}

    monkeypatch.setattr(orphans, "find_orphans", partial(find_orphans, min_age=timedelta(0)))
    code, out, _ = heimdall("db", "sweep")
    assert code == 0
    assert all(f"orphan: {place}" in out for place in places)
    assert out.endswith("Nothing was changed. To remove them: heimdall db sweep --apply\n")
    assert len(list(find_orphans(stores))) == 2
    out = heimdall("db", "sweep", "--apply")[1]
    assert all(f"removed: {place}" in out for place in places)
    assert list(find_orphans(stores)) == []
    assert_agrees(stores, "night", range(4))
    assert len(list(stores.objects.entries(of_sessions, f"sessions/{session}/"))) == 2


def test_a_sweep_in_an_outage_ends_with_1_and_removes_nothing(heimdall, stores, monkeypatch):
    gone = "00000000-0000-0000-0000-000000000001"
    put(stores, stores.objects.synthetic_iq_bucket, f"synthetic/{gone}/0/torino.sigmf-data")
    monkeypatch.setenv("HEIMDALL_PG_PORT", "1")
    code, out, err = heimdall("db", "sweep", "--apply")
    assert (code, out, err.startswith("Error: PostgreSQL at 127.0.0.1:1/")) == (1, "", True)
    assert len(list(find_orphans(stores))) == 1
