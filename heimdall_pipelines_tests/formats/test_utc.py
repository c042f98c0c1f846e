"""UTC instants as text and as integer nanoseconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.formats.utc import iso_from_unix_ns, unix_ns_from_iso


@pytest.mark.parametrize(
    ("text", "unix_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2017-11-27T10:41:56.038122299Z", 1_511_779_316_038_122_299),
        ("2017-11-27T10:41:56.0381222999999Z", 1_511_779_316_038_122_299),
        ("2017-11-27T10:41:56.5+00:00", 1_511_779_316_500_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
    ],
)
def test_an_instant_is_read_to_the_nanosecond(text, unix_ns):
    assert unix_ns_from_iso(text) == unix_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2017-11-27",
        "2017-11-27T10:41:56",
        "2017-11-27T10:41:56+01:00",
        "2017-13-01T00:00:00Z",
        "2017-02-29T00:00:00Z",
        "2017-02-28T24:00:00Z",
        "2017-02-28T10:00:61Z",
        "\u0662\u0660\u0661\u0667-11-27T10:41:56Z",
        "2017-11-27T10:41:56Z\n",
        "0000-01-01T00:00:00Z",
    ],
)
def test_what_is_no_utc_instant_is_refused(text):
    with pytest.raises(ValueError, match=r"second|instant|month|day|hour|year"):
        unix_ns_from_iso(text)


@given(st.integers(min_value=-62_135_596_800 * 10**9, max_value=253_402_300_800 * 10**9 - 1))
def test_every_nanosecond_of_years_1_to_9999_survives_text(unix_ns):
    assert unix_ns_from_iso(iso_from_unix_ns(unix_ns)) == unix_ns


def test_a_year_that_text_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="years"):
        iso_from_unix_ns(10**30)
