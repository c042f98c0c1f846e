"""Parameters of a synthetic dataset as a table: defaults, ranges and descriptions.

The fields of `DatasetSpec` and the options of `heimdall dataset create` are made from it. It loads neither pydantic nor
any numerical module, so that the command's help is quick.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from heimdall_pipelines.rf.environment import ENVIRONMENTS

DatasetType = Literal["feature_based", "iq_raw"]
Bandwidth = Literal[12500, 25000]
TerrainChoice = Literal["auto", "none"]
MIN_CHUNK_MS = 20  # rf.features.MIN_CHUNK_S


@dataclass(frozen=True)
class Parameter:
    """A row of the table: inclusive bounds ``ge`` and ``le``, exclusive ``gt``, in the unit of the description."""

    name: str
    kind: type[float] | type[int] | type[str] | type[bool]
    default: Any
    description: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    choices: tuple[str | int, ...] = ()


# area_margin_deg is 0.2 by default since over a smooth Earth a margin of 0.5 leaves 87 % of the drawn scenes
# acceptable, 0.2 leaves 93 % (see `rf.scene.draw_scene`).
_ROWS = (
    Parameter(
        "dataset_type",
        str,
        "feature_based",
        "feature_based keeps the IQ of the first 100 samples, iq_raw of all",
        choices=get_args(DatasetType),
    ),
    Parameter("frequency_mhz", float, 145.0, "Carrier frequency, MHz", ge=30, le=3000),
    Parameter("tx_power_dbm", float, 37.0, "Power into the transmitter's antenna, dBm", ge=-30, le=70),
    Parameter(
        "bandwidth_hz",
        int,
        12500,
        "Width of the channel, Hz; the peak deviation is a fifth of it",
        choices=get_args(Bandwidth),
    ),
    Parameter("min_snr_db", float, 3.0, "SNR over the sampled band from which a receiver detects, dB", ge=-20, le=60),
    Parameter("min_receivers", int, 3, "Receivers that have to detect a transmission", ge=1, le=100),
    Parameter("max_gdop", float, 10.0, "Greatest GDOP of the receivers that detect", gt=0, le=1000),
    Parameter("inside_ratio", float, 0.7, "Share of transmitters drawn inside the receivers' box", ge=0, le=1),
    Parameter(
        "area_margin_deg", float, 0.2, "Enlarges the receivers' box for the other transmitters, degrees", ge=0, le=5
    ),
    Parameter(
        "use_random_receivers", bool, False, "Draw receivers at random around the stations, anew for each sample"
    ),
    Parameter("min_receivers_count", int, 5, "Fewest random receivers of a sample", ge=1, le=50),
    Parameter("max_receivers_count", int, 10, "Most random receivers of a sample", ge=1, le=50),
    Parameter("sample_rate_hz", int, 200_000, "Complex samples per second", ge=20_000, le=2_400_000),
    Parameter("duration_ms", int, 1000, "Length of a sample's IQ, ms", ge=20, le=10_000),
    Parameter(
        "chunk_duration_ms", int, 200, "Length of a chunk that features are taken of", ge=MIN_CHUNK_MS, le=10_000
    ),
    Parameter("num_chunks", int, 5, "Chunks of a sample; they fill it", ge=1, le=500),
    Parameter("batch_size", int, 1000, "Samples of a batch, a partition in Dagster", ge=1, le=10_000),
    Parameter("mobile_ratio", float, 0.5, "Share of vehicles among the transmitters, not base stations", ge=0, le=1),
    Parameter("environment", str, "residential", "Around the antennas: noise, delay spread", choices=ENVIRONMENTS),
    Parameter(
        "terrain",
        str,
        "auto",
        "auto: the finest terrain that covers the area, frozen with the dataset; none: a smooth Earth",
        choices=get_args(TerrainChoice),
    ),
    Parameter("multipath", bool, True, "Whether there are echoes"),
    Parameter("fading", bool, True, "Whether there is scattering: Rice factor and Doppler"),
    Parameter("oscillator_ppm", float, 0.5, "Standard deviation of each oscillator's error, ppm", ge=0, le=100),
    Parameter(
        "receiver_clock_ns", float, 50.0, "Standard deviation of each receiver's clock error, ns", ge=0, le=10_000
    ),
    Parameter("iq_gain_db", float, 0.0, "IQ imbalance: gain of I over that of Q, dB", ge=-6, le=6),
    Parameter("iq_phase_deg", float, 0.0, "IQ imbalance: error of the right angle, degrees", ge=-45, le=45),
    Parameter(
        "dc_offset_db", float, None, "Power of a constant over that of the samples, dB; none if null", ge=-100, le=20
    ),
    Parameter("adc_bits", int, None, "Bits of I and of Q; not quantised if null", ge=2, le=24),
)
PARAMETERS = {row.name: row for row in _ROWS}
# Of datasets that are older than the parameter, where that is not its default.
_BEFORE: Mapping[str, Any] = {"terrain": "none", "receiver_clock_ns": 0.0}


def completed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a dataset's row, with the values that later ones had before they existed.

    >>> completed({"seed": 1, "terrain": "auto"})
    {'terrain': 'auto', 'receiver_clock_ns': 0.0, 'seed': 1}
    """
    return {**_BEFORE, **spec}


def stored_parameter(spec: Mapping[str, Any], name: str) -> Any:
    """Read a parameter from a dataset's row; its value before it existed where the row is older."""
    return completed(spec).get(name, PARAMETERS[name].default)


def allowed_values(name: str) -> str:
    """Allowed values of a parameter, in words; empty for booleans.

    >>> allowed_values("frequency_mhz")
    '30 to 3000'
    """
    row = PARAMETERS[name]
    if row.choices:
        return " or ".join(str(choice) for choice in row.choices)
    if row.le is None:
        return ""
    if row.gt is not None:
        return f"more than {row.gt:.10g}, at most {row.le:.10g}"
    return f"{row.ge:.10g} to {row.le:.10g}"
