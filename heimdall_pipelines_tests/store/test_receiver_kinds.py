"""The kinds of receivers of a database that was there before one was added and one retired."""

import pytest
from alembic import command
from sqlalchemy import text

from heimdall_pipelines.store.database import Database
from heimdall_pipelines.store.migrate import _migrations, migrate
from heimdall_pipelines.store.stations import Station, add_station, list_stations


@pytest.fixture
def before(empty_database_settings):
    """A database as the revision before left it, with a station of each kind."""
    with Database(empty_database_settings) as opened:
        config, script, _ = _migrations()
        with opened.transaction() as connection:
            connection.execute(text("CREATE SCHEMA heimdall"))
            config.attributes["connection"] = connection
            command.upgrade(config, script.get_revision("0009").down_revision)
            for kind in ("kiwisdr", "http_iq", "none"):
                connection.execute(
                    text(
                        "INSERT INTO heimdall.websdr_stations (rx_id, name, latitude, longitude, url, api_type)"
                        " VALUES (replace(:kind, '_', '-'), :kind, 45, 8, 'http://127.0.0.1:1', :kind)"
                    ),
                    {"kind": kind},
                )
        yield opened


def test_stations_of_the_retired_kind_stay_without_a_client(before):
    migrate(before)
    stations = {station.rx_id: station for station in list_stations(before)}
    assert {rx_id: station.api_type for rx_id, station in stations.items()} == {
        "http-iq": "none",
        "kiwisdr": "kiwisdr",
        "none": "none",
    }
    assert stations["http-iq"].url == "http://127.0.0.1:1"
    assert not stations["http-iq"].has_client


def test_stations_of_the_new_kind_are_taken(before):
    migrate(before)
    add_station(before, Station("web", "Web", 45.0, 8.0, api_type="openwebrx"))
    assert {station.rx_id for station in list_stations(before) if station.has_client} == {"kiwisdr", "web"}
