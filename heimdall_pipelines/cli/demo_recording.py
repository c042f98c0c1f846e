"""The demonstration's recording: a session from three simulated receivers, extracted and checked."""

from collections.abc import Iterator
from contextlib import contextmanager

from heimdall_pipelines.cli.console import output, show_progress
from heimdall_pipelines.cli.extraction import extract_now, print_checks
from heimdall_pipelines.cli.session_recording import print_recording
from heimdall_pipelines.cli.session_tables import print_stations
from heimdall_pipelines.model.receiver_kind import ReceiverKind
from heimdall_pipelines.receivers.clients import receiver_of
from heimdall_pipelines.receivers.signal_sources import Place, SyntheticSource, Transmission
from heimdall_pipelines.receivers.simulated_receivers import SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulator import run_simulated
from heimdall_pipelines.receivers.stream import Receiver, WaitLimits
from heimdall_pipelines.sessions import example
from heimdall_pipelines.sessions.record_request import RecordRequest
from heimdall_pipelines.sessions.recording import RecordingEnvironment, record_session
from heimdall_pipelines.stations.network import Network, load_network, sync_network
from heimdall_pipelines.store.sessions import get_session
from heimdall_pipelines.store.stations import Station, set_station_active, set_station_url
from heimdall_pipelines.store.stores import Stores

DURATION_S = 5.0
SPEED = 1.0  # times real time
# Clients and receivers share this process: on a busy machine both are slow, and no silence means a lost receiver.
TIMEOUT_S = 600.0
# Simulated receivers at the positions of stations of the network, whose rows do not change.
RECEIVERS = (("demo-1", "torino"), ("demo-2", "genova"), ("demo-3", "milano-baggio"))


def record_from_simulated_receivers(stores: Stores) -> bool:
    """Record a transmission of known position and print its features; True if it was recorded and all checks passed."""
    network = load_network()
    places = {rx_id: Place(*_position(network, where)) for rx_id, where in RECEIVERS}
    source = example.SOURCE
    transmission = Transmission(source.frequency_hz, Place(source.latitude, source.longitude, source.altitude_m))
    signal_sources = [SyntheticSource(rx_id, place, transmission) for rx_id, place in places.items()]
    with run_simulated(*(SimulatedKiwiSdr(signal_source, speed=SPEED) for signal_source in signal_sources)) as urls:
        stations = [
            Station(
                rx_id,
                f"simulated at {where} by heimdall demo",
                places[rx_id].latitude,
                places[rx_id].longitude,
                places[rx_id].altitude_m,
                url=url,
                api_type=ReceiverKind.KIWISDR,
                timeout_seconds=TIMEOUT_S,
            )
            for (rx_id, where), url in zip(RECEIVERS, urls, strict=True)
        ]
        with _active(stores, stations):
            request = RecordRequest(source.frequency_hz, DURATION_S, tuple(places), source.name)
            report = record_session(stores, request, show_progress, RecordingEnvironment(receiver_of=_patient_client))
    print_recording(report)
    if report.status != "completed":
        return False
    outcome = extract_now(stores, get_session(stores.database, report.session_id))
    output.print(f"\nFeatures of {source.name}:")
    print_stations(stores, report.session_id)
    print_checks(outcome)
    return outcome.passed and report.error_message is None


def _patient_client(api_type: str, _limits: WaitLimits) -> Receiver:
    return receiver_of(api_type, WaitLimits(TIMEOUT_S, TIMEOUT_S, TIMEOUT_S, TIMEOUT_S))


@contextmanager
def _active(stores: Stores, stations: list[Station]) -> Iterator[None]:
    """Activate stations for the recording; afterwards they are kept, inactive, for the recorded session."""
    sync_network(stores.database, Network(tuple(stations), (example.SOURCE,), {}))
    try:
        for station in stations:
            assert station.url is not None
            set_station_url(stores.database, station.rx_id, station.url)  # a different port each time
            set_station_active(stores.database, station.rx_id, True)
        yield
    finally:
        for station in stations:
            set_station_active(stores.database, station.rx_id, False)


def _position(network: Network, rx_id: str) -> tuple[float, float, float]:
    position = network.position_of(rx_id)
    assert position is not None
    return position
