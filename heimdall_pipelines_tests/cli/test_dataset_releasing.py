"""`heimdall dataset release`, `export`, `verify`, `baseline` and `session export --format parquet`."""

import pytest
from typer.testing import CliRunner

from heimdall_pipelines.cli import app
from heimdall_pipelines_tests.releases.support import NAME, flip_byte, healthy


@pytest.fixture
def run(stores, environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))

    def run_command(*words: str):
        return CliRunner().invoke(app, [*words], prog_name="heimdall")

    return run_command


def test_a_dataset_is_released_exported_and_verified(run, stores):
    healthy(stores, 12)
    released = run("dataset", "release", NAME)
    assert released.exit_code == 0, released.output
    assert "released: night@1, 12 samples, splits random, region" in released.output
    root = next(line for line in released.output.splitlines() if line.startswith("root "))
    exported = run("dataset", "export", f"{NAME}@1", "-o", "export", "--iq", "1")
    assert exported.exit_code == 0, exported.output
    assert "12 rows of samples, 84 rows of links" in exported.output
    assert root in exported.output
    for target in ("export", f"{NAME}@1"):
        verified = run("dataset", "verify", target, "--share", "20%", "--workers", "1", "--root", root.split()[1])
        assert verified.exit_code == 0, verified.output
        assert "verified" in verified.output
        assert "12 samples, 2 of them regenerated" in verified.output


def test_a_changed_file_ends_with_exit_code_1(run, stores, tmp_path):
    healthy(stores, 12)
    run("dataset", "export", NAME, "-o", "export")
    flip_byte(tmp_path / "export" / "LICENSE", 3)
    verified = run("dataset", "verify", "export", "--share", "0")
    assert verified.exit_code == 1
    assert "LICENSE: was changed" in verified.output


@pytest.mark.slow
def test_baselines_are_kept_with_a_release(run, stores, tmp_path):
    pytest.importorskip("sklearn")
    healthy(stores, 40)
    run("dataset", "release", NAME)
    scored = run("dataset", "baseline", f"{NAME}@1")
    assert scored.exit_code == 0, scored.output
    assert "| random | weighted centroid |" in scored.output
    run("dataset", "export", f"{NAME}@1", "-o", "export")
    assert "## Baselines" in (tmp_path / "export" / "README.md").read_text()
    assert run("dataset", "verify", "export", "--share", "0").exit_code == 0


def test_deleting_a_released_dataset_needs_an_option(run, stores):
    healthy(stores, 5)
    run("dataset", "release", NAME)
    refused = run("dataset", "delete", NAME, "--yes")
    assert refused.exit_code == 1
    assert "--with-releases" in str(refused.exception)
    assert run("dataset", "delete", NAME, "--yes", "--with-releases").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset", "verify", "x", "--share", "much"), "a share such as 1% or 0.01 is expected"),
        (("dataset", "export", "x", "-o", "y", "--format", "csv"), "parquet is expected"),
        (("session", "export", "x", "--format", "csv"), "sigmf or parquet is expected"),
        (("session", "export", "x", "y"), "need --format parquet"),
    ],
)
def test_impossible_options_are_refused(words, message):
    ended = CliRunner().invoke(app, [*words], prog_name="heimdall")
    assert ended.exit_code == 2
    assert message in " ".join(ended.output.split())
