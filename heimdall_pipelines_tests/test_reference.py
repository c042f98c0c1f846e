"""The reference dataset: what the repository says of it is what its parameters give on this machine."""

from dataclasses import replace

import pytest

from heimdall_pipelines.datasets.regeneration_checks import FEATURE_TOLERANCE
from heimdall_pipelines.datasets.stored_truth import TRUTH_TOLERANCE, agrees
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines.learning.baselines import BASELINES, BOUND
from heimdall_pipelines.releases.verifying import verify_export
from heimdall_pipelines.rf.feature_registry import FEATURE_VERSION
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines_tests.datasets.support import SMALL
from reference.making import make_on_stores, recipe_of_reference
from reference.pages import PAGE, page_text
from reference.result import NUM_COMPARED, ReferenceResult, compared_indices, regenerate
from reference.specification import read_spec

AGAIN = "to make it again: make reference"


@pytest.fixture(scope="module")
def result():
    return ReferenceResult.read()


def test_the_result_is_of_this_version(result):
    made = result.generator_version, result.feature_version
    assert made == (GENERATOR_VERSION, FEATURE_VERSION), AGAIN


def test_the_page_has_the_figures_of_the_result(result):
    assert PAGE.read_text() == page_text(read_spec(), result), AGAIN


def test_every_baseline_is_scored_on_every_split(result):
    rows = [(row["split"], row["baseline"]) for row in result.baselines["rows"]]
    assert rows == [(split, name) for split in ("random", "region", "terrain") for name in (*BASELINES, BOUND)]
    assert all(split["num_too_close"] == 0 for kind, split in result.splits.items() if kind != "random")


def test_compared_samples_are_spread_over_all():
    indices = compared_indices(20_000)
    assert (indices[0], indices[-1], len(indices)) == (0, 19_999, NUM_COMPARED)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_part_is_regenerated_from_parameters_and_seed(result):
    assert [one.sample_idx for one in result.samples] == list(compared_indices(result.num_samples))
    made = regenerate(recipe_of_reference(read_spec()), [one.sample_idx for one in result.samples])
    for stored, again in zip(result.samples, made, strict=True):
        assert agrees(stored.truth, again.truth, TRUTH_TOLERANCE), stored.sample_idx
        assert stored.iq_sha256 == again.iq_sha256, stored.sample_idx
        assert agrees(stored.features, again.features, FEATURE_TOLERANCE), stored.sample_idx


@pytest.mark.slow
def test_the_command_releases_exports_and_scores(stores, tmp_path, monkeypatch):
    monkeypatch.setattr("heimdall_pipelines.learning.baselines.ITERATIONS", 10)
    spec = replace(read_spec(), parameters=read_spec().parameters | SMALL | {"batch_size": 20})
    with Workers(1) as workers:
        made = make_on_stores(stores, workers, spec, tmp_path / "export", num_samples=40)
    assert set(made.seconds) == {"making", "validating", "releasing", "exporting", "scoring"}
    found = verify_export(tmp_path / "export", share=0.05, expected_root=made.root)
    assert (found.problems, found.truth_root) == ([], made.truth_root)
    assert "## Baselines" in (tmp_path / "export" / "README.md").read_text()
    assert regenerate(recipe_of_reference(spec), [3])[0] in regenerate(recipe_of_reference(spec), [3, 4])
    text = page_text(spec, replace(made, num_samples=40))
    assert made.root in text
    assert "| random | weighted centroid |" in text
