"""The truth of a sample as JSON, there and back."""

import json

import pytest

from heimdall_pipelines.datasets.samples import make_sample
from heimdall_pipelines.model.truth import MalformedTruthError, SampleTruth, readable_truth
from heimdall_pipelines_tests.datasets.support import SMALL, drawn, recipe, truth_of


def changed(**fields) -> dict:
    return truth_of("torino").to_json() | fields


def with_link(**fields) -> dict:
    link = truth_of("torino").to_json()["receivers"][0]
    return changed(receivers=[link | fields])


@pytest.mark.parametrize("parameters", [{}, {"fading": False}])
def test_a_truth_goes_to_json_and_back(parameters):
    of = recipe(**SMALL | parameters)
    truth = make_sample(of, drawn(of)).truth
    assert SampleTruth.from_json(json.loads(json.dumps(truth.to_json(), allow_nan=False))) == truth


def test_fields_of_a_newer_version_are_left_out():
    assert SampleTruth.from_json(with_link(terrain="hills") | {"weather": "rain"}) == truth_of("torino")


def test_a_field_missing_in_older_versions_reads_as_none():
    value = truth_of("torino").to_json()
    del value["receivers"][0]["rice_k_db"]
    assert SampleTruth.from_json(value).receivers[0].rice_k_db is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "not an object"),
        ([1], "not an object"),
        (changed(receivers=[1]), "a receiver is malformed: it is not an object"),
        (changed(receivers={}), "receivers is {}"),
        (changed(tx_latitude="45"), "tx_latitude is '45'"),
        (changed(gdop=None), "gdop is None"),
        (changed(tx_power_dbm=True), "tx_power_dbm is True"),
        (with_link(delay_s=None), "a receiver is malformed: delay_s is None"),
        (with_link(detected=1), "detected is 1"),
    ],
)
def test_what_is_no_truth_is_malformed(value, problem):
    with pytest.raises(MalformedTruthError, match="malformed") as caught:
        SampleTruth.from_json(value)
    assert problem in str(caught.value)
    assert readable_truth(value) is None
