"""Simulated receivers: servers that speak the protocols of receivers; `Faults` makes them misbehave."""

from heimdall_pipelines.receivers.simulated_base import NO_FAULTS, Faults, SimulatedReceiver
from heimdall_pipelines.receivers.simulated_kiwi import RECEIVED_HZ, SimulatedClock, SimulatedKiwiSdr
from heimdall_pipelines.receivers.simulated_openwebrx import SimulatedOpenWebRx

__all__ = [
    "NO_FAULTS",
    "RECEIVED_HZ",
    "Faults",
    "SimulatedClock",
    "SimulatedKiwiSdr",
    "SimulatedOpenWebRx",
    "SimulatedReceiver",
]
