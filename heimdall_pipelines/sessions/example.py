"""A small session with known truth, written as KiwiSDR files: for demonstrations, without a radio."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heimdall_pipelines.formats.kiwi_wav import kiwi_wav_name, write_kiwi_wav
from heimdall_pipelines.rf.geodesy import propagation_delay_s
from heimdall_pipelines.rf.signals import complex_noise, frequency_modulated_phase_rad
from heimdall_pipelines.stations.network import Network
from heimdall_pipelines.store.known_sources import KnownSource
from heimdall_pipelines.store.stations import Station

SOURCE = KnownSource("example-transmitter", 7_050_000.0, 45.05, 8.2, 150.0, 40.0)
START_TIME_UNIX_NS = 1_767_268_800 * 10**9  # 2026-01-01 12:00:00 UTC
DURATION_S = 12.5
NOMINAL_SAMPLE_RATE_HZ = 12_001
TONE_HZ = 700.0
DEVIATION_HZ = 2_000.0
_NOISE_POWER = 1e-6  # of full scale, over the sampled band


@dataclass(frozen=True)
class ExampleStation:
    """How one station of the example receives the transmission."""

    rx_id: str
    snr_db: float
    frequency_offset_hz: float
    sample_rate_hz: float


STATIONS = (
    ExampleStation("torino", 30.0, 1.25, 12_001.135),
    ExampleStation("genova", 20.0, -2.5, 12_001.042),
    ExampleStation("milano-baggio", 10.0, 0.75, 12_000.954),
)


def write_example_recordings(folder: Path, network: Network) -> list[Path]:
    """Write one KiwiSDR WAV file per station of the example.

    One frequency-modulated carrier, received by each station after the time that light takes from
    ``SOURCE``, with the station's own oscillator offset, sample rate and noise. The same files every time.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    network : Network
        Where the stations are.

    Returns
    -------
    list of Path
        One file per entry of ``STATIONS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write(folder, example, _station(network, example.rx_id), number) for number, example in enumerate(STATIONS)
    ]


def delay_s(station: Station) -> float:
    """Propagation delay of the transmission to a station, s."""
    return float(
        propagation_delay_s(
            SOURCE.latitude,
            SOURCE.longitude,
            SOURCE.altitude_m,
            station.latitude,
            station.longitude,
            station.altitude_m,
        )
    )


def _station(network: Network, rx_id: str) -> Station:
    return next(station for station in network.stations if station.rx_id == rx_id)


def _write(folder: Path, example: ExampleStation, station: Station, number: int) -> Path:
    time_s = np.arange(int(DURATION_S * example.sample_rate_hz)) / example.sample_rate_hz
    received_rad = frequency_modulated_phase_rad(time_s - delay_s(station), tone_hz=TONE_HZ, deviation_hz=DEVIATION_HZ)
    phase_rad = received_rad + 2 * np.pi * example.frequency_offset_hz * time_s
    amplitude = np.sqrt(_NOISE_POWER * 10 ** (example.snr_db / 10))
    noise = complex_noise(np.random.Generator(np.random.Philox(key=number)), time_s.shape, _NOISE_POWER)
    path = folder / kiwi_wav_name(START_TIME_UNIX_NS, SOURCE.frequency_hz, example.rx_id.upper())
    write_kiwi_wav(
        path,
        (amplitude * np.exp(1j * phase_rad) + noise).astype(np.complex64),
        nominal_sample_rate_hz=NOMINAL_SAMPLE_RATE_HZ,
        true_sample_rate_hz=example.sample_rate_hz,
        start_time_unix_ns=START_TIME_UNIX_NS,
    )
    return path
