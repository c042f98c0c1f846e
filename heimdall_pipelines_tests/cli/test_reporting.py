"""Reports: one file that needs no network, shown by a browser, linked from the UI."""

import io
import re

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from heimdall_pipelines.cli.dagster_instance import dagster_instance
from heimdall_pipelines.report_page import Line, MapArea, MapLayer, Section, chart, moving_map, page, table, ticks
from heimdall_pipelines.sessions.example import SOURCE
from heimdall_pipelines_tests.browser import opened_in_browser, screenshot
from heimdall_pipelines_tests.sessions.support import import_files, noise, npy_files, npy_options

ADDRESS = re.compile(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)["']|url\(([^)]*)\)|@import""")


def addresses(html):
    """Everything that the file would load from elsewhere."""
    return [found for found in ADDRESS.findall(html) if not found[0].startswith("data:image/png;base64,")]


def reported(asset):
    with dagster_instance() as instance:
        records = instance.fetch_observations(dg.AssetKey(asset), limit=1).records
    return records[0].asset_observation


@pytest.fixture
def example(example_session):
    """The example session, extracted."""
    return example_session(source=SOURCE).slug


@pytest.mark.slow
@pytest.mark.programs
def test_a_sessions_report_is_one_file_that_a_browser_shows(heimdall, stores, example, tmp_path):
    code, out, _ = heimdall("session", "report", example, "-o", tmp_path / "reports")
    path = tmp_path / "reports" / f"{example}.html"
    assert (code, out) == (0, f"written: {path}\n")
    html = path.read_text(encoding="utf-8")
    assert addresses(html) == []
    for words in ("Waterfalls", "Features over time", "milano-baggio", "example-transmitter", "time_differences_close"):
        assert words in html
    observation = reported(["recorded", "positions"])
    assert (observation.partition, observation.metadata["report"].value) == (example, path.as_uri())
    shown = opened_in_browser(path, tmp_path)
    assert 'data-ready="1"' in shown  # the script ran to its end
    assert shown.count("<image ") == 2  # shaded relief and likelihood
    png = tmp_path / "page.png"
    screenshot(path, tmp_path, png)
    pixels = np.asarray(Image.open(png).convert("RGB"), np.float64)
    assert pixels.std() > 20  # a picture, not an empty page


def test_a_report_of_a_session_that_cannot_be_located_says_why(heimdall, stores, tmp_path):
    files = npy_files(tmp_path, {"torino": noise(300_000)})
    slug = import_files(stores, files, **npy_options()).slug
    code, _, _ = heimdall("session", "report", slug, "-o", tmp_path)
    html = (tmp_path / f"{slug}.html").read_text(encoding="utf-8")
    assert code == 0
    assert "Not located: " in html
    assert "a position needs 3 stations" in html
    assert "No features have been extracted yet." in html


def test_an_unknown_session_has_no_report(heimdall, tmp_path):
    code, out, err = heimdall("session", "report", "nowhere", "-o", tmp_path)
    assert (code, out) == (1, "")
    assert "heimdall session list" in err
    assert list(tmp_path.glob("*.html")) == []


@pytest.mark.slow
@pytest.mark.programs
def test_a_datasets_report_is_one_file_that_a_browser_shows(heimdall, tmp_path):
    short = ("--duration-ms", 200, "--num-chunks", 1, "--seed", 1, "--terrain", "none", "--local", "--workers", 1)
    code, _, err = heimdall("dataset", "create", "night", "--num-samples", 20, *short)
    assert code == 0, err
    code, _, err = heimdall("dataset", "report", "night", "-o", tmp_path)
    assert code == 0, err
    html = (tmp_path / "night.html").read_text(encoding="utf-8")
    assert addresses(html) == []
    for words in ("20 of 20 samples", "Estimates against truth", "snr_db", "torino", "min_snr_db"):
        assert words in html
    assert reported(["synthetic", "dataset_summary"]).partition == "night"
    assert 'data-ready="1"' in opened_in_browser(tmp_path / "night.html", tmp_path)


def test_what_files_and_receivers_said_is_text_and_no_markup():
    html = page("<b>x</b>", "<script>alert(1)</script>", [Section("a&b", table(("<i>",), [("<img src=x>",)]))])
    assert "<script>alert" not in html
    assert "<img src=x>" not in html
    assert "&lt;img src=x&gt;" in html
    assert "default-src 'none'" in html


def test_a_chart_breaks_where_nothing_is_known():
    drawn = chart("t", "dB", [Line("a", [0.0, 1.0, 2.0, 3.0], [1.0, None, 3.0, float("nan")])])
    assert drawn.count("<circle") == 2
    assert "no values" in chart("t", "dB", [Line("a", [0.0], [None])])


def test_a_map_across_the_antimeridian_has_its_marks_inside():
    area = MapArea(-20.0, 178.0, -16.0, 182.0)
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, format="png")
    drawn = moving_map(area, [MapLayer("x", "red", places=[(-179.0, -18.0, "here")])], {"ground": png.getvalue()})
    x, y = map(float, re.search(r'data-at="([\d.]+) ([\d.]+)"', drawn).groups())
    assert x == pytest.approx(860.0 * 3 / 4)
    assert y == pytest.approx(area.height / 2, abs=0.01)
    assert ">-180°<" in drawn


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-130.2, -91.0), (1e-3, 2e-3), (0.0, 3600.0)])
def test_ticks_are_few_and_inside(low, high):
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
