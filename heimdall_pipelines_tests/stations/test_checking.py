"""Stations are asked how they are, all at once, and the answers are kept."""

import asyncio

import pytest
from sqlalchemy import text

from heimdall_pipelines.receivers.simulated_receivers import Faults, SimulatedKiwiSdr, SimulatedOpenWebRx
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.receivers.stream import ReceiverStatus
from heimdall_pipelines.stations.checking import check_stations
from heimdall_pipelines.store.station_checks import station_uptimes
from heimdall_pipelines.store.stations import Station, StationError, add_station
from heimdall_pipelines_tests.receivers.support import patient, synthetic
from heimdall_pipelines_tests.sessions.live import add_receivers


def rows(stores, statement):
    with stores.database.transaction() as connection:
        return connection.execute(text(statement)).all()


def test_players_of_both_kinds_answer_and_one_that_is_not_there_is_down(stores):
    with run_simulated(SimulatedKiwiSdr(synthetic()), SimulatedOpenWebRx(synthetic())) as (kiwi_url, http_url):
        add_receivers(stores, "kiwi", url=kiwi_url)
        add_receivers(stores, "web", url=http_url, api_type="openwebrx")
        add_receivers(stores, "nowhere", url="http://127.0.0.1:1")
        add_station(stores.database, Station("files-only", "Files", 45.0, 8.0))
        checks = {check.rx_id: check for check in check_stations(stores, client_of=patient)}
    assert {rx_id: check.is_up for rx_id, check in checks.items()} == {"kiwi": True, "web": True, "nowhere": False}
    assert checks["kiwi"].latency_ms > 0
    assert checks["kiwi"].gnss_fix_age_s is not None
    assert checks["nowhere"].reason
    kept = rows(stores, "SELECT is_up, reason FROM heimdall.station_checks ORDER BY is_up")
    assert [(row.is_up, row.reason is None) for row in kept] == [(False, False), (True, True), (True, True)]


def test_a_station_that_never_answers_is_down_and_the_others_are_asked_meanwhile(stores):
    add_receivers(stores, "mute", timeout_seconds=0.2)
    add_receivers(stores, "ok", "broken")

    class Client:
        async def status(self, address):
            if address.rx_id == "mute":
                await asyncio.Event().wait()
            if address.rx_id == "broken":
                raise ZeroDivisionError("of a client")
            return ReceiverStatus(is_up=True, latency_s=0.005)

    checks = {check.rx_id: check for check in check_stations(stores, client_of=lambda _type, _limits: Client())}
    assert checks["mute"].reason == "no answer within 0.2 s"
    assert checks["broken"].reason == "ZeroDivisionError: of a client"
    assert (checks["ok"].is_up, checks["ok"].latency_ms) == (True, 5.0)


def test_the_history_tells_how_often_a_station_was_up(stores):
    with run_simulated(
        SimulatedKiwiSdr(synthetic()), SimulatedKiwiSdr(synthetic(), faults=Faults(answers_page=True))
    ) as (
        url,
        page_url,
    ):
        add_receivers(stores, "kiwi", url=url)
        add_receivers(stores, "page", url=page_url)
        check_stations(stores, client_of=patient)
    check_stations(stores, ["kiwi"], client_of=patient)  # gone
    uptimes = {uptime.rx_id: (uptime.num_up, uptime.num_checks) for uptime in station_uptimes(stores.database, 1.0)}
    assert uptimes["kiwi"] == (1, 2)


def test_a_named_station_without_client_is_down_an_unknown_one_refused(stores):
    add_station(stores.database, Station("files-only", "Files", 45.0, 8.0))
    (check,) = check_stations(stores, ["files-only"])
    assert (check.is_up, check.reason) == (False, "it has no client (api_type none)")
    with pytest.raises(StationError, match="unknown station nowhere"):
        check_stations(stores, ["nowhere"])
    with pytest.raises(StationError, match="given twice"):
        check_stations(stores, ["files-only", "files-only"])
