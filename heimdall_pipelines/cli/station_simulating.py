"""`heimdall station simulate`: simulated receivers on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heimdall_pipelines.cli.console import output
from heimdall_pipelines.cli.option_values import frequency_hz as parsed_frequency_hz
from heimdall_pipelines.model.receiver_kind import ReceiverKind

if TYPE_CHECKING:
    from heimdall_pipelines.receivers.signal_sources import Place, SignalSource
    from heimdall_pipelines.receivers.simulated_receivers import SimulatedReceiver
    from heimdall_pipelines.stations.network import Network

FIRST_PORT = 8073
PREFIX = "sim-"  # the simulated station may have a row with its true address
SHOWN_DURATION_S = 10.0
_LONGEST_SHOWN_S = 60.0


@dataclass(frozen=True)
class SimulatedStation:
    """A simulated receiver and its position."""

    rx_id: str
    place: Place
    signal_source: SignalSource


def simulate(
    wav: Annotated[
        list[Path] | None,
        typer.Option(help="KiwiSDR recording to replay with the current time; may be repeated: one station each"),
    ] = None,
    frequency: Annotated[str, typer.Option(help="Frequency of a synthetic transmission, with its unit")] = "7.05MHz",
    transmitter: Annotated[
        str, typer.Option(help="Position of the transmitter: LATITUDE,LONGITUDE[,ALTITUDE]")
    ] = "45.05,8.2",
    station: Annotated[list[str] | None, typer.Option(help="Slug of the station to simulate; may be repeated")] = None,
    position: Annotated[
        str | None, typer.Option(help="Position of one unlisted station: LATITUDE,LONGITUDE[,ALTITUDE]")
    ] = None,
    count: Annotated[
        int, typer.Option(help="Number of stations of the network, without --station", min=1, max=100)
    ] = 3,
    api_type: Annotated[
        Literal[ReceiverKind.KIWISDR, ReceiverKind.OPENWEBRX], typer.Option(help="Protocol")
    ] = ReceiverKind.KIWISDR,
    wide: Annotated[
        bool, typer.Option("--wide", help="KiwiSDRs in the mode with channels of 20.25 kHz instead of 12 kHz")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the first station; 0: any", min=0, max=65_000)] = FIRST_PORT,
    speed: Annotated[float, typer.Option(help="Speed relative to real time", min=0.01, max=1e6)] = 1.0,
    password: Annotated[str | None, typer.Option(help="Password for clients; default: none")] = None,
) -> None:
    """Simulate receivers on this machine until Ctrl-C: of a recording, or of one transmission with its delays.

    Shows the commands that add the stations and record from them.
    """
    import asyncio

    from heimdall_pipelines.receivers.signal_sources import (
        NOMINAL_RATE_HZ,
        WIDE_RATE_HZ,
        SyntheticSource,
        Transmission,
    )
    from heimdall_pipelines.stations.network import load_network

    network = load_network()
    place = None if position is None else _place("--position", position)
    if wav:
        stations, frequency_hz, duration_s = _replayed(wav, station, place, network)
    else:
        frequency_hz, duration_s = parsed_frequency_hz(frequency), SHOWN_DURATION_S
        transmission = Transmission(frequency_hz, _place("--transmitter", transmitter))
        rate_hz = WIDE_RATE_HZ if wide else NOMINAL_RATE_HZ
        stations = [
            SimulatedStation(
                PREFIX + rx_id, where, SyntheticSource(rx_id, where, transmission, nominal_rate_hz=rate_hz)
            )
            for rx_id, where in _places(station, place, count, network)
        ]
    simulated = [_simulated_receiver(api_type, one.signal_source, frequency_hz, password, speed) for one in stations]
    asyncio.run(_simulate(stations, simulated, port, frequency_hz, duration_s))


def _simulated_receiver(
    api_type: str, signal_source: SignalSource, frequency_hz: float, password: str | None, speed: float
) -> SimulatedReceiver:
    from heimdall_pipelines.receivers.simulated_receivers import (
        RECEIVED_HZ,
        SimulatedKiwiSdr,
        SimulatedOpenWebRx,
    )

    if api_type == ReceiverKind.OPENWEBRX:
        if password is not None:
            raise typer.BadParameter("--password: OpenWebRX asks listeners for none")
        centre_hz = 1_000_000 * round(frequency_hz / 1e6)
        return SimulatedOpenWebRx(signal_source, center_freq_hz=centre_hz, speed=speed)
    # A KiwiSDR receives higher frequencies with a converter, here to near the middle of its range.
    is_beyond = frequency_hz > RECEIVED_HZ
    converter_hz = 1e6 * round((frequency_hz - RECEIVED_HZ / 2) / 1e6) if is_beyond else 0.0
    return SimulatedKiwiSdr(signal_source, password=password, speed=speed, converter_hz=converter_hz)


async def _simulate(
    stations: Sequence[SimulatedStation],
    simulated: Sequence[SimulatedReceiver],
    port: int,
    frequency_hz: float,
    duration_s: float,
) -> None:
    import asyncio

    from heimdall_pipelines.receivers.simulator import serving

    stopped = asyncio.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(kind, stopped.set)
    async with AsyncExitStack() as stack:
        urls = [
            await stack.enter_async_context(serving(receiver, port=port and port + number))
            for number, receiver in enumerate(simulated)
        ]
        _show(stations, simulated, urls, frequency_hz, duration_s)
        await stopped.wait()


def _show(
    stations: Sequence[SimulatedStation],
    simulated: Sequence[SimulatedReceiver],
    urls: Sequence[str],
    frequency_hz: float,
    duration_s: float,
) -> None:
    lines = [f"{one.rx_id} listens at {url}" for one, url in zip(stations, urls, strict=True)]
    lines.append("To add the stations, once:")
    for one, receiver, url in zip(stations, simulated, urls, strict=True):
        place = one.place
        address = url.replace("//", "//:PASSWORD@") if receiver.needs_password else url
        lines.append(
            f"  heimdall station add {one.rx_id} --latitude={place.latitude:.9g} --longitude={place.longitude:.9g} "
            f"--altitude-m={place.altitude_m:g} --api-type={receiver.api_type} --url={address}"
        )
    rx_ids = ",".join(one.rx_id for one in stations)
    lines.append("To record from them:")
    lines.append(
        f"  heimdall session record --frequency={frequency_hz:.10g}Hz --duration={duration_s:g} --stations={rx_ids}"
    )
    lines.append("Ctrl-C to stop.")
    output.print("\n".join(lines))


def _replayed(
    files: Sequence[Path], rx_ids: Sequence[str] | None, place: Place | None, network: Network
) -> tuple[list[SimulatedStation], float, float]:
    """Stations that replay files, the frequency, and the shortest duration."""
    from heimdall_pipelines.formats.recording import open_recording
    from heimdall_pipelines.model.slugs import slug
    from heimdall_pipelines.receivers.signal_sources import ReplayClock, WavSource

    if rx_ids and len(rx_ids) != len(files):
        raise typer.BadParameter(f"--station must be given for each of the {len(files)} files, or for none")
    if place is not None and len(files) > 1:
        raise typer.BadParameter("--position is for one station: give one file")
    recordings = [open_recording(file) for file in files]
    clock = ReplayClock(min(recording.start_time_unix_ns for recording in recordings))
    stations = []
    for number, recording in enumerate(recordings):
        rx_id = rx_ids[number] if rx_ids else slug(recording.receiver_name or recording.path.stem)
        where = place or _place_of(rx_id, network)
        signal_source = WavSource(recording.path, moved_by_s=clock.moved_by_s)
        stations.append(SimulatedStation(PREFIX + rx_id, where, signal_source))
    shortest_s = min(recording.num_samples / recording.sample_rate_hz for recording in recordings)
    return stations, recordings[0].frequency_hz, min(_LONGEST_SHOWN_S, int(10 * shortest_s - 1) / 10)


def _places(rx_ids: Sequence[str] | None, place: Place | None, count: int, network: Network) -> list[tuple[str, Place]]:
    if place is not None:
        if rx_ids and len(rx_ids) > 1:
            raise typer.BadParameter("--position is for one station: give at most one --station")
        return [(rx_ids[0] if rx_ids else "here", place)]
    if not rx_ids:
        rx_ids = [station.rx_id for station in network.stations[:count]]
    return [(rx_id, _place_of(rx_id, network)) for rx_id in rx_ids]


def _place_of(rx_id: str, network: Network) -> Place:
    from heimdall_pipelines.receivers.signal_sources import Place

    position = network.position_of(rx_id)
    if position is None:
        raise typer.BadParameter(f"the position of {rx_id} is unknown: give --position LATITUDE,LONGITUDE")
    return Place(*position)


def _place(option: str, text: str) -> Place:
    from heimdall_pipelines.receivers.signal_sources import Place

    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not (abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180):
        raise typer.BadParameter(f"{option} {text}: LATITUDE,LONGITUDE in degrees is expected, such as 45.05,8.2")
    return Place(*numbers)
