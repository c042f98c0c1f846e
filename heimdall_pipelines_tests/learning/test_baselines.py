"""Baselines locate what is easy, and their errors are those of the truth."""

import numpy as np
import pytest

from heimdall_pipelines.learning import baselines
from heimdall_pipelines.learning.baselines import BaselineRow, MissingLearnerError, evaluate_baselines
from heimdall_pipelines.releases.baseline_tables import baseline_table, headlines
from heimdall_pipelines_tests.learning.made_exports import written_export


@pytest.fixture(autouse=True, scope="module")
def _few_iterations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "ITERATIONS", 40)
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    pytest.importorskip("sklearn")
    export = written_export(tmp_path_factory.mktemp("made") / "export", 600, shadowing_db=1.0)
    return evaluate_baselines(export, max_tdoa=15).to_json()


def by_name(report, split):
    return {row["baseline"]: row for row in report["rows"] if row["split"] == split}


@pytest.mark.long
def test_every_baseline_is_on_every_split(report):
    for split in ("random", "region"):
        assert set(by_name(report, split)) == {*baselines.BASELINES, "Cramer-Rao bound"}


def test_time_differences_of_good_clocks_locate_to_tens_of_metres(report):
    row = by_name(report, "random")["robust TDoA"]
    # 50 ns are 15 m; GDOP of these five receivers is below 3 almost everywhere.
    assert row["num"] == 15
    assert row["median_m"] < 60


def test_learned_baselines_beat_simple_ones_and_lose_where_regions_are_held_out(report):
    random, region = by_name(report, "random"), by_name(report, "region")
    assert random["trees, levels"]["median_m"] < random["weighted centroid"]["median_m"]
    assert random["nearest neighbours, levels"]["median_m"] < random["strongest receiver"]["median_m"]
    assert region["trees, levels"]["median_m"] > random["trees, levels"]["median_m"]


def test_the_bound_is_the_root_mean_square_of_its_ellipse(report):
    # Axes of 30 and 40 m contain 95 %: the standard deviations are 2.448 times smaller.
    assert by_name(report, "random")["Cramer-Rao bound"]["median_m"] == pytest.approx(50 / 2.448, abs=0.1)


def test_the_table_has_the_headline(report):
    text = baseline_table(report)
    assert "trees, levels: median" in headlines(report)[1]
    assert "on the region split" in text
    assert text.count("\n|") >= 15


@pytest.mark.long
def test_the_same_seed_gives_the_same_errors(tmp_path):
    pytest.importorskip("sklearn")
    export = written_export(tmp_path / "export", 150)
    assert evaluate_baselines(export, max_tdoa=2) == evaluate_baselines(export, max_tdoa=2)


def test_an_export_without_time_differences_says_so(tmp_path):
    pytest.importorskip("sklearn")
    export = written_export(tmp_path / "export", 150, with_differences=False)
    rows = by_name(evaluate_baselines(export).to_json(), "random")
    assert rows["robust TDoA"]["reason"] == rows["trees, levels and TDoA"]["reason"] == "no time differences"
    assert rows["trees, levels"]["num"] > 0


def test_statistics_of_errors_are_right():
    row = BaselineRow.of("random", "x", np.array([100.0, 200.0, np.nan, 300.0, 4000.0]), "none")
    assert (row.num, row.median_m, row.mean_m, row.within_1km) == (4, 250.0, 1150.0, 0.75)
    assert BaselineRow.of("random", "x", np.array([np.nan]), "none").reason == "none"


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(baselines, "import_module", missing)
    with pytest.raises(MissingLearnerError, match="pip install"):
        evaluate_baselines(written_export(tmp_path / "export", 150, with_differences=False))
