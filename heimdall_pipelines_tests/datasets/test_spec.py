"""A dataset's parameters: what is allowed, and errors that name the field, its value and the allowed range."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdall_pipelines.datasets.samples import draw_sample, make_sample
from heimdall_pipelines.model.dataset_spec import (
    MAX_NUM_SAMPLES,
    MAX_SEED,
    DatasetSpec,
    InvalidSpecError,
    check_num_samples,
    check_seed,
    parse_spec,
)
from heimdall_pipelines_tests.datasets.support import SMALL, any_scene, recipe

# The least and the greatest of each field, as the documentation and the physics have them.
RANGES = {
    "frequency_mhz": (30, 3000),
    "tx_power_dbm": (-30, 70),
    "min_snr_db": (-20, 60),
    "min_receivers": (1, 100),
    "max_gdop": (0, 1000),
    "inside_ratio": (0, 1),
    "area_margin_deg": (0, 5),
    "min_receivers_count": (1, 50),
    "max_receivers_count": (1, 50),
    "sample_rate_hz": (20_000, 2_400_000),
    "duration_ms": (20, 10_000),
    "chunk_duration_ms": (20, 10_000),
    "num_chunks": (1, 500),
    "batch_size": (1, 10_000),
    "mobile_ratio": (0, 1),
    "oscillator_ppm": (0, 100),
    "receiver_clock_ns": (0, 10_000),
    "iq_gain_db": (-6, 6),
    "iq_phase_deg": (-45, 45),
    "dc_offset_db": (-100, 20),
    "adc_bits": (2, 24),
}
EXCLUSIVE = {"max_gdop"}
CHOICES = {
    "dataset_type": ("feature_based", "iq_raw"),
    "bandwidth_hz": (12500, 25000),
    "environment": ("city", "residential", "rural"),
    "terrain": ("auto", "none"),
}
FLAGS = {"use_random_receivers", "multipath", "fading"}
REALS = [name for name, field in DatasetSpec.model_fields.items() if "float" in str(field.annotation)]
# What has to go with a value at the end of a field's range.
COMPANIONS = {
    "duration_ms": {20: {"chunk_duration_ms": 20, "num_chunks": 1}, 10_000: {"num_chunks": 500}},
    "chunk_duration_ms": {10_000: {"duration_ms": 10_000, "num_chunks": 1}},
    "num_chunks": {1: {"duration_ms": 20}, 500: {"duration_ms": 10_000}},
    "min_receivers_count": {1: {"use_random_receivers": True}, 50: {"max_receivers_count": 50}},
    "max_receivers_count": {
        1: {"min_receivers_count": 1, "min_receivers": 1, "use_random_receivers": True},
        50: {"use_random_receivers": True},
    },
}


def problems(**values) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        parse_spec(values)
    return str(caught.value)


def allowed(name: str) -> str:
    low, high = RANGES[name]
    return f"more than {low}, at most {high}" if name in EXCLUSIVE else f"{low} to {high}"


def test_the_defaults_are_those_of_the_documentation():
    assert parse_spec({}).model_dump() == {
        "dataset_type": "feature_based",
        "frequency_mhz": 145.0,
        "tx_power_dbm": 37.0,
        "bandwidth_hz": 12500,
        "min_snr_db": 3.0,
        "min_receivers": 3,
        "max_gdop": 10.0,
        "inside_ratio": 0.7,
        "area_margin_deg": 0.2,  # not 0.5: 90 % of the scenes are to be acceptable
        "use_random_receivers": False,
        "min_receivers_count": 5,
        "max_receivers_count": 10,
        "sample_rate_hz": 200_000,
        "duration_ms": 1000,
        "chunk_duration_ms": 200,
        "num_chunks": 5,
        "batch_size": 1000,
        "mobile_ratio": 0.5,
        "environment": "residential",
        "terrain": "auto",
        "multipath": True,
        "fading": True,
        "oscillator_ppm": 0.5,
        "receiver_clock_ns": 50.0,
        "iq_gain_db": 0.0,
        "iq_phase_deg": 0.0,
        "dc_offset_db": None,
        "adc_bits": None,
    }


def test_every_field_is_covered_here_and_described():
    assert set(DatasetSpec.model_fields) == set(RANGES) | set(CHOICES) | FLAGS
    assert all(field.description for field in DatasetSpec.model_fields.values())


@pytest.mark.parametrize("name", RANGES)
def test_beyond_either_end_the_error_names_field_value_and_range(name):
    low, high = RANGES[name]
    step = 1 if isinstance(parse_spec({}).model_dump()[name], int) or name == "adc_bits" else 0.001
    for value in (low if name in EXCLUSIVE else low - step, high + step):
        message = problems(**{name: value})
        assert f"{name} {value!r}: {allowed(name)} is allowed" in message


@pytest.mark.parametrize("name", CHOICES)
def test_an_invalid_choice_is_named_with_the_valid_ones(name):
    message = problems(**{name: "other"})
    assert f"{name} 'other': " in message
    assert all(str(choice) in message for choice in CHOICES[name])


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_what_is_neither_true_nor_false_is_named(name):
    assert f"{name} 'perhaps': " in problems(**{name: "perhaps"})


@pytest.mark.parametrize("name", REALS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_no_numbers(name, value):
    assert f"{name} {value!r}: {allowed(name)} is allowed" in problems(**{name: value})


@pytest.mark.parametrize("name", ["min_receivers", "sample_rate_hz", "num_chunks", "batch_size", "adc_bits"])
def test_what_is_counted_is_whole(name):
    assert f"{name} 3.5: " in problems(**{name: 3.5})


@pytest.mark.parametrize("name", [name for name in RANGES if name not in ("dc_offset_db", "adc_bits")])
def test_null_does_not_mean_the_default(name):
    assert f"{name} None: " in problems(**{name: None})


@pytest.mark.parametrize("end", [0, 1], ids=["least", "greatest"])
@pytest.mark.parametrize("name", RANGES)
def test_a_value_at_the_end_of_its_range_makes_a_sample(name, end):
    value = RANGES[name][end]
    if name in EXCLUSIVE and end == 0:
        value = 1e-9
    of = recipe(**SMALL | {name: value} | COMPANIONS.get(name, {}).get(value, {}))
    assert getattr(of.spec, name) == value
    sample = any_scene(of)
    row = make_sample(of, sample)
    json.dumps([receiver.to_json() for receiver in row.receivers], allow_nan=False)
    assert len(row.receivers) == len(sample.sites)


def test_samples_at_the_corners_of_what_is_allowed_can_be_made():
    """High frequency, bad oscillators, strong and coarse: numbers that might overflow or alias."""
    extreme = {
        "frequency_mhz": 3000,
        "tx_power_dbm": 70,
        "oscillator_ppm": 100,
        "area_margin_deg": 5,
        "inside_ratio": 0,
        "environment": "city",
        "iq_gain_db": 6,
        "iq_phase_deg": -45,
        "dc_offset_db": 20,
        "adc_bits": 2,
        "max_gdop": 1000,
        "min_snr_db": -20,
    }
    of = recipe(**SMALL | extreme)
    row = make_sample(of, draw_sample(of, 0, 1000))
    json.dumps(row.columns(), allow_nan=False)


@pytest.mark.parametrize(
    "name", ["tx_power_dbm", "min_snr_db", "oscillator_ppm", "area_margin_deg", "inside_ratio", "iq_gain_db"]
)
def test_zero_is_a_value(name):
    assert getattr(parse_spec({name: 0}), name) == 0
    scene_spec = parse_spec({name: 0}).scene_spec()
    attribute = {"area_margin_deg": "margin_deg"}.get(name, name)
    if hasattr(scene_spec, attribute):
        assert getattr(scene_spec, attribute) == 0


def test_a_dc_offset_of_zero_decibels_is_one():
    assert parse_spec({"dc_offset_db": 0}).impairments().dc_offset_db == 0
    assert parse_spec({}).impairments().dc_offset_db is None


def test_every_problem_is_named_at_once():
    message = problems(tx_power_dbm=99, min_receivers=0, environment="sea", colour="red")
    assert [line.split()[0] for line in message.splitlines()[1:]] == [
        "tx_power_dbm",
        "min_receivers",
        "environment",
        "colour:",
    ]


@pytest.mark.parametrize("name", ["name", "snr", "min_snr", "", "self", "target_num_samples", "seed"])
def test_an_unknown_parameter_is_named(name):
    assert f"  {name}: there is no such parameter" in problems(**{name: 1})


@pytest.mark.parametrize("values", [{1: 2}, {None: 1}, {"max_gdop": 10**5000}], ids=["number", "none", "huge"])
def test_odd_keys_and_values_are_invalid_too(values):
    with pytest.raises(InvalidSpecError):
        parse_spec(values)


def test_a_long_value_is_not_repeated_in_full():
    assert len(problems(environment="x" * 100_000)) < 500


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"duration_ms": 999}, ["duration_ms 999", "num_chunks 5", "chunk_duration_ms 200", "1000"]),
        ({"num_chunks": 4}, ["duration_ms 1000", "num_chunks 4", "800"]),
        (
            {"sample_rate_hz": 44_099, "chunk_duration_ms": 20, "num_chunks": 50},
            ["sample_rate_hz 44099", "chunk_duration_ms 20"],
        ),
        (
            {"sample_rate_hz": 2_400_000, "duration_ms": 10_000, "num_chunks": 50},
            ["duration_ms 10000", "sample_rate_hz 2400000", "24000000", "5000000"],
        ),
        ({"bandwidth_hz": 25_000, "sample_rate_hz": 30_000}, ["bandwidth_hz 25000", "sample_rate_hz 30000", "80%"]),
        ({"min_receivers_count": 11}, ["max_receivers_count 10", "min_receivers_count 11"]),
        ({"use_random_receivers": True, "min_receivers": 11}, ["min_receivers 11", "max_receivers_count 10"]),
    ],
)
def test_fields_that_do_not_fit_together_are_named_with_their_values(values, named):
    message = problems(**values)
    assert [part for part in named if part not in message] == []


def test_several_misfits_are_named_at_once():
    message = problems(duration_ms=999, min_receivers_count=11)
    assert "duration_ms 999" in message
    assert "min_receivers_count 11" in message


@pytest.mark.parametrize("value", [0, -1, MAX_NUM_SAMPLES + 1])
def test_a_total_out_of_range_is_named_with_it(value):
    with pytest.raises(InvalidSpecError, match=f"target_num_samples {value}: 1 to 5000000 are allowed"):
        check_num_samples(value)


@pytest.mark.parametrize("value", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_named_with_it(value):
    with pytest.raises(InvalidSpecError, match=f"seed {value}: 0 to {MAX_SEED} are allowed"):
        check_seed(value)


def test_totals_and_seeds_at_the_ends_of_their_range_are_taken():
    assert [check_num_samples(value) for value in (1, MAX_NUM_SAMPLES)] == [1, MAX_NUM_SAMPLES]
    assert [check_seed(value) for value in (0, MAX_SEED)] == [0, MAX_SEED]


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse_spec({}).tx_power_dbm = 1.0


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 5, 20, 100, 200, 1000, 12_500, 25_000, 0.0, -0.0])
VALUES = (
    NUMBERS
    | st.none()
    | st.booleans()
    | st.text(max_size=8)
    | st.sampled_from([choice for choices in CHOICES.values() for choice in choices])
    | st.lists(st.integers(), max_size=2)
)
NAMES = st.sampled_from(sorted(DatasetSpec.model_fields)) | st.text(max_size=5) | st.integers()


def of_range(name):
    low, high = RANGES[name]
    if name in REALS:
        return st.floats(low, high, exclude_min=name in EXCLUSIVE)
    return st.integers(low, high)


# Mostly valid, so that the way there and back is tried too.
VALID = st.fixed_dictionaries(
    {},
    optional={name: of_range(name) for name in RANGES}
    | {name: st.sampled_from(choices) for name, choices in CHOICES.items()}
    | {name: st.booleans() for name in FLAGS},
)


@settings(max_examples=4 * settings().max_examples, deadline=None)  # of the profile
@given(st.dictionaries(NAMES, VALUES, max_size=5) | VALID)
def test_any_mapping_round_trips_or_is_invalid(values):
    try:
        spec = parse_spec(values)
    except InvalidSpecError:
        return
    frozen = json.loads(json.dumps(spec.model_dump(mode="json"), allow_nan=False))
    assert parse_spec(frozen) == spec
    assert parse_spec(spec.model_dump()) == spec
