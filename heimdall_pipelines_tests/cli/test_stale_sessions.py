"""`heimdall session extract --stale` and `heimdall dataset repair` with edited parameters, as people type them."""

import pytest

from heimdall_pipelines.sessions.positions import locate_and_store
from heimdall_pipelines.store.changes import changing
from heimdall_pipelines.store.session_inputs import stale_sessions
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stale_positions import stale_positions
from heimdall_pipelines_tests.datasets.support import SEED, add, execute, feature_rows, make, query
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import quiet
from heimdall_pipelines_tests.stored_positions import read_positions

REPAIR = ("dataset", "repair", "night")


@pytest.fixture
def session(stores, example_session):
    imported = example_session()
    locate_and_store(stores, imported.session_id, quiet)
    return imported.slug


@pytest.fixture
def night(stores, monkeypatch):
    monkeypatch.setenv("HEIMDALL_WORKERS", "1")
    dataset = add(stores, "night", 4, batch_size=2)
    for batch_no in (0, 1):
        make(stores, "night", batch_no)
    return dataset


def move(stores, latitude):
    with (
        stores.database.transaction() as connection,
        changing(connection, "websdr_stations", "rx_id = 'torino'", {}, reason="it was moved"),
    ):
        connection.exec_driver_sql(f"UPDATE heimdall.websdr_stations SET latitude = {latitude} WHERE rx_id = 'torino'")


@pytest.mark.slow
def test_stale_sessions_are_extracted_with_what_changed(heimdall, stores, session):
    nothing = "nothing to do: the features and positions of every session are current"
    assert nothing in heimdall("session", "extract", "--stale")[1]
    move(stores, 45.1)
    code, out, _ = heimdall("session", "extract", "--stale")
    assert code == 0
    assert f"{session}:\n  - torino: latitude 45.044 -> 45.1\n" in out
    assert f"1 of 1: session {session}: done\nfound: 1, done: 1, failed: 0" in out
    assert stale_sessions(stores.database, limit=9) == []


@pytest.mark.slow
def test_a_session_of_before_positions_is_located_without_an_extraction(heimdall, stores, session):
    execute(stores, "DELETE FROM heimdall.positions")
    reseal(stores)
    before = query(stores, "SELECT id, created_at FROM heimdall.measurement_features ORDER BY segment_idx")
    code, out, _ = heimdall("session", "extract", "--stale")
    assert code == 0
    assert f"{session}:\n  - not located yet\n" in out
    assert f"1 of 1: session {session}: done\nfound: 1, done: 1, failed: 0" in out
    assert query(stores, "SELECT id, created_at FROM heimdall.measurement_features ORDER BY segment_idx") == before
    assert read_positions(stores.database, get_session(stores.database, session).id)
    assert stale_positions(stores.database, limit=9, older_methods=True) == []


def test_a_session_whose_station_was_edited_by_hand_is_named_and_not_extracted(heimdall, stores, session):
    execute(stores, "UPDATE heimdall.websdr_stations SET latitude = 45.1 WHERE rx_id = 'torino'")
    code, out, _ = heimdall("session", "extract", "--stale")
    assert (code, "found: 0, done: 0" in out) == (1, True)
    assert f"{session} is not extracted: rows that its features are computed from were edited by hand" in out
    assert len(stale_sessions(stores.database, limit=9)) == 1


@pytest.mark.parametrize("arguments", [(), ("some", "--stale")])
def test_either_a_session_or_stale_is_expected(heimdall, arguments):
    code, _, err = heimdall("session", "extract", *arguments)
    assert (code, "either a session or --stale is expected" in err) == (2, True)


@pytest.mark.slow
def test_a_repair_with_edited_parameters_shows_both_ways_and_each_works(heimdall, stores, night):
    good = feature_rows(stores, night)
    execute(stores, "UPDATE heimdall.synthetic_datasets SET seed = seed + 1")
    code, out, _ = heimdall(*REPAIR)
    assert code == 0
    assert f"  seed is {SEED + 1}, the dataset was created with {SEED}" in out
    assert out.endswith("Nothing was changed.\n")
    code, _, err = heimdall(*REPAIR, "--apply")
    assert (code, feature_rows(stores, night)) == (1, good)
    for way in ("--restore-parameters", "--overwrite night"):
        assert f"heimdall dataset repair night {way} --apply" in " ".join(err.split())
    assert heimdall(*REPAIR, "--restore-parameters", "--apply")[0] == 0
    assert feature_rows(stores, night) == good
    execute(stores, "UPDATE heimdall.synthetic_datasets SET seed = seed + 1")
    assert heimdall(*REPAIR, "--overwrite", "night", "--apply")[0] == 0
    assert feature_rows(stores, night) != good
    assert heimdall("dataset", "validate", "night", "--checksums")[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--overwrite", "nite", "--apply"), "to confirm, give the dataset's name: --overwrite night"),
        (("--overwrite", "night"), "need --apply"),
        (("--restore-parameters",), "need --apply"),
        (("--restore-parameters", "--overwrite", "night", "--apply"), "cannot be combined with --overwrite"),
        (("--features", "--restore-parameters", "--apply"), "cannot be combined with --features"),
    ],
)
def test_options_that_replace_good_data_are_confirmed(heimdall, options, said):
    code, _, err = heimdall(*REPAIR, *options)
    assert (code, said in " ".join(err.split())) == (2, True), err
