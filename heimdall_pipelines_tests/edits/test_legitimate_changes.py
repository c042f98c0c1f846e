"""What commands and assets change is no corruption: after each of them no check finds anything, and it is noted why."""

import pytest

from heimdall_pipelines.datasets.accepting import accept_dataset
from heimdall_pipelines.datasets.feature_repair import repair_features
from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.datasets.summary import summarise_dataset
from heimdall_pipelines.datasets.validation import validate_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.sessions.accepting import accept_session
from heimdall_pipelines.sessions.correcting import Correction, correct_session
from heimdall_pipelines.sessions.example import START_TIME_UNIX_NS
from heimdall_pipelines.sessions.extraction import extract_session
from heimdall_pipelines.sessions.validation import validate_session
from heimdall_pipelines.store.changes import changing, list_changes
from heimdall_pipelines.store.dataset_summaries import record_summary
from heimdall_pipelines.store.datasets import get_dataset, lower_target
from heimdall_pipelines.store.stations import set_station_active, set_station_url
from heimdall_pipelines_tests.datasets.support import expand, make
from heimdall_pipelines_tests.edits.place import Place, place_of_module
from heimdall_pipelines_tests.integrity import NAME
from heimdall_pipelines_tests.older_features import make_older
from heimdall_pipelines_tests.sealing import reseal
from heimdall_pipelines_tests.sessions.support import quiet

OF_SAMPLE_3 = "WHERE dataset_id = :id AND sample_idx = 3"


@pytest.fixture(scope="module")
def _module(server_settings, _template, example_recordings):
    with place_of_module(server_settings, example_recordings) as made:
        yield made


@pytest.fixture
def place(_module) -> Place:
    yield _module[1]
    _module[1].put_back()


def expand_and_make(place: Place) -> None:
    expand(place.stores, get_dataset(place.stores.database, NAME), 14)
    make(place.stores, NAME, 2)


def expand_and_shrink(place: Place) -> None:
    database = place.stores.database
    before = get_dataset(database, NAME)
    lower_target(database, expand(place.stores, before, 14), before.target_num_samples)


def correct_and_extract(place: Place) -> None:
    correct_session(
        place.stores, place.session_id, Correction(start_time_unix_ns={"torino": START_TIME_UNIX_NS + 10**6})
    )
    extract_session(place.stores, place.session_id, quiet)


def repair(place: Place, **more) -> None:
    with Workers(1) as workers:
        repair_dataset(place.stores, NAME, workers, **more)


def repair_what_is_lost(place: Place) -> None:
    place.sql(f"DELETE FROM heimdall.measurement_features {OF_SAMPLE_3}")
    place.delete(place.iq(7))
    repair(place)


def restore_the_seed(place: Place) -> None:
    place.sql("UPDATE heimdall.synthetic_datasets SET seed = seed + 1 WHERE id = :id")
    repair(place, restore=True)


def take_another_seed(place: Place) -> None:
    place.sql("UPDATE heimdall.synthetic_datasets SET seed = seed + 1 WHERE id = :id")
    repair(place, overwrite=True)


def upgrade_features(place: Place) -> None:
    make_older(place.stores, "dataset_id IS NOT NULL")
    reseal(place.stores)
    with Workers(1) as workers:
        assert repair_features(place.stores, NAME, workers).num_replaced == 12


def summarise(place: Place) -> None:
    made = summarise_dataset(place.stores.database, NAME)
    record_summary(place.stores.database, place.dataset_id, num_samples=12, content_sha256=made.content_sha256)


def accept_an_edit_of_the_dataset(place: Place) -> None:
    place.sql(f"UPDATE heimdall.measurement_features SET error_message = 'x' {OF_SAMPLE_3}")
    assert list(accept_dataset(place.stores, NAME, reason="a test"))


def accept_an_edit_of_the_session(place: Place) -> None:
    place.sql("UPDATE heimdall.recording_sessions SET name = 'another' WHERE id = :session")
    assert list(accept_session(place.stores, place.session_id, reason="a test"))


def move_a_station_and_extract(place: Place) -> None:
    with (
        place.stores.database.transaction() as connection,
        changing(connection, "websdr_stations", "rx_id = 'torino'", {}, reason="it was moved"),
    ):
        connection.exec_driver_sql("UPDATE heimdall.websdr_stations SET latitude = 45.1 WHERE rx_id = 'torino'")
    assert set(place.found()) == {"features_are_current"}
    extract_session(place.stores, place.session_id, quiet)


def complete_the_session_again(place: Place) -> None:
    with (
        place.stores.database.transaction() as connection,
        changing(connection, "recording_sessions", "true", {}, reason="it was completed again"),
    ):
        for status in ("in_progress", "completed"):
            connection.exec_driver_sql(f"UPDATE heimdall.recording_sessions SET status = '{status}'")
    extract_session(place.stores, place.session_id, quiet)


COMMANDS = {
    "a batch is regenerated": lambda place: make(place.stores, NAME, 1),
    "the dataset is expanded": expand_and_make,
    "the dataset is repaired": repair_what_is_lost,
    "a sound dataset is repaired": repair,
    "parameters are restored": restore_the_seed,
    "parameters are taken over": take_another_seed,
    "features are brought to the present version": upgrade_features,
    "the dataset is summarised": summarise,
    "the dataset is validated": lambda place: validate_dataset(place.stores, NAME),
    "an edit of the dataset is accepted": accept_an_edit_of_the_dataset,
    "an expansion is taken back": expand_and_shrink,
    "the session is corrected": correct_and_extract,
    "the session is extracted again": lambda place: extract_session(place.stores, place.session_id, quiet),
    "the session is completed again": complete_the_session_again,
    "the session is validated": lambda place: validate_session(place.stores, place.session_id),
    "an edit of the session is accepted": accept_an_edit_of_the_session,
    "a station is moved and the session extracted": move_a_station_and_extract,
    "a station is disabled": lambda place: set_station_active(place.stores.database, "torino", False),
    "a station has another address": lambda place: set_station_url(place.stores.database, "torino", "http://there"),
}
WITH_REASON = {
    "the dataset is expanded": "expanded",
    "an expansion is taken back": "shrunk",
    "the session is corrected": "its metadata were corrected",
    "parameters are restored": "restored the parameters",
    "parameters are taken over": "took the edited parameters",
    "an edit of the dataset is accepted": "accepted: a test",
    "an edit of the session is accepted": "accepted: a test",
    "a station is disabled": "is_active was set",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_found_after_a_command(place, name):
    COMMANDS[name](place)
    assert place.found() == {}
    assert place.found(checksums=True) == {}


@pytest.mark.parametrize(("name", "reason"), WITH_REASON.items())
def test_a_change_is_noted_with_its_reason(place, name, reason):
    last = max((change.id for change in list_changes(place.stores.database)), default=0)
    COMMANDS[name](place)
    reasons = [change.reason for change in list_changes(place.stores.database) if change.id > last]
    assert any(reason in one for one in reasons), reasons
