"""Parameters of a synthetic dataset: checked once, frozen afterwards."""

from collections.abc import Mapping
from typing import Any, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from heimdall_pipelines.errors import HeimdallError
from heimdall_pipelines.field_problems import FieldProblem, field_problems
from heimdall_pipelines.model.dataset_parameters import (
    PARAMETERS,
    Bandwidth,
    DatasetType,
    TerrainChoice,
    allowed_values,
)
from heimdall_pipelines.rf.channel import Impairments
from heimdall_pipelines.rf.environment import Environment
from heimdall_pipelines.rf.scene import SceneSpec
from heimdall_pipelines.rf.spectrum import USABLE_BAND

MAX_NUM_SAMPLES = 5_000_000
MAX_SEED = 2**63 - 1
MAX_SAMPLES_PER_RECEIVER = 5_000_000  # 40 MB; a handful of receptions are in memory at once
_LONGEST_SHOWN = 100


class InvalidSpecError(HeimdallError):
    """A parameter of a dataset is invalid; the message names each field, its value and what is allowed."""


def _field(name: str) -> Any:
    """A field with default, range and description from the table of parameters."""
    row = PARAMETERS[name]
    return Field(default=row.default, ge=row.ge, gt=row.gt, le=row.le, description=row.description)


class DatasetSpec(BaseModel):
    """Parameters of a dataset; with a seed they determine every sample.

    Defaults, ranges and descriptions are in the table `model.dataset_parameters`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset_type: DatasetType = _field("dataset_type")
    frequency_mhz: float = _field("frequency_mhz")
    tx_power_dbm: float = _field("tx_power_dbm")
    bandwidth_hz: Bandwidth = _field("bandwidth_hz")
    min_snr_db: float = _field("min_snr_db")
    min_receivers: int = _field("min_receivers")
    max_gdop: float = _field("max_gdop")
    inside_ratio: float = _field("inside_ratio")
    area_margin_deg: float = _field("area_margin_deg")
    use_random_receivers: bool = _field("use_random_receivers")
    min_receivers_count: int = _field("min_receivers_count")
    max_receivers_count: int = _field("max_receivers_count")
    sample_rate_hz: int = _field("sample_rate_hz")
    duration_ms: int = _field("duration_ms")
    chunk_duration_ms: int = _field("chunk_duration_ms")
    num_chunks: int = _field("num_chunks")
    batch_size: int = _field("batch_size")
    mobile_ratio: float = _field("mobile_ratio")
    environment: Environment = _field("environment")
    terrain: TerrainChoice = _field("terrain")
    multipath: bool = _field("multipath")
    fading: bool = _field("fading")
    oscillator_ppm: float = _field("oscillator_ppm")
    receiver_clock_ns: float = _field("receiver_clock_ns")
    iq_gain_db: float = _field("iq_gain_db")
    iq_phase_deg: float = _field("iq_phase_deg")
    dc_offset_db: float | None = _field("dc_offset_db")
    adc_bits: int | None = _field("adc_bits")

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

    def to_json(self) -> dict[str, Any]:
        """Every parameter, as `parse_spec` reads it."""
        return self.model_dump(mode="json")

    def scene_spec(self) -> SceneSpec:
        """Parameters of the scenes."""
        return SceneSpec(
            frequency_hz=self.frequency_hz,
            tx_power_dbm=self.tx_power_dbm,
            sample_rate_hz=self.sample_rate_hz,
            environment=self.environment,
            mobile_ratio=self.mobile_ratio,
            inside_ratio=self.inside_ratio,
            margin_deg=self.area_margin_deg,
            min_snr_db=self.min_snr_db,
            min_receivers=self.min_receivers,
            max_gdop=self.max_gdop,
            oscillator_ppm=self.oscillator_ppm,
            receiver_clock_ns=self.receiver_clock_ns,
            multipath=self.multipath,
            fading=self.fading,
        )

    def impairments(self) -> Impairments:
        """Effects of each receiver's hardware."""
        return Impairments(
            iq_gain_db=self.iq_gain_db,
            iq_phase_deg=self.iq_phase_deg,
            dc_offset_db=self.dc_offset_db,
            adc_bits=self.adc_bits,
        )


def parse_spec(values: Mapping[str, Any]) -> DatasetSpec:
    """Check the parameters of a dataset; omitted ones take their defaults.

    Raises
    ------
    InvalidSpecError
        Names each field, its value and what is allowed.
    """
    try:
        return DatasetSpec.model_validate(dict(values))
    except ValidationError as error:
        lines = [_problem_line(problem) for problem in field_problems(error)]
        raise InvalidSpecError("parameters of the dataset are invalid:\n" + "\n".join(lines)) from None


def check_num_samples(value: int) -> int:
    """Return the number of samples if it is allowed; the error names the range."""
    if not 1 <= value <= MAX_NUM_SAMPLES:
        raise InvalidSpecError(f"target_num_samples {value}: 1 to {MAX_NUM_SAMPLES} are allowed")
    return value


def check_seed(value: int) -> int:
    """Return the seed if it is allowed; the error names the range."""
    if not 0 <= value <= MAX_SEED:
        raise InvalidSpecError(f"seed {value}: 0 to {MAX_SEED} are allowed")
    return value


def _problem_line(problem: FieldProblem) -> str:
    if not problem.location:
        return f"  {problem.message}"
    name = problem.location[0]
    if name not in DatasetSpec.model_fields:
        return f"  {name}: there is no such parameter"
    why = problem.message.removeprefix("Input should be ")
    says_it_all = "than" in why or get_origin(DatasetSpec.model_fields[name].annotation) is not None
    allowed = allowed_values(name)
    return f"  {name} {_shown(problem.value)}: {allowed or why} is allowed" + (
        "" if says_it_all or not allowed else f" ({why})"
    )


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "(too long to be shown)"
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
