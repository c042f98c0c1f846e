"""What a synthetic dataset is made from: its parameters, checked once where they enter and frozen from then on."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.rf.channel import Impairments
from heimdall_pipelines.rf.environment import Environment
from heimdall_pipelines.rf.features import MIN_CHUNK_S
from heimdall_pipelines.rf.scene import SceneSpec
from heimdall_pipelines.rf.spectrum import USABLE_BAND

MAX_NUM_SAMPLES = 5_000_000
MAX_SEED = 2**63 - 1
MAX_SAMPLES_PER_RECEIVER = 5_000_000  # 40 MB; a handful of receptions are in memory at once
_LONGEST_SHOWN = 100

DatasetType = Literal["feature_based", "iq_raw"]


class InvalidSpecError(HeimdallError):
    """A parameter of a dataset is not what it may be; the message names each field, its value and what is allowed."""


class DatasetSpec(BaseModel):
    """Parameters of a dataset; with a seed they determine every sample.

    Every field's description says what it is, its constraint what is allowed. `area_margin_deg` is 0.2 by default since
    a margin of 0.5 leaves 87 % of the drawn scenes acceptable, 0.2 leaves 93 % (see `rf.scene.draw_scene`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset_type: DatasetType = Field(
        default="feature_based", description="feature_based keeps the IQ of the first 100 samples, iq_raw of all"
    )
    frequency_mhz: float = Field(default=145.0, ge=30, le=3000, description="Carrier frequency, MHz")
    tx_power_dbm: float = Field(default=37.0, ge=-30, le=70, description="Power into the transmitter's antenna, dBm")
    bandwidth_hz: Literal[12500, 25000] = Field(
        default=12500, description="Width of the channel, Hz; the peak deviation is a fifth of it"
    )
    min_snr_db: float = Field(
        default=3.0, ge=-20, le=60, description="SNR over the sampled band from which a receiver detects, dB"
    )
    min_receivers: int = Field(default=3, ge=1, le=100, description="Receivers that have to detect a transmission")
    max_gdop: float = Field(default=10.0, gt=0, le=1000, description="Greatest GDOP of the receivers that detect")
    inside_ratio: float = Field(
        default=0.7, ge=0, le=1, description="Share of transmitters drawn inside the receivers' box"
    )
    area_margin_deg: float = Field(
        default=0.2, ge=0, le=5, description="Enlarges the receivers' box for the other transmitters, degrees"
    )
    use_random_receivers: bool = Field(
        default=False, description="Draw receivers at random around the stations, anew for each sample"
    )
    min_receivers_count: int = Field(default=5, ge=1, le=50, description="Fewest random receivers of a sample")
    max_receivers_count: int = Field(default=10, ge=1, le=50, description="Most random receivers of a sample")
    sample_rate_hz: int = Field(default=200_000, ge=20_000, le=2_400_000, description="Complex samples per second")
    duration_ms: int = Field(default=1000, ge=20, le=10_000, description="Length of a sample's IQ, ms")
    chunk_duration_ms: int = Field(
        default=200, ge=round(MIN_CHUNK_S * 1e3), le=10_000, description="Length of a chunk that features are taken of"
    )
    num_chunks: int = Field(default=5, ge=1, le=500, description="Chunks of a sample; they fill it")
    batch_size: int = Field(default=1000, ge=1, le=10_000, description="Samples of a batch, a partition in Dagster")
    environment: Environment = Field(default="residential", description="Around the antennas: noise, delay spread")
    multipath: bool = Field(default=True, description="Whether there are echoes")
    fading: bool = Field(default=True, description="Whether there is scattering: Rice factor and Doppler")
    oscillator_ppm: float = Field(
        default=0.5, ge=0, le=100, description="Standard deviation of each oscillator's error, ppm"
    )
    iq_gain_db: float = Field(default=0.0, ge=-6, le=6, description="IQ imbalance: gain of I over that of Q, dB")
    iq_phase_deg: float = Field(
        default=0.0, ge=-45, le=45, description="IQ imbalance: error of the right angle, degrees"
    )
    dc_offset_db: float | None = Field(
        default=None, ge=-100, le=20, description="Power of a constant over that of the samples, dB; none if null"
    )
    adc_bits: int | None = Field(default=None, ge=2, le=24, description="Bits of I and of Q; not quantised if null")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        problems = []
        if self.chunk_duration_ms * self.num_chunks != self.duration_ms:
            problems.append(
                f"duration_ms {self.duration_ms} is not num_chunks {self.num_chunks} times "
                f"chunk_duration_ms {self.chunk_duration_ms}, which is {self.num_chunks * self.chunk_duration_ms}"
            )
        if self.sample_rate_hz * self.chunk_duration_ms % 1000:
            problems.append(
                f"sample_rate_hz {self.sample_rate_hz} gives no whole number of samples in "
                f"chunk_duration_ms {self.chunk_duration_ms}"
            )
        if self.num_iq_samples > MAX_SAMPLES_PER_RECEIVER:
            problems.append(
                f"duration_ms {self.duration_ms} at sample_rate_hz {self.sample_rate_hz} are {self.num_iq_samples} "
                f"samples per receiver, {MAX_SAMPLES_PER_RECEIVER} are allowed"
            )
        if self.bandwidth_hz > USABLE_BAND * self.sample_rate_hz:
            problems.append(
                f"bandwidth_hz {self.bandwidth_hz} is wider than the usable {USABLE_BAND:.0%} "
                f"of sample_rate_hz {self.sample_rate_hz}"
            )
        if self.max_receivers_count < self.min_receivers_count:
            problems.append(
                f"max_receivers_count {self.max_receivers_count} is less than "
                f"min_receivers_count {self.min_receivers_count}"
            )
        if self.use_random_receivers and self.min_receivers > self.max_receivers_count:
            problems.append(
                f"min_receivers {self.min_receivers} is more than max_receivers_count {self.max_receivers_count}"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def frequency_hz(self) -> float:
        """Carrier frequency."""
        return self.frequency_mhz * 1e6

    @property
    def duration_s(self) -> float:
        """Length of a sample's IQ."""
        return self.duration_ms / 1e3

    @property
    def num_iq_samples(self) -> int:
        """Complex samples of one receiver's IQ."""
        return round(self.sample_rate_hz * self.duration_ms / 1e3)

    def scene_spec(self) -> SceneSpec:
        """From what scenes are drawn."""
        return SceneSpec(
            frequency_hz=self.frequency_hz,
            tx_power_dbm=self.tx_power_dbm,
            sample_rate_hz=self.sample_rate_hz,
            environment=self.environment,
            inside_ratio=self.inside_ratio,
            margin_deg=self.area_margin_deg,
            min_snr_db=self.min_snr_db,
            min_receivers=self.min_receivers,
            max_gdop=self.max_gdop,
            oscillator_ppm=self.oscillator_ppm,
            multipath=self.multipath,
            fading=self.fading,
        )

    def impairments(self) -> Impairments:
        """What each receiver's hardware adds."""
        return Impairments(
            iq_gain_db=self.iq_gain_db,
            iq_phase_deg=self.iq_phase_deg,
            dc_offset_db=self.dc_offset_db,
            adc_bits=self.adc_bits,
        )


def parse_spec(values: Mapping[str, Any]) -> DatasetSpec:
    """Check the parameters of a dataset; those that are not given take their defaults.

    Raises
    ------
    InvalidSpecError
        Names each field, its value and what is allowed.
    """
    try:
        return DatasetSpec.model_validate(dict(values))
    except ValidationError as error:
        lines = [
            _problem(problem["loc"], problem["msg"], problem["input"]) for problem in error.errors(include_url=False)
        ]
        raise InvalidSpecError("the dataset cannot be as asked for:\n" + "\n".join(lines)) from None


def check_num_samples(value: int) -> int:
    """Total of samples that a dataset may have; an error names the allowed range."""
    if not 1 <= value <= MAX_NUM_SAMPLES:
        raise InvalidSpecError(f"target_num_samples {value}: 1 to {MAX_NUM_SAMPLES} are allowed")
    return value


def check_seed(value: int) -> int:
    """Seed that a dataset may have; an error names the allowed range."""
    if not 0 <= value <= MAX_SEED:
        raise InvalidSpecError(f"seed {value}: 0 to {MAX_SEED} are allowed")
    return value


def allowed_values(name: str) -> str:
    """What a field of `DatasetSpec` may be, in words; empty for those that are on or off.

    >>> allowed_values("frequency_mhz")
    '30 to 3000'
    """
    field = DatasetSpec.model_fields[name]
    if get_origin(field.annotation) is Literal:
        return " or ".join(str(choice) for choice in get_args(field.annotation))
    bounds = {
        bound: f"{getattr(part, bound):.10g}"
        for part in field.metadata
        for bound in ("ge", "gt", "le")
        if getattr(part, bound, None) is not None
    }
    if not bounds:
        return ""
    if "gt" in bounds:
        return f"more than {bounds['gt']}, at most {bounds['le']}"
    return f"{bounds['ge']} to {bounds['le']}"


def _problem(location: tuple[int | str, ...], message: str, value: Any) -> str:
    if not location:
        return "  " + message.removeprefix("Value error, ")
    name = str(location[0])
    if name not in DatasetSpec.model_fields:
        return f"  {name}: there is no such parameter"
    why = message.removeprefix("Input should be ")
    says_it_all = "than" in why or get_origin(DatasetSpec.model_fields[name].annotation) is not None
    allowed = allowed_values(name)
    return f"  {name} {_shown(value)}: {allowed or why} is allowed" + (
        "" if says_it_all or not allowed else f" ({why})"
    )


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "(too long to be shown)"
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
