"""`heimdall dataset shrink`, and the question before a dataset becomes much larger."""

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from heimdall_pipelines.cli import confirming
from heimdall_pipelines.cli.dataset_partitions import remove_partitions
from heimdall_pipelines.cluster.partitions import delete_partitions
from heimdall_pipelines.definitions import build_definitions
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.defs.synthetic import add_partitions, make_synthetic_batches
from heimdall_pipelines.defs.synthetic_sensor import requested_synthetic_batches
from heimdall_pipelines.status.run_tags import PARTITION_TAG, RUN_KEY_TAG
from heimdall_pipelines.store.batches import DatasetShrunkError, note_stopped_batch
from heimdall_pipelines.store.datasets import get_dataset, lower_target, raise_target
from heimdall_pipelines_tests.datasets.support import add, assert_agrees, make, query

LARGE = 5_000_000


@pytest.fixture
def night(stores):
    """A dataset of which one of three batches is made."""
    dataset = add(stores, "night", 6, batch_size=2)
    make(stores, "night", 0)
    return dataset


@pytest.fixture
def terminal(monkeypatch):
    """A person at a terminal, who gives the answers."""
    answers = []
    monkeypatch.setattr(confirming.sys.stdin, "isatty", lambda: True, raising=False)

    def confirm(question, *, abort):
        answers.append(question)
        if not confirm.answer:
            raise confirming.typer.Abort

    confirm.answer = False
    confirm.questions = answers
    monkeypatch.setattr(confirming.typer, "confirm", confirm)
    return confirm


def batches(instance):
    return set(instance.get_dynamic_partitions(SYNTHETIC_BATCHES))


def target(stores):
    return get_dataset(stores.database, "night").target_num_samples


def test_an_expansion_by_mistake_is_taken_back(heimdall, stores, night):
    code, _, err = heimdall("dataset", "expand", "night", "--to", LARGE // 1000, "--yes")
    assert code == 0, err
    with dg.DagsterInstance.get() as instance:
        assert len(batches(instance)) == LARGE // 2000
    code, out, err = heimdall("dataset", "shrink", "night", "--to", 3)
    assert code == 0, err
    assert "shrunk: dataset night from 5000 to 3 samples; 2498 batches that were not generated" in out
    assert target(stores) == 3
    with dg.DagsterInstance.get() as instance:
        assert batches(instance) == {"night__00000", "night__00001"}
    assert_agrees(stores, "night", range(2))


def test_samples_that_exist_are_never_dropped(heimdall, stores, night):
    code, _, err = heimdall("dataset", "shrink", "night", "--to", 1)
    assert code == 1
    assert "samples up to 1 exist" in err
    assert "2 is possible" in err
    assert target(stores) == 6
    assert heimdall("dataset", "shrink", "night", "--to", 2)[0] == 0
    assert query(stores, "SELECT count(*) FROM heimdall.measurement_features") == [{"count": 2}]


@pytest.mark.parametrize(
    ("name", "to", "words"),
    [
        ("night", 7, "dataset expand night --to 7"),
        ("night", 0, "target_num_samples"),
        ("day", 2, "unknown dataset day"),
    ],
)
def test_a_shrinking_that_makes_no_sense_changes_nothing(heimdall, stores, night, name, to, words):
    code, _, err = heimdall("dataset", "shrink", name, "--to", to)
    assert code == 1
    assert words in err
    assert target(stores) == 6


def test_a_stopped_batch_that_is_no_longer_wanted_is_forgotten(stores, night):
    note_stopped_batch(stores.database, night, night.grid.batch(2), reason="max_attempts", attempts=40, rejections={})
    lower_target(stores.database, night, 4)
    assert query(stores, "SELECT batch_no FROM heimdall.synthetic_batches") == [{"batch_no": 0}]


@pytest.mark.fault("a dataset is shrunk while a batch of it is generated that is no longer wanted")
def test_a_batch_of_before_commits_nothing_beyond_the_new_total(stores, night, monkeypatch, fault):
    from heimdall_pipelines.datasets import generating

    commit = generating.commit_batch

    def commit_after_shrinking(database, dataset, span, **rows):
        lower_target(database, dataset, 3)
        return commit(database, dataset, span, **rows)

    monkeypatch.setattr(generating, "commit_batch", commit_after_shrinking)
    for batch_no in (1, 2):
        with pytest.raises(DatasetShrunkError, match="was shrunk to 3 samples while night__0000"):
            make(stores, "night", batch_no)
        raise_target(stores.database, night, 6)
    monkeypatch.undo()
    lower_target(stores.database, night, 3)
    make(stores, "night", 1)
    assert query(stores, "SELECT max(sample_idx) FROM heimdall.measurement_features") == [{"max": 2}]
    assert get_dataset(stores.database, "night").num_samples == 3
    fault.record(
        detected_by=["DatasetShrunkError"], result="nothing of the batch is committed; samples that exist stay"
    )


def test_runs_of_batches_that_are_gone_are_removed_and_asked_for_again_when_wanted(
    heimdall, stores, night, environment
):
    name = make_synthetic_batches.name
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("nowhere"), "nothing"), name)
    kept, waiting, failed = ("night__00001", "QUEUED"), ("night__00002", "QUEUED"), ("night__00003", "FAILURE")
    raise_target(stores.database, night, 8)
    night = get_dataset(stores.database, "night")
    with dg.DagsterInstance.get() as instance:
        add_partitions(instance, night)
        for key, status in (kept, waiting, failed):
            batch_no = int(key[-1])
            tags = {PARTITION_TAG: key, RUN_KEY_TAG: f"{night.id}:{batch_no}:{2 * batch_no + 2}"}
            create_run_for_test(instance, name, status=dg.DagsterRunStatus[status], tags=tags, remote_job_origin=origin)
    code, _, err = heimdall("dataset", "shrink", "night", "--to", 4)
    assert code == 0, err
    raise_target(stores.database, night, 8)
    with dg.DagsterInstance.get() as instance:
        assert {run.tags[PARTITION_TAG] for run in instance.get_runs()} == {"night__00001"}
        context = dg.build_sensor_context(instance=instance, definitions=build_definitions())
        requested = {
            request.partition_key for request in requested_synthetic_batches(context, stores=stores).run_requests
        }
    assert requested == {"night__00002", "night__00003"}


def test_a_much_larger_total_is_refused_without_a_terminal_and_says_its_cost(heimdall, stores, night):
    for arguments in (
        ("expand", "night", "--to", LARGE),
        ("expand", "night", "--by", 55),
        ("create", "night", "--num-samples", 61),
    ):
        code, _, err = heimdall("dataset", *arguments)
        assert code == 1
        assert "was not expanded" in err
        assert "samples to generate in" in err
        assert "give --yes" in err
    assert target(stores) == 6


def test_ten_times_is_not_asked_about(heimdall, stores, night):
    assert heimdall("dataset", "expand", "night", "--to", 60)[0] == 0
    assert target(stores) == 60


def test_a_person_is_asked_with_the_cost_and_no_means_no(heimdall, stores, night, terminal):
    assert heimdall("dataset", "expand", "night", "--to", 61)[0] != 0
    (question,) = terminal.questions
    assert "from 6 to 61 samples" in question
    assert "59 samples to generate in 31 batches, about " in question
    assert target(stores) == 6
    terminal.answer = True
    assert heimdall("dataset", "expand", "night", "--to", 61)[0] == 0
    assert target(stores) == 61


def test_many_partitions_are_deleted_with_few_statements_and_no_others(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    keys = [f"night__{number:05d}" for number in range(2500)]
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(SYNTHETIC_BATCHES, [*keys, "day__00000"])
        instance.add_dynamic_partitions(SYNTHETIC_DATASETS, ["night", "day"])
        with monkeypatch.context() as patch:
            one_by_one = type(instance.event_log_storage), "delete_dynamic_partition"
            calls = []
            original = getattr(*one_by_one)
            patch.setattr(*one_by_one, lambda *of: calls.append(of) or original(*of))
            assert remove_partitions(instance, "night")
        assert len(calls) == 1  # the dataset's own
        assert batches(instance) == {"day__00000"}
        assert set(instance.get_dynamic_partitions(SYNTHETIC_DATASETS)) == {"day"}
        delete_partitions(instance, SYNTHETIC_BATCHES, ["day__00000", "unknown"])
        assert batches(instance) == set()
