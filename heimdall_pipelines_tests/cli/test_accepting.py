"""`heimdall db accept` and `heimdall db changes`: edits made by hand are listed, taken over, and shown."""

import pytest

from heimdall_pipelines_tests.datasets.support import add, execute, make

VALIDATE = ("dataset", "validate", "night")
ACCEPT = ("db", "accept")


@pytest.fixture
def night(stores):
    made = add(stores, "night", 3)
    make(stores, "night")
    return made


@pytest.mark.slow
def test_an_edit_is_listed_taken_over_and_shown(heimdall, stores, night):
    assert heimdall(*VALIDATE)[0] == 0
    execute(stores, "UPDATE heimdall.measurement_features SET error_message = 'x' WHERE sample_idx = 1")
    code, out, _ = heimdall(*VALIDATE)
    assert (code, "- sample 1: feature row: error_message is not as committed\n" in out) == (1, True)
    assert "heimdall db accept dataset night --reason REASON --apply" in out
    code, out, _ = heimdall(*ACCEPT, "dataset", "night")
    assert (code, out.splitlines()) == (
        0,
        [
            "measurement_features, sample_idx 1: error_message is not as committed",
            "Nothing was changed. To take over 1 edits: add --reason REASON --apply",
        ],
    )
    assert heimdall(*VALIDATE)[0] == 1
    code, out, _ = heimdall(*ACCEPT, "dataset", "night", "--reason", "noted by hand", "--apply")
    assert code == 0
    assert out.startswith("taken over: measurement_features, sample_idx 1: error_message is not as committed\n")
    assert out.endswith("edits taken over; validation trusts them from now on\n")
    assert heimdall(*VALIDATE)[0] == 0
    assert heimdall(*ACCEPT, "dataset", "night")[1] == "dataset night: every row is as it was committed\n"
    code, out, _ = heimdall("db", "changes")
    assert code == 0
    assert "heimdall db accept" in out
    assert "edited by hand, accepted: noted by hand" in out


def test_a_station_is_taken_over_by_its_slug(heimdall, stores):
    heimdall("station", "list")
    execute(stores, "UPDATE heimdall.websdr_stations SET latitude = 46 WHERE rx_id = 'torino'")
    assert heimdall(*ACCEPT, "station", "torino")[1].startswith("websdr_stations, rx_id torino: latitude is not as")
    assert heimdall(*ACCEPT, "station", "torino", "--reason", "moved", "--apply")[0] == 0
    assert heimdall("station", "disable", "torino")[0] == 0
    out = heimdall("db", "changes")[1]
    assert out.index("heimdall station disable") < out.index("edited by hand, accepted: moved")


def test_nothing_is_taken_over_without_a_reason_and_nothing_unknown(heimdall, stores):
    code, _, err = heimdall(*ACCEPT, "station", "torino", "--apply")
    assert (code, "--apply needs --reason" in err) == (2, True)
    code, _, err = heimdall(*ACCEPT, "source", "nobody")
    assert (code, "there is no nobody" in err) == (1, True)
    assert heimdall(*ACCEPT, "dataset", "nobody")[0] == 1
