"""`heimdall dataset` as people type it."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from threading import Event

import dagster as dg
import numpy as np
import pytest
import sigmf
import typer
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from heimdall_pipelines.cli import dataset as dataset_command
from heimdall_pipelines.cli import dataset_making, dataset_progress
from heimdall_pipelines.cli.dataset_options import option_name, with_spec_options
from heimdall_pipelines.cli.dataset_tables import print_batches
from heimdall_pipelines.defs.partitions import SYNTHETIC_BATCHES, SYNTHETIC_DATASETS
from heimdall_pipelines.model.batches import Batch
from heimdall_pipelines.model.dataset_spec import DatasetSpec
from heimdall_pipelines.store.batches import list_batches
from heimdall_pipelines.store.dataset_samples import count_rows
from heimdall_pipelines.store.datasets import find_dataset, get_dataset, mark_dataset_deleted
from heimdall_pipelines.store.objects import ObjectLocation
from heimdall_pipelines.store.outages import DatabaseUnavailableError
from heimdall_pipelines_tests.datasets.support import execute, stored_iq
from heimdall_pipelines_tests.dev_server import wait_for
from heimdall_pipelines_tests.waiting import TIMEOUT_S

NUM_STATIONS = 7
SEED = 7
# A fifth of the usual length: what is tested here does not depend on it.
SHORT = ("--duration-ms", 200, "--num-chunks", 1)
SHOWN = {"True": "yes", "False": "no", "None": "none"}
# 1 % of the scenes drawn with seed 0: enough to be created, not enough for 20 attempts per sample.
HARD = ("--min-snr-db", 30, "--max-gdop", 1, "--seed", 0, "--terrain", "none")
HERE = ("--local", "--workers", 1)
# Minutes of work: it is interrupted before its end however late this process gets its turn.
MORE_THAN_ARE_MADE = 20_000
SWITCHES = {name for name, field in DatasetSpec.model_fields.items() if field.annotation is bool}


@pytest.fixture
def create(heimdall):
    """Create a dataset of short samples, the same ones each time; gives the standard output of what went well."""

    def run(name, num_samples, *options):
        if "--seed" not in options:
            options += ("--seed", SEED)
        code, out, err = heimdall("dataset", "create", name, "--num-samples", num_samples, *SHORT, *options)
        assert code == 0, err
        return out

    return run


def in_words(text):
    return " ".join(re.sub(r"[│╭╰─╮╯]", " ", text).split())


def partitions(definition):
    with dg.DagsterInstance.get() as instance:
        return instance.get_dynamic_partitions(definition)


def options_of(command):
    return {option.name: option for option in typer.main.get_command(dataset_command.app).commands[command].params}


def test_every_parameter_of_a_dataset_is_an_option_and_no_other():
    options = options_of("create")
    assert set(options) - set(DatasetSpec.model_fields) == {"name", "num_samples", "seed", "local", "workers", "yes"}
    for name, field in DatasetSpec.model_fields.items():
        option = options[name]
        assert option.default is None, f"{name}: not given and given as its default are two things"
        assert option.help.startswith(field.description)
        if name not in SWITCHES:
            default = "none" if field.default is None else f"{field.default}".removesuffix(".0")
            assert option.help.endswith(f" {default}")


@pytest.mark.parametrize("name", DatasetSpec.model_fields)
def test_a_parameter_that_is_given_arrives_and_the_others_do_not(name):
    arrived = []
    app = typer.Typer()

    @app.command()
    @with_spec_options
    def command(parameters: dict) -> None:
        arrived.append(parameters)

    value = DatasetSpec.model_fields[name].default
    value = 12 if value is None else value
    given = (
        [f"--{'' if value else 'no-'}{option_name(name)}"] if name in SWITCHES else [f"--{option_name(name)}", value]
    )
    ended = CliRunner().invoke(app, [str(part) for part in given])
    assert ended.exit_code == 0, ended.output
    assert arrived == [{name: value}]


@pytest.mark.slow
def test_a_dataset_is_created_expanded_listed_and_shown(heimdall, create, stores, monkeypatch):
    monkeypatch.setattr(dataset_progress, "LINE_INTERVAL_S", 3600.0)  # more than a busy machine takes
    out = create("night", 5, "--batch-size", 10, *HERE)
    assert "created: dataset night, feature_based, 5 samples in 1 batch, 7 receivers, seed " in out
    assert "generated: 5 samples in 1 batch, 35 IQ objects" in out
    assert "committed: 5 of 5 samples; counted: 5 feature rows, 5 samples with IQ, 35 IQ objects" in out

    code, out, err = heimdall("dataset", "expand", "night", "--by", 10, *HERE)
    assert code == 0
    assert "expanded: dataset night from 5 to 15 samples in 2 batches" in out
    assert "generated: 10 samples in 2 batches, 70 IQ objects" in out
    assert err.startswith("night: 10 of 10 samples, ")
    assert err.count("\n") == 1, "lines of progress come every few seconds, and at the end"

    dataset = get_dataset(stores.database, "night")
    assert (dataset.num_samples, dataset.target_num_samples) == (15, 15)
    (line,) = [line for line in heimdall("dataset", "list")[1].splitlines() if "night" in line]
    assert line.split()[:7] == ["night", "feature_based", "15", "15", "none", "unknown", str(dataset.seed)]

    out = heimdall("dataset", "show", "night")[1]
    for name, value in dataset.spec.to_json().items():
        assert re.search(rf"^ *{name} +{SHOWN.get(str(value), value)} ", out, re.MULTILINE), name
    assert "committed: 15 of 15 samples; counted: 15 feature rows, 15 samples with IQ, 105 IQ objects" in out
    for batch in list_batches(stores.database, dataset.id):
        assert re.search(
            rf"^ *{batch.batch_no} +{batch.first_sample_idx} +{batch.num_samples} +{batch.attempts} ",
            out,
            re.MULTILINE,
        )
    assert "complete. Next: heimdall dataset summary night" in out


@pytest.mark.slow
def test_dagster_agrees_with_what_was_made_here(create):
    create("night", 12, "--batch-size", 10, *HERE)
    assert partitions(SYNTHETIC_DATASETS) == ["night"]
    assert partitions(SYNTHETIC_BATCHES) == ["night__00000", "night__00001"]
    with dg.DagsterInstance.get() as instance:
        for name in ("batches", "raw_iq_objects", "measurement_features"):
            made = instance.get_materialized_partitions(dg.AssetKey(["synthetic", name]))
            assert made == {"night__00000", "night__00001"}
        assert instance.get_materialized_partitions(dg.AssetKey(["synthetic", "datasets"])) == {"night"}


@pytest.mark.slow
def test_zero_is_a_value_and_not_a_missing_one(heimdall, create, stores):
    create("quiet", 1, "--tx-power-dbm", 0, "--seed", 0, "--area-margin-deg", 0, "--no-fading", "--terrain", "none")
    heimdall("dataset", "create", "usual", "--num-samples", 1)
    quiet, usual = (get_dataset(stores.database, name) for name in ("quiet", "usual"))
    assert (quiet.seed, quiet.spec.tx_power_dbm, quiet.spec.area_margin_deg) == (0, 0, 0)
    assert quiet.spec.fading is False
    assert (usual.spec.tx_power_dbm, usual.spec.area_margin_deg, usual.spec.fading) == (37, 0.2, True)
    assert usual.seed > 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "x", "--num-samples", 0), 1, "target_num_samples 0: 1 to 5000000 are allowed"),
        (("create", "x", "--num-samples", 5, "--seed", -1), 1, "seed -1: 0 to 9223372036854775807 are allowed"),
        (("create", "Night", "--num-samples", 5), 1, "dataset name 'Night': a slug is expected"),
        (("create", "x"), 2, "--num-samples"),
        (("create", "x", "--num-samples", 5, "--frequency-mhz", "2m"), 1, "frequency_mhz '2m': 30 to 3000 is"),
        (
            ("create", "x", "--num-samples", 5, "--max-gdop", "nan"),
            1,
            "max_gdop nan: more than 0, at most 1000 is",
        ),
        (("create", "x", "--num-samples", 5, "--adc-bits", 8.5), 1, "adc_bits '8.5': 2 to 24 is allowed"),
        (("create", "x", "--num-samples", 5, "--bandwidth-hz", 1), 1, "bandwidth_hz 1: 12500 or 25000 is allowed"),
        (("create", "x", "--num-samples", 5, "--type", "raw"), 1, "dataset_type 'raw': feature_based or iq_raw is"),
        (("create", "x", "--num-samples", 5, "--workers", 1), 2, "--workers requires --local"),
        (("create", "x", "--num-samples", 5, "--min-receivers", 8), 1, "min_receivers 8: 1 to 7"),
        (
            ("create", "x", "--num-samples", 5, "--min-snr-db", 60, "--seed", 0),
            1,
            "dataset x was not created: 0.0% of 1000",
        ),
        (("expand", "absent", "--by", 1), 1, "unknown dataset absent; see: heimdall dataset list"),
        (("expand", "absent", "--to", 1), 1, "unknown dataset absent; see: heimdall dataset list"),
        (("expand", "absent"), 2, "either --by N or --to TOTAL is expected"),
        (("expand", "absent", "--by", 1, "--to", 2), 2, "either --by N or --to TOTAL is expected"),
        (("expand", "absent", "--by", 1, "--frequency-mhz", 145), 2, "No such option"),
        (("make", "absent"), 1, "unknown dataset absent"),
        (("show", "absent"), 1, "unknown dataset absent"),
        (("delete", "absent"), 1, "unknown dataset absent"),
        (("iq", "absent", 0, "-o", "there"), 1, "unknown dataset absent"),
        (("summary", "absent", "-o", "there"), 1, "unknown dataset absent"),
    ],
)
def test_a_wrong_command_ends_with_one_message_and_changes_nothing(heimdall, stores, arguments, code, words):
    ended, out, err = heimdall("dataset", *arguments)
    assert ended == code
    assert words in in_words(out + err)
    assert "Traceback" not in err
    assert "no datasets" in heimdall("dataset", "list")[1]


def test_wrong_values_are_named_all_at_once_with_what_is_allowed(heimdall):
    code, _, err = heimdall("dataset", "create", "x", "--num-samples", 5, "--tx-power-dbm", 80, "--inside-ratio", -0.1)
    assert code == 1
    assert "tx_power_dbm 80.0: -30 to 70 is allowed" in err
    assert "inside_ratio -0.1: 0 to 1 is allowed" in err


@pytest.mark.slow
def test_the_same_total_again_changes_nothing_and_more_expands(heimdall, create, stores):
    create("night", 5)
    before = get_dataset(stores.database, "night")
    assert "nothing changed: the total of dataset night is already 5 samples" in create("night", 5)
    assert get_dataset(stores.database, "night") == before
    assert "from 5 to 8 samples" in heimdall("dataset", "create", "night", "--num-samples", 8)[1]
    assert "from 8 to 9 samples" in heimdall("dataset", "expand", "night", "--to", 9)[1]
    assert "nothing changed" in heimdall("dataset", "expand", "night", "--to", 9)[1]
    code, _, err = heimdall("dataset", "expand", "night", "--to", 3)
    assert (code, "heimdall dataset shrink night --to 3" in err) == (1, True)
    assert get_dataset(stores.database, "night").target_num_samples == 9


@pytest.mark.slow
def test_a_parameter_that_differs_from_the_datasets_is_named_and_nothing_is_expanded(heimdall, create, stores):
    create("night", 5)
    wrong = ("--num-samples", 8, "--tx-power-dbm", 30, "--frequency-mhz", 145, "--seed", 8)
    code, _, err = heimdall("dataset", "create", "night", *wrong)
    assert code == 1
    assert "tx_power_dbm 30.0: the dataset has 37.0" in err
    assert f"seed 8: the dataset has {SEED}" in err
    assert "frequency_mhz" not in err
    assert get_dataset(stores.database, "night").target_num_samples == 5


def test_a_dataset_that_few_scenes_suit_is_warned_of(heimdall):
    code, out, err = heimdall("dataset", "create", "hard", "--num-samples", 5, *HARD)
    assert code == 0, err
    assert "Warning: only " in err
    assert "To accept more:" in err
    assert "created: dataset hard" in out


@pytest.mark.slow
def test_without_a_daemon_the_command_says_what_to_start(create):
    out = create("night", 5)
    assert "No Dagster daemon is running to generate 1 batch. Start one: heimdall dev" in out
    assert "heimdall dataset make night" in out


@pytest.mark.slow
@pytest.mark.parametrize(("age_s", "words"), [(10, "s ago) generates 1 batch"), (300, "No Dagster daemon is")])
def test_a_daemon_runs_if_its_last_heartbeat_is_recent(create, age_s, words):
    create("first", 1)
    with dg.DagsterInstance.get() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - age_s, "SENSOR", "of this test", []))
    assert words in create("night", 5)


@pytest.mark.slow
def test_missing_batches_are_made_later_and_only_they(heimdall, create, stores):
    create("night", 3, "--batch-size", 2)
    out = heimdall("dataset", "show", "night")[1]
    assert "missing: 3 samples in 2 of 2 batches" in out
    assert "heimdall dataset make night" in out
    assert "2 of 2" in heimdall("dataset", "list")[1]
    assert "generated: 3 samples in 2 batches" in heimdall("dataset", "make", "night", "--workers", 1)[1]
    again = heimdall("dataset", "make", "night")
    assert (again[0], "nothing to generate" in again[1]) == (0, True)


def test_a_batch_that_finds_no_scenes_stops_the_command_and_show_says_why(heimdall, create, stores):
    code, _, err = heimdall("dataset", "create", "hard", "--num-samples", 5, *HARD, *HERE)
    assert code == 1
    assert "hard__00000 stopped (max_attempts)" in err
    dataset = get_dataset(stores.database, "hard")
    assert dataset.num_samples == count_rows(stores.database, dataset.id).features == 0
    out = heimdall("dataset", "show", "hard")[1]
    assert "Batch 0 stopped: 20 attempts per sample gave too few accepted scenes" in out
    assert "too_few_receivers" in out
    assert "missing: 5 samples in 1 of 1 batches" in out
    assert "dataset make" not in out, "it would stop again"


@pytest.mark.slow
def test_of_very_many_batches_the_incomplete_ones_are_shown_and_the_total(create, stores, capsys):
    create("long", 30, "--batch-size", 1)
    dataset = get_dataset(stores.database, "long")
    batches = [Batch(no, no, 1, 3, {"too_few_receivers": 2}, None) for no in range(29)]
    batches.append(Batch(29, 29, 0, 20, {"gdop_too_high": 20}, "max_attempts"))
    print_batches(dataset, batches)
    out = capsys.readouterr().out
    assert re.search(r"^ *29 +29 +0 +20 +gdop_too_high 20 +stopped: max_attempts", out, re.MULTILINE)
    assert not re.search(r"^ *28 ", out, re.MULTILINE)
    assert "30 batches, 1 incomplete; 107 scenes drawn, 29 accepted, too_few_receivers 58, gdop_too_high 20" in out


@pytest.mark.slow
def test_deleting_leaves_no_row_no_object_and_no_partition(heimdall, create, stores):
    create("night", 3, "--batch-size", 2, *HERE)
    create("night-2", 1)
    dataset = get_dataset(stores.database, "night")
    code, _, err = heimdall("dataset", "delete", "night")
    assert code == 1
    assert "dataset night with 3 feature rows and 21 IQ objects was not deleted" in err
    assert "give --yes" in err
    assert find_dataset(stores.database, "night") == dataset

    assert heimdall("dataset", "delete", "night", "--yes")[0] == 0
    assert find_dataset(stores.database, "night") is None
    counts = count_rows(stores.database, dataset.id)
    assert (counts.features, counts.iq_samples) == (0, 0)
    assert list(stores.objects.entries(stores.objects.synthetic_iq_bucket, "")) == []
    assert partitions(SYNTHETIC_DATASETS) == ["night-2"]
    assert partitions(SYNTHETIC_BATCHES) == ["night-2__00000"]


@pytest.mark.slow
def test_partitions_that_a_deletion_left_are_removed_by_the_same_command(heimdall, create, stores):
    create("night", 2, "--batch-size", 1)
    create("night-2", 1)
    execute(stores, "DELETE FROM heimdall.synthetic_datasets WHERE name = 'night'")
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(SYNTHETIC_BATCHES, ["night", "night__x", "night__0__00000"])  # by hand
    code, out, _ = heimdall("dataset", "delete", "night", "--yes")
    assert (code, out) == (0, "dataset night was deleted before; its partitions in Dagster are removed now\n")
    assert partitions(SYNTHETIC_DATASETS) == ["night-2"]
    assert set(partitions(SYNTHETIC_BATCHES)) == {"night-2__00000", "night", "night__x", "night__0__00000"}
    code, _, err = heimdall("dataset", "delete", "night", "--yes")
    assert (code, "unknown dataset night" in err) == (1, True)


@pytest.mark.slow
def test_a_deletion_that_broke_off_shows_and_is_finished_by_the_same_command(heimdall, create, stores):
    create("night", 2, *HERE)
    mark_dataset_deleted(stores.database, get_dataset(stores.database, "night"))
    assert re.search("night .* being deleted ", heimdall("dataset", "list")[1])
    assert (
        "It is being deleted. To complete the deletion: heimdall dataset delete night"
        in heimdall("dataset", "show", "night")[1]
    )
    for arguments in (("make", "night"), ("expand", "night", "--by", 1), ("create", "night", "--num-samples", 9)):
        code, _, err = heimdall("dataset", *arguments)
        assert (code, "finish it with: heimdall dataset delete night" in err) == (1, True), arguments
    assert heimdall("dataset", "delete", "night", "--yes")[0] == 0
    assert find_dataset(stores.database, "night") is None
    assert partitions(SYNTHETIC_BATCHES) == []


@pytest.mark.slow
def test_iq_of_any_sample_is_written_as_sigmf_and_compared_with_what_is_stored(heimdall, create, stores, tmp_path):
    create("night", 2, *HERE)
    folder = tmp_path / "iq"
    code, out, err = heimdall("dataset", "iq", "night", 1, "-o", folder)
    assert code == 0, err
    assert out.count("yes, identical") == NUM_STATIONS
    row = stored_iq(stores, "night", 1)
    for rx_id in row.paths:
        read = sigmf.fromfile(folder / f"{rx_id}.sigmf-meta").read_samples()
        assert read.size == 40_000
        assert np.array_equal(read, np.fromfile(folder / f"{rx_id}.sigmf-data", "<c8"))

    heimdall("dataset", "expand", "night", "--by", 1)
    code, out, _ = heimdall("dataset", "iq", "night", 2, "--rx", "torino", "-o", tmp_path / "one")
    assert code == 0
    assert re.search(r"torino +40000 +torino.sigmf-meta +no", out)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["torino.sigmf-data", "torino.sigmf-meta"]

    damaged = ObjectLocation(stores.objects.synthetic_iq_bucket, row.paths["torino"])
    other = (tmp_path / "one" / "torino.sigmf-data").read_bytes()
    stores.objects.put(damaged, io.BytesIO(other), len(other), "application/octet-stream")
    code, out, err = heimdall("dataset", "iq", "night", 1, "-o", folder)
    assert code == 1
    assert re.search(r"torino +40000 +torino.sigmf-meta +yes, DIFFERENT", out)
    assert out.count("yes, identical") == NUM_STATIONS - 1
    assert str(damaged) in err

    code, _, err = heimdall("dataset", "iq", "night", 3, "-o", folder)
    assert (code, "has samples 0 to 2, no sample 3" in err) == (1, True)


@pytest.mark.slow
def test_the_summary_is_a_table_and_pictures(heimdall, create, tmp_path):
    create("night", 4, *HERE)
    code, out, err = heimdall("dataset", "summary", "night", "-o", tmp_path / "pictures")
    assert code == 0, err
    assert re.search(r"night: 4 samples, \d+ scenes drawn, [\d.]+% of them accepted", out)
    assert re.search(r"snr_db +dB +\d+ ", out)
    assert re.search(r"Cramer-Rao bound +all +4 of 4 ", out)
    pictures = list((tmp_path / "pictures").iterdir())
    assert pictures != []
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    code, _, err = heimdall("dataset", "summary", "night", "-o", pictures[0])
    assert (code, "could not be written" in err) == (1, True)


@pytest.mark.slow
def test_ctrl_c_discards_the_running_batch_and_says_how_to_continue(create, stores):
    create("night", MORE_THAN_ARE_MADE, "--batch-size", 20)
    dataset = get_dataset(stores.database, "night")
    making = subprocess.Popen(
        [sys.executable, "-c", "from heimdall_pipelines.cli import main; main()", "dataset", "make", "night"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, HEIMDALL_WORKERS="2"),
        # What runs in the background of a shell ignores SIGINT, and what it starts inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # Objects are stored before rows: with the first of the second batch, this batch is being made.
        of_second_batch = f"synthetic/{dataset.id}/2"  # those of sample 2 of the first batch, and of 20 to 29
        wait_for(
            "an object of the second batch",
            lambda: any(
                "/2/" not in entry.key
                for entry in stores.objects.entries(stores.objects.synthetic_iq_bucket, of_second_batch)
            ),
        )
        making.send_signal(signal.SIGINT)
        _, err = making.communicate(timeout=TIMEOUT_S)
    finally:
        making.kill()
    assert making.returncode == 130, err
    committed = get_dataset(stores.database, "night").num_samples
    assert committed in range(20, MORE_THAN_ARE_MADE, 20)
    assert count_rows(stores.database, dataset.id).features == committed
    assert f"Interrupted: {committed} of {MORE_THAN_ARE_MADE} samples are committed" in err
    assert "To continue: heimdall dataset make night" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_batches_that_the_daemon_generates_meanwhile_are_skipped(create, heimdall, stores, monkeypatch):
    create("night", 4, "--batch-size", 1)
    make, listings = dataset_making.make_batch, []

    def make_and_lose_a_race(opened, name, batch_no, workers, *progress):
        report = make(opened, name, batch_no, workers, *progress)
        if batch_no == 0:
            make(opened, name, 2, workers)
        return report

    def listed(*arguments):
        listings.append(arguments)
        return list_batches(*arguments)

    monkeypatch.setattr(dataset_making, "make_batch", make_and_lose_a_race)
    monkeypatch.setattr(dataset_making, "list_batches", listed)
    code, out, _ = heimdall("dataset", "make", "night", "--workers", 1)
    assert code == 0
    assert "generated: 3 samples in 3 batches" in out
    assert get_dataset(stores.database, "night").num_samples == 4
    assert len(listings) == 1  # once for each batch costs the square of their number: 20,000 are allowed


@pytest.mark.slow
def test_a_batch_is_checked_while_the_next_is_made(create, heimdall, monkeypatch):
    create("night", 2, "--batch-size", 1)
    make, look, second_began, seen = dataset_making.make_batch, dataset_making.evaluations_of_batch, Event(), []

    def make_and_note(opened, name, batch_no, *more):
        if batch_no == 1:
            second_began.set()
        return make(opened, name, batch_no, *more)

    def look_during_the_next(opened, name, batch_no):
        seen.append((batch_no, second_began.wait(120)))
        return look(opened, name, batch_no)

    monkeypatch.setattr(dataset_making, "make_batch", make_and_note)
    monkeypatch.setattr(dataset_making, "evaluations_of_batch", look_during_the_next)
    code, _, _ = heimdall("dataset", "make", "night", "--workers", 1)
    assert (code, seen) == (0, [(0, True), (1, True)])


@pytest.mark.slow
def test_a_last_batch_that_cannot_be_checked_ends_the_command_with_the_reason(create, heimdall, stores, monkeypatch):
    create("night", 2, "--batch-size", 1)
    look = dataset_making.evaluations_of_batch

    def look_without_database(opened, name, batch_no):
        if batch_no == 1:
            raise DatabaseUnavailableError("PostgreSQL went away")
        return look(opened, name, batch_no)

    monkeypatch.setattr(dataset_making, "evaluations_of_batch", look_without_database)
    code, _, err = heimdall("dataset", "make", "night", "--workers", 1)
    assert (code, "PostgreSQL went away" in err) == (1, True)
    assert get_dataset(stores.database, "night").num_samples == 2
