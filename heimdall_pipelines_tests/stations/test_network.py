import pytest
from sqlalchemy import text

from heimdall_pipelines.model.slugs import slug
from heimdall_pipelines.stations.network import NetworkFileError, load_network, sync_network
from heimdall_pipelines.store.known_sources import list_known_sources
from heimdall_pipelines.store.stations import (
    Station,
    StationError,
    add_station,
    list_stations,
    set_station_active,
    set_station_url,
)


def test_the_first_sync_adds_the_whole_network_and_a_second_one_nothing(stores):
    network = load_network()
    assert len(sync_network(stores.database, network).added) == 7 + 1
    assert {station.rx_id for station in list_stations(stores.database)} == {
        "aquila-di-giaveno",
        "montanaro",
        "torino",
        "coazze",
        "passo-del-giovi",
        "genova",
        "milano-baggio",
    }
    again = sync_network(stores.database, network)
    assert (again.added, again.drift) == ((), ())


def test_dcf77_is_a_known_source(stores):
    sync_network(stores.database, load_network())
    (dcf77,) = list_known_sources(stores.database)
    assert (dcf77.name, dcf77.frequency_hz, dcf77.latitude, dcf77.longitude) == ("DCF77", 77_500, 50.0152, 9.0112)


def test_a_row_edited_in_sql_is_kept_and_reported_as_drift(stores):
    sync_network(stores.database, load_network())
    with stores.database.transaction() as connection:
        connection.execute(text("UPDATE heimdall.websdr_stations SET altitude_m = 251 WHERE rx_id = 'torino'"))
    report = sync_network(stores.database, load_network())
    assert report.drift == ("torino: altitude_m is 251.0, the file has 250.0",)
    assert {s.rx_id: s.altitude_m for s in list_stations(stores.database)}["torino"] == 251


def test_a_station_that_was_removed_comes_back_and_one_of_ones_own_stays(stores):
    sync_network(stores.database, load_network())
    add_station(stores.database, Station("my-garden", "My garden", 45.1, 7.1))
    with stores.database.transaction() as connection:
        connection.execute(text("DELETE FROM heimdall.websdr_stations WHERE rx_id = 'genova'"))
    assert sync_network(stores.database, load_network()).added == ("genova",)
    assert len(list_stations(stores.database)) == 8


def test_a_station_is_switched_off_and_on(stores):
    add_station(stores.database, Station("my-garden", "My garden", 45.1, 7.1))
    set_station_active(stores.database, "my-garden", False)
    assert not list_stations(stores.database)[0].is_active
    with pytest.raises(StationError, match="unknown station your-garden"):
        set_station_active(stores.database, "your-garden", False)


def test_a_station_moves_to_another_address(stores):
    add_station(stores.database, Station("my-garden", "My garden", 45.1, 7.1, url="http://127.0.0.1:1"))
    set_station_url(stores.database, "my-garden", "http://127.0.0.1:2")
    assert list_stations(stores.database)[0].url == "http://127.0.0.1:2"
    with pytest.raises(StationError, match="unknown station your-garden"):
        set_station_url(stores.database, "your-garden", "http://127.0.0.1:2")


def test_every_field_of_a_station_survives_the_database(stores):
    station = Station(
        "x-1", "X", -33.5, 151.25, 12.5, "wss://x.example:8073", "kiwisdr", ((0.0, 30e6),), -17.5, is_active=False
    )
    add_station(stores.database, station)
    assert list_stations(stores.database) == [station]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rx_id": "Torino"}, "is not a slug"),
        ({"rx_id": "a--b"}, "is not a slug"),
        ({"rx_id": ""}, "is not a slug"),
        ({"name": ""}, "name is empty"),
        ({"latitude": 91.0}, r"latitude 91\.0 is outside"),
        ({"longitude": float("nan")}, "longitude nan is outside"),
        ({"url": "file:///etc/passwd"}, "url begins with 'file'"),
        ({"api_type": "websdr"}, "'websdr' is not kiwisdr, openwebrx or none"),
        ({"frequency_ranges_hz": ((2.0, 1.0),)}, "empty or negative"),
    ],
)
def test_an_invalid_station_is_refused_with_field_and_value(change, words):
    with pytest.raises(StationError, match=words):
        Station(**{"rx_id": "x", "name": "X", "latitude": 0.0, "longitude": 0.0} | change)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("stations: [{rx_id: a}]", r"stations\.0\.name: Field required"),
        ("stations: [{rx_id: a, name: A, latitude: x, longitude: 1}]", r"stations\.0\.latitude"),
        ("stations: [{rx_id: a, name: A, latitude: 1, longitude: 1, colour: red}]", r"colour"),
        ("stations: [", "while parsing"),
        ("- 1", "a mapping with stations is expected"),
        ("stations: [torino]", r"stations\.0: "),
        ("stations: 5", "stations: "),
        ("receivers_of_recordings: 5", "receivers_of_recordings: "),
        ("defaults: [1]", "defaults must be a mapping"),
        ("stations: [{rx_id: A B, name: A, latitude: 1, longitude: 1}]", "is not a slug"),
    ],
)
def test_an_invalid_stations_file_is_named_with_the_entry(tmp_path, content, words):
    file = tmp_path / "stations.yaml"
    file.write_text(content)
    with pytest.raises((NetworkFileError, StationError), match=words):
        load_network(file)


def test_empty_sections_of_a_stations_file_have_no_entries(tmp_path):
    file = tmp_path / "stations.yaml"
    file.write_text("defaults:\nstations:\nknown_sources:\nreceivers_of_recordings:\n")
    network = load_network(file)
    assert (network.stations, network.known_sources, network.other_positions) == ((), (), {})


def test_a_missing_stations_file_is_named(tmp_path):
    with pytest.raises(NetworkFileError, match=r"nowhere\.yaml"):
        load_network(tmp_path / "nowhere.yaml")


def test_positions_of_a_further_file_are_found(tmp_path):
    file = tmp_path / "stations.yaml"
    file.write_text("receivers_of_recordings: [{rx_id: here, latitude: 1.5, longitude: 2.5, altitude_m: 3}]")
    network = load_network(file)
    assert network.position_of("here") == (1.5, 2.5, 3.0)
    assert network.position_of("elsewhere") is None


@pytest.mark.parametrize(
    ("name", "expected"), [("Milano - Baggio", "milano-baggio"), ("HB9RYZ", "hb9ryz"), ("  ", ""), ("a_b", "a-b")]
)
def test_names_become_slugs(name, expected):
    assert slug(name) == expected
