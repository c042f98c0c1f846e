"""Leaves depend on every value that a release has, and on nothing else."""

import pyarrow as pa
import pytest

from heimdall_pipelines.learning.columns import COLUMNS, arrow_type
from heimdall_pipelines.releases import leaves
from heimdall_pipelines.releases.leaves import (
    LeafError,
    covered_columns,
    leaves_of_tables,
    scene_columns,
    truth_leaves_of_tables,
)

NUM_SAMPLES, NUM_LINKS = 3, 2
_OTHER = {"double": 2.5, "string": "x", "bool": False, "list<string>": ["x"]}
_VALUES = {"double": 1.5, "string": "y", "bool": True, "list<string>": ["y", "z"]}


def tables(**changes):
    """Tables of three samples with two rows each; ``changes`` are values of the second sample by table and column."""
    made = {}
    for name, columns in COLUMNS.items():
        rows = 1 if name == "samples" else NUM_LINKS
        indices = [index for index in range(NUM_SAMPLES) for _ in range(rows)]
        values = {}
        for one in columns:
            column = [_VALUES.get(one.kind, 3)] * len(indices)
            changed = changes.get(f"{name}__{one.name}", column[0])
            column[rows] = changed
            values[one.name] = pa.array(column, arrow_type(one.kind))
        values["sample_idx"] = pa.array(indices, pa.int32())
        made[name] = pa.table(values)
    return made


def leaves_of(given):
    return leaves_of_tables(given["samples"], given["links"], given["time_differences"], given["iq"])


COVERED = [(table, column) for table in COLUMNS for column in covered_columns(table) if column.name != "sample_idx"]


@pytest.mark.parametrize(("table", "column"), COVERED, ids=lambda value: getattr(value, "name", value))
def test_a_value_changes_the_leaf_of_its_sample_alone(table, column):
    before = leaves_of(tables())
    for value in (None, _OTHER.get(column.kind, 4)):
        after = leaves_of(tables(**{f"{table}__{column.name}": value}))
        assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize("table", ["samples", "links"])
def test_leaves_of_truth_have_no_feature(table):
    names = {column.name for column in scene_columns(table)}
    assert not names & {"snr_db", "rssi_dbm", "gdop", "mean_snr_db", "overall_confidence", "flags", "truth_snr_db"}
    assert names >= ({"tx_latitude", "tx_kind", "attempts"} if table == "samples" else {"rx_id", "truth_delay_s"})
    for column in scene_columns(table):
        if column.name != "sample_idx":
            changed = tables(**{f"{table}__{column.name}": _OTHER.get(column.kind, 4)})
            given = tables()
            one, other = (truth_leaves_of_tables(some["samples"], some["links"]) for some in (given, changed))
            assert one[1] != other[1], column.name


def test_a_new_column_without_values_changes_no_leaf(monkeypatch):
    before = leaves_of(tables())
    new = leaves.Column("new_db", "double", "dB", "New")
    monkeypatch.setitem(COLUMNS, "links", (*COLUMNS["links"], new))
    covered_columns.cache_clear()
    try:
        given = tables()
        num = len(given["links"])
        without = given | {"links": given["links"].set_column(
            given["links"].schema.get_field_index("new_db"), "new_db", pa.nulls(num, pa.float64()))}  # fmt: skip
        assert leaves_of(without) == before
        assert leaves_of(given) != before
    finally:
        covered_columns.cache_clear()


def test_leaves_do_not_depend_on_how_rows_are_grouped():
    given = tables(links__snr_db=None)
    alone = []
    for index in range(NUM_SAMPLES):
        one = {name: table.filter(pa.compute.equal(table["sample_idx"], index)) for name, table in given.items()}
        alone += leaves_of(one)
    assert alone == leaves_of(given)


def test_zero_has_no_sign_and_null_is_no_number():
    zero, negative, null, nan = (leaves_of(tables(links__snr_db=value))[1] for value in (0.0, -0.0, None, float("nan")))
    assert zero == negative
    assert len({zero, null, nan}) == 3


def test_items_of_a_list_are_not_confused():
    found = {leaves_of(tables(links__flags=value))[1] for value in ([], [""], ["a", "b"], ["ab"], ["a,b"], None)}
    assert len(found) == 6


def test_rows_of_other_samples_are_refused():
    given = tables()
    with pytest.raises(LeafError, match="links: rows do not belong to the samples 0 to 1"):
        leaves_of(given | {"samples": given["samples"].slice(0, 2)})


@pytest.mark.parametrize("value", [1.0, 999_999.6, 123.456789, -1e-12, 1e300, 0.0, -5e-324, 1000.0])
def test_rounding_keeps_six_digits(value):
    given = pa.chunked_array([[value, value * (1 + 1e-13), value * (1 + 1e-4)]])
    column = leaves.Column("x_m", "double", "m", "")
    bits, _ = leaves._encoded(given, column, leaves._rounded)
    first, near, far = (row.tobytes() for row in bits)
    if 1e-290 < abs(value) < 1e290:
        assert first == near
    assert (first == far) == (abs(value) < 1e-300)
