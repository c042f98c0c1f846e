"""The table of features in docs/science.md is that of the registry; HEIMDALL_TEST_WRITE_DOCS=1 writes it."""

import os

from heimdall_pipelines.rf.feature_registry import FEATURES, Feature
from heimdall_pipelines_tests import PROJECT_FOLDER

PAGE = PROJECT_FOLDER / "docs" / "science.md"
BEGIN, END = "<!-- features: begin -->\n", "<!-- features: end -->\n"


def line(feature: Feature) -> str:
    low, high = (f"{bound:,.9g}".replace("inf", "∞") for bound in feature.range)
    cells = (feature.name, feature.unit, f"{low} to {high}", feature.definition, str(feature.since))
    return f"| {' | '.join(cells)} |"


def table() -> str:
    header = ["", "| feature | unit | range | definition | since |", "|---|---|---|---|---|"]
    return "\n".join([*header, *map(line, FEATURES), "", ""])


def test_the_documented_features_are_those_of_the_registry():
    before, rest = PAGE.read_text().split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("HEIMDALL_TEST_WRITE_DOCS") == "1":
        PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}")
        return
    assert written == table(), "write it with: HEIMDALL_TEST_WRITE_DOCS=1 python -m pytest -k documented"
