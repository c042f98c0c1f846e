"""Time differences beside the truth: sound datasets have no problem, wrong labels have many."""

from dataclasses import replace

import pytest

from heimdall_pipelines.datasets.difference_checks import (
    MAX_BIAS_US,
    MAX_ERROR_US,
    MAX_MEDIAN_US,
    TRIANGLE_TOLERANCE_US,
    DifferenceChecks,
    with_truth,
)
from heimdall_pipelines.datasets.findings import Findings
from heimdall_pipelines.datasets.regeneration_checks import differences
from heimdall_pipelines.datasets.samples import make_sample
from heimdall_pipelines.model.time_difference_checks import open_triangles, triangles, wrong_time_differences
from heimdall_pipelines.model.time_differences import PairTimeDifference, are_time_differences, read_time_differences
from heimdall_pipelines_tests.datasets.support import drawn, recipe
from heimdall_pipelines_tests.datasets.test_estimate_checks import KINDS, check, rows_of


def checked(made_from, rows):
    """The outcome of these rows' time differences alone."""
    found = Findings.begin(check(made_from, ()).dataset, ("estimates_agree_with_truth",))
    checks = DifferenceChecks(made_from.spec, found)
    for row in rows:
        checks.add(row)
    checks.end()
    return found, found.outcomes["estimates_agree_with_truth"]


def changed(row, change):
    return replace(row, time_differences=tuple(map(change, row.time_differences)))


def later(by_us):
    return lambda pair: pair if pair.tdoa_us is None else replace(pair, tdoa_us=pair.tdoa_us + by_us)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_dataset_has_no_problem(kind):
    made_from, rows = rows_of(kind)
    found, outcome = checked(made_from, rows)
    assert outcome.passed, outcome.examples
    assert outcome.numbers["pairs_compared"] > 150
    for row in rows:
        assert list(wrong_time_differences(row.time_differences, row.receivers, row.feature_version)) == []
        assert list(open_triangles(row.time_differences, TRIANGLE_TOLERANCE_US)) == []
    assert found.affected == set()


def test_labels_of_other_receivers_are_found():
    made_from, rows = rows_of("default")
    swapped = []
    for row in rows:
        links = list(row.truth.receivers)
        near, far = links[0], links[3]
        links[0], links[3] = replace(far, rx_id=near.rx_id), replace(near, rx_id=far.rx_id)
        swapped.append(replace(row, truth=replace(row.truth, receivers=tuple(links))))
    _, outcome = checked(made_from, swapped)
    assert not outcome.passed
    assert "us off the truth" in outcome.examples[0]


def test_time_differences_of_the_wrong_sign_are_found():
    made_from, rows = rows_of("default")
    negated = [changed(row, lambda pair: replace(pair, tdoa_us=None if pair.tdoa_us is None else -pair.tdoa_us))
               for row in rows]  # fmt: skip
    found, outcome = checked(made_from, negated)
    assert outcome.num_problems > 100
    assert found.affected


@pytest.mark.parametrize(
    ("by_us", "says"),
    [
        (MAX_BIAS_US + 1, "off on average over"),
        (MAX_MEDIAN_US + 2, "fewer than half"),
        (3 * MAX_ERROR_US, "+18"),
    ],
)
def test_a_common_error_is_found(by_us, says):
    made_from, rows = rows_of("default")
    _, outcome = checked(made_from, [changed(row, later(by_us)) for row in rows])
    assert any(says in example for example in outcome.examples), outcome.examples


def test_what_the_hardware_adds_is_not_compared():
    made_from, rows = rows_of("default")
    spec = made_from.spec.model_copy(update={"dc_offset_db": -10.0})
    found = Findings.begin(check(made_from, ()).dataset, ("estimates_agree_with_truth",))
    checks = DifferenceChecks(spec, found)
    for row in rows:
        checks.add(changed(row, later(1000.0)))
    checks.end()
    assert found.outcomes["estimates_agree_with_truth"].passed


def test_one_side_that_is_too_long_opens_its_triangles():
    _, rows = rows_of("default")
    row = next(x for x in rows if sum(1 for _ in triangles(x.time_differences)) > 10)
    first = next(pair for pair in row.time_differences if pair.tdoa_us is not None and pair.std_us < 1)
    wrong = changed(row, lambda pair: later(100.0)(pair) if pair is first else pair)
    found = list(open_triangles(wrong.time_differences, TRIANGLE_TOLERANCE_US))
    assert found
    assert all(first.rx_a in words and first.rx_b in words for words in found)
    # Of a weak correlation noise may have taken another peak: that its triangles are open says nothing.
    weak = changed(row, lambda pair: replace(later(100.0)(pair), peak=0.2) if pair is first else pair)
    assert list(open_triangles(weak.time_differences, TRIANGLE_TOLERANCE_US)) == []
    # An error of a receiver's clock is in two sides of each triangle, and cancels.
    shifted = changed(
        row,
        lambda pair: later(100.0 * ((pair.rx_b == first.rx_a) - (pair.rx_a == first.rx_a)))(pair),
    )
    assert list(open_triangles(shifted.time_differences, TRIANGLE_TOLERANCE_US)) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tdoa_us": 1e9}, "tdoa_us = 1000000000.0 is outside"),
        ({"tdoa_us": float("nan")}, "tdoa_us = nan is outside"),
        ({"std_us": 0.0}, "std_us = 0.0 is not positive"),
        ({"std_us": None}, "std_us = None is not positive"),
        ({"peak": 1.5}, "peak = 1.5 is outside 0..1"),
        ({"ambiguity": -0.1}, "ambiguity = -0.1 is outside 0..1"),
        ({"reason": "no"}, "has a tdoa_us and a reason against it"),
        ({"tdoa_us": None, "std_us": None}, "has no tdoa_us and no reason"),
        ({"rx_b": "nowhere"}, "not the 21 of the receivers that detected"),
    ],
)
def test_impossible_numbers_are_described(change, says):
    _, rows = rows_of("default")
    row = next(x for x in rows if x.num_receivers_detected == 7)
    index = next(i for i, pair in enumerate(row.time_differences) if pair.tdoa_us is not None)
    pairs = list(row.time_differences)
    pairs[index] = replace(pairs[index], **change)
    (problem,) = wrong_time_differences(pairs, row.receivers, row.feature_version)
    assert says in problem


def test_rows_have_time_differences_from_version_3_on():
    _, (row, *_) = rows_of("default")
    assert list(wrong_time_differences(None, row.receivers, 2)) == []
    assert list(wrong_time_differences(None, row.receivers, 3)) == ["lacks time_differences"]
    (problem,) = wrong_time_differences(row.time_differences, row.receivers, 2)
    assert problem == "has time_differences, which feature version 2 does not have"


def test_json_and_back_is_the_same():
    _, rows = rows_of("default")
    for row in rows:
        as_json = [pair.to_json() for pair in row.time_differences]
        assert are_time_differences(as_json)
        assert read_time_differences(as_json) == row.time_differences


@pytest.mark.parametrize("damage", [[1], [{}], {}, "x", [{"rx_a": "x", "rx_b": "y", "tdoa_us": "1", "std_us": 1,
                                                              "peak": 1, "ambiguity": 1}]])  # fmt: skip
def test_malformed_elements_are_not_read(damage):
    assert not are_time_differences(damage)


def test_the_truth_is_delay_and_clock():
    _, (row, *_) = rows_of("default")
    link = {x.rx_id: 1e6 * x.delay_s + 1e-3 * x.clock_offset_ns for x in row.truth.receivers}
    for pair, truth_us in with_truth(row.time_differences, row.truth):
        assert truth_us == link[pair.rx_b] - link[pair.rx_a]


def test_a_regenerated_sample_with_another_time_difference_differs():
    made_from = recipe(**KINDS["default"])
    _, (row, *_) = rows_of("default")
    made = make_sample(made_from, drawn(made_from, 0))
    assert list(differences(row, made)) == []
    close = [later(0.001), later(-0.001)]
    for change in close:
        assert list(differences(changed(row, change), made)) == []
    assert list(differences(changed(row, later(3.0)), made)) == ["its time differences are not those of its IQ"]
    missing = replace(row, time_differences=row.time_differences[1:])
    assert list(differences(missing, made)) == ["its time differences are not those of its IQ"]


def test_numbers_are_rounded_to_nanoseconds_at_one_place():
    found = type("Found", (), {"a": 0, "b": 1, "tdoa_us": -1e-9, "std_us": 1.23456e-5, "peak": 0.98765,
                               "ambiguity": 0.5, "reason": None})  # fmt: skip
    assert PairTimeDifference.of(["x", "y"], found) == PairTimeDifference("x", "y", 0.0, 0.001, 0.988, 0.5)
    assert str(PairTimeDifference.of(["x", "y"], found).tdoa_us) == "0.0"
