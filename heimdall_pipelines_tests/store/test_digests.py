"""Digests: the same for what is read as for what was written, and different for anything else."""

import json
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from heimdall_pipelines.store import digests
from heimdall_pipelines.store.digests import (
    CONTENT_BYTES,
    DIGESTED_TABLES,
    NOT_COUNTED,
    Edit,
    as_stored,
    content,
    counted_columns,
    datetime_of,
    edit_of,
    new_row_digest,
    resealed,
    root_of,
    row_digest,
)
from heimdall_pipelines.store.table_columns import TableColumn, table_columns

IQ = "synthetic_iq_samples"
ROW = MappingProxyType(
    {
        "dataset_id": UUID(int=7),
        "sample_idx": 3,
        "timestamp": datetime(2000, 1, 1, 0, 0, 3, 250, tzinfo=UTC),
        "truth": {"a": "Genève", "b": [1, 2.5, None, True]},
        "receivers_metadata": [],
        "iq_metadata": {"level": -0.1, "sample_rate_hz": 25000},
        "iq_storage_paths": {"torino": "k"},
    }
)
STATION = MappingProxyType({"rx_id": "torino", "name": "Torino", "latitude": 45.044, "url": None, "is_active": True})
# Numbers of JSON as features and truths have them, and as nothing should.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**25), 10**25)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text('abcé "\\', max_size=3), values, max_size=4),
    max_leaves=12,
)


def test_a_digest_is_the_same_on_every_machine_and_in_every_version():
    assert content(row_digest(IQ, ROW)).hex() == "77af9bdddc36aab740ab5a73e39e6138f943755bda8b02181ad59f78e2a790b3"


@pytest.mark.parametrize("table", DIGESTED_TABLES)
def test_every_column_counts_or_is_left_out_for_a_reason(table):
    names = {column.name for column in table_columns(table)}
    counted = {column.name for column in counted_columns(table)}
    assert names - counted == names & NOT_COUNTED.keys()
    assert all(NOT_COUNTED.values())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("sample_idx", 4),
        ("timestamp", datetime(2000, 1, 1, 0, 0, 3, 251, tzinfo=UTC)),
        ("truth", {"a": "Geneve", "b": [1, 2.5, None, True]}),
        ("truth", {"a": "Genève", "b": [2.5, 1, None, True]}),
        ("truth", {"a": "Genève", "b": [1, 2.5, 0, True]}),
        ("truth", {"a": "Genève", "b": [1, 2.5000000000000004, None, True]}),
        ("iq_metadata", {"etag": {}, "level": -0.1, "sample_rate_hz": 25000}),
        ("receivers_metadata", {}),
        ("receivers_metadata", None),
    ],
)
def test_an_edit_of_a_column_is_found_and_named(column, value):
    assert edit_of(IQ, ROW | {column: value}, row_digest(IQ, ROW)) == Edit((column,))


def test_the_order_of_keys_and_the_way_of_writing_a_time_do_not_count():
    again = ROW | {"truth": {"b": [1, 2.5, None, True], "a": "Genève"}, "timestamp": 946_684_803_000_250}
    assert new_row_digest(IQ, again) == row_digest(IQ, ROW)


@pytest.mark.parametrize("column", ["url", "name"])
def test_an_empty_text_is_not_null(column):
    assert edit_of("websdr_stations", STATION | {column: ""}, row_digest("websdr_stations", STATION)) == Edit((column,))
    assert edit_of("websdr_stations", STATION | {column: None}, row_digest("websdr_stations", STATION | {column: ""}))


def test_texts_cannot_be_moved_from_one_column_to_the_next():
    one, other = STATION | {"rx_id": "a", "name": "bc"}, STATION | {"rx_id": "ab", "name": "c"}
    assert content(row_digest("websdr_stations", one)) != content(row_digest("websdr_stations", other))


def test_an_edited_digest_and_a_missing_one_are_told_apart():
    digest = row_digest(IQ, ROW)
    assert edit_of(IQ, ROW, bytes([digest[0] ^ 1]) + digest[1:]) == Edit(("digest",))
    assert edit_of(IQ, ROW, digest[:CONTENT_BYTES]) is not None
    missing = edit_of(IQ, ROW, None)
    assert missing == Edit((), has_digest=False)
    assert str(missing) == "has no digest: it was not written by heimdall"


def test_a_column_added_later_leaves_the_digests_of_rows_without_it_as_they_are(monkeypatch):
    before = row_digest(IQ, ROW)
    later = (*table_columns(IQ), TableColumn("positions", "jsonb", True, "Added later"))
    monkeypatch.setattr(digests, "table_columns", lambda _table: later)
    for cached in (digests.counted_columns, digests._layout):
        cached.cache_clear()
    try:
        assert edit_of(IQ, ROW, before) is None
        assert edit_of(IQ, ROW | {"positions": [1]}, before) == Edit(("positions",))
    finally:
        for cached in (digests.counted_columns, digests._layout):
            cached.cache_clear()


def test_a_command_does_not_hide_what_was_edited_by_hand_before():
    committed, edited = STATION, STATION | {"latitude": 46.0}
    digest = row_digest("websdr_stations", committed)
    changed = edited | {"is_active": False}

    def reseal(stored, before, after):
        return resealed(
            "websdr_stations", stored, row_digest("websdr_stations", before), row_digest("websdr_stations", after)
        )

    assert edit_of("websdr_stations", changed, reseal(digest, edited, changed)) == Edit(("latitude",))
    # A second command neither.
    again = changed | {"url": "http://x"}
    assert edit_of("websdr_stations", again, reseal(reseal(digest, edited, changed), changed, again)) == Edit(
        ("latitude",)
    )
    # One that sets the edited column decides what is right.
    restored = edited | {"latitude": 45.044}
    assert reseal(digest, edited, restored) == digest
    assert reseal(digest, committed, changed | {"latitude": 45.044}) is not None
    assert reseal(None, edited, changed) is None


@given(JSON)
def test_a_digest_of_what_is_written_is_that_of_what_is_read(value):
    """Without a database: as_stored changes nothing that it has made."""
    assert as_stored(as_stored(value)) == as_stored(value)


def test_numbers_are_read_from_the_database_as_their_digest_foresaw(stores):
    given_values = []

    @given(JSON)
    def collect(value):
        given_values.append(value)

    collect()
    given_values += [-0.0, 1e16, 1e22, 1e23, -1e300, 5e-324, 1e-5, 123456789012345680.0, [-0.0], {"a": 1e16}]
    with stores.database.transaction() as connection:
        for value in given_values:
            read = connection.execute(
                text("SELECT CAST(:value AS jsonb) AS value"), {"value": json.dumps(value)}
            ).scalar_one()
            written = new_row_digest(IQ, {"truth": value})
            assert row_digest(IQ, {"truth": read}) == written, value


def test_sql_computes_the_same_root(stores):
    rows = [row_digest(IQ, ROW | {"sample_idx": idx}) for idx in range(3)]
    assert root_of(rows) != root_of(rows[::-1])
    with stores.database.transaction() as connection:
        found = connection.execute(
            text(
                "SELECT sha256(string_agg(coalesce(substr(decode(digest, 'hex'), 1, 32), decode(repeat('00', 32),"
                " 'hex')), ''::bytea ORDER BY number)) FROM unnest(CAST(:digests AS text[])) WITH ORDINALITY"
                " AS d (digest, number)"
            ),
            {"digests": [digest.hex() for digest in rows] + [None]},
        ).scalar_one()
    assert bytes(found) == root_of([*rows, None])


@pytest.mark.parametrize("microseconds", [0, -1, 946_684_803_000_250, 2**63 - 1, -(2**63) + 1])
def test_any_time_that_the_database_can_have_is_read(microseconds):
    moment = datetime_of(microseconds)
    assert moment.tzinfo is UTC
    if abs(microseconds) < 2**62:
        assert (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == microseconds / 1e6
