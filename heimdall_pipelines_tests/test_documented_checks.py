"""The tables of checks in docs/data-model.md list the checks of the code, in their order and with their severity."""

import re

import pytest

from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS, DATASET_CHECKS
from heimdall_pipelines.sessions.checks import SESSION_CHECKS
from heimdall_pipelines_tests import PROJECT_FOLDER

ASSETS_OF_BATCH = dict.fromkeys(BATCH_FEATURE_CHECKS, "synthetic/measurement_features") | dict.fromkeys(
    BATCH_IQ_CHECKS, "synthetic/raw_iq_objects"
)


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Asset checks of a session", [(name, severity) for name, (severity, _) in SESSION_CHECKS.items()]),
        (
            "Asset checks of datasets and batches",
            [(name, ASSETS_OF_BATCH.get(name, ""), severity) for name, (severity, _) in DATASET_CHECKS.items()],
        ),
    ],
)
def test_the_documented_checks_are_those_of_the_code(heading, expected):
    page = (PROJECT_FOLDER / "docs" / "data-model.md").read_text()
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [tuple(cell.strip() for cell in row.split("|")[1:-2]) for row in re.findall(r"^\|.*\|$", section, re.M)]
    assert rows[2:] == expected  # after the heading and its rule
