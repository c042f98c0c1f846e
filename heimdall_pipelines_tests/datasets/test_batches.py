"""Names, partition keys, and the grid that batches lie on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_pipelines.model.batches import (
    MAX_NAME_LENGTH,
    Batch,
    BatchGrid,
    InvalidNameError,
    check_name,
    parse_partition_key,
    partition_key,
)

ALPHABET = "abz019-_"
NAMES = st.from_regex(r"[a-z0-9]+([-_][a-z0-9]+)*", fullmatch=True).filter(lambda name: len(name) <= MAX_NAME_LENGTH)
GRIDS = st.tuples(st.integers(1, 60), st.integers(1, 12))


def grid_of(target_num_samples: int, batch_size: int, name: str = "night") -> BatchGrid:
    return BatchGrid(name, batch_size, target_num_samples)


def batch(batch_no: int, num_samples: int, stopped_reason: str | None = None) -> Batch:
    return Batch(batch_no, 0, num_samples, 0, {}, stopped_reason)


def spans(of: BatchGrid) -> list[tuple[int, int]]:
    ranges = of.all()
    return [(span.first_sample_idx, span.end_sample_idx) for span in ranges]


def is_slug(text: str) -> bool:
    """What a slug is, said otherwise: parts of a-z and 0-9, none empty, with single separators."""
    return text.isascii() and all(part.isalnum() and part == part.lower() for part in re.split("[-_]", text))


@pytest.mark.long
@given(st.text(ALPHABET, max_size=8) | st.text(max_size=4) | NAMES)
def test_exactly_the_slugs_are_names(text):
    if is_slug(text) and len(text) <= MAX_NAME_LENGTH:
        assert check_name(text) == text
    else:
        with pytest.raises(InvalidNameError) as caught:
            check_name(text)
        assert repr(text) in str(caught.value)
        assert "a-z, 0-9 and single - or _" in str(caught.value)


@pytest.mark.parametrize("name", ["", "Night", "a--b", "a__b", "-a", "a-", "a b", "a/b", "../a", "à", "a\n", "a" * 64])
def test_what_is_no_slug_is_no_name(name):
    with pytest.raises(InvalidNameError):
        check_name(name)


@given(NAMES, st.integers(0, 5_000_000))
def test_partition_keys_go_there_and_back(name, batch_no):
    key = partition_key(name, batch_no)
    assert parse_partition_key(key) == (name, batch_no)
    assert re.fullmatch(re.escape(name) + r"__\d{5,7}", key)


@given(st.text(ALPHABET, max_size=14) | st.text(max_size=6))
def test_any_other_text_is_no_partition_key(text):
    try:
        name, batch_no = parse_partition_key(text)
    except InvalidNameError:
        return
    assert partition_key(name, batch_no) == text
    assert check_name(name) == name


@pytest.mark.parametrize(
    "key",
    [
        "night",
        "night__",
        "night__1",
        "night__0001",
        "night__000001",
        "night_00001",
        "__00001",
        "Night__00001",
        "a__b__00001",
        "night__00001\n",
        "night__-0001",
        "night__\u0660\u0660\u0660\u0660\u0661",  # digits, but Arabic ones
        "night__" + "1" * 5000,
    ],
)
def test_a_malformed_key_is_refused(key):
    with pytest.raises(InvalidNameError):
        parse_partition_key(key)


@given(GRIDS)
def test_batches_cover_every_index_once(grid):
    target, size = grid
    found = spans(grid_of(target, size))
    assert [idx for first, end in found for idx in range(first, end)] == list(range(target))
    assert all(end - first == size for first, end in found[:-1])


@given(GRIDS, st.integers(0, 60))
def test_an_expansion_keeps_the_grid(grid, more):
    target, size = grid
    before, after = spans(grid_of(target, size)), spans(grid_of(target + more, size))
    assert [first for first, _ in before] == [first for first, _ in after[: len(before)]]
    assert before[:-1] == after[: len(before) - 1]


@pytest.mark.parametrize("batch_no", [-1, 2, 5])
def test_a_batch_beyond_the_target_does_not_exist(batch_no):
    with pytest.raises(InvalidNameError, match=rf"night has batches 0 to 1 for its 15 samples, no batch {batch_no}"):
        grid_of(15, 10).batch(batch_no)


def test_a_batch_is_named_after_its_dataset_and_number():
    assert grid_of(25, 10).batch(2).partition_key == "night__00002"


def test_missing_is_what_should_be_less_what_is():
    of = grid_of(25, 10)
    there = [batch(2, 5), batch(0, 10)]
    assert [span.batch_no for span in of.missing(there)] == [1]
    assert [span.batch_no for span in of.missing([])] == [0, 1, 2]
    assert of.missing([batch(n, 10) for n in range(2)] + [batch(2, 5)]) == []


def test_an_expansion_makes_the_last_batch_missing_again():
    missing = grid_of(28, 10).missing([batch(0, 10), batch(1, 10), batch(2, 5)])
    assert [(span.batch_no, span.first_sample_idx, span.end_sample_idx) for span in missing] == [(2, 20, 28)]


def test_a_stopped_batch_is_missing_until_it_is_full():
    of = grid_of(20, 10)
    assert [s.batch_no for s in of.missing([batch(0, 0, "max_attempts"), batch(1, 10)])] == [0]
    assert [s.batch_no for s in of.missing([batch(0, 5, "max_attempts"), batch(1, 10)])] == [0]


@given(GRIDS, st.sets(st.integers(0, 59)))
def test_batches_that_are_there_and_missing_ones_are_all_of_them(grid, there):
    target, size = grid
    of = grid_of(target, size)
    ranges = of.all()
    full = [batch(s.batch_no, s.num_samples) for s in ranges if s.batch_no in there]
    missing = [span.batch_no for span in of.missing(full)]
    assert sorted(missing + [b.batch_no for b in full]) == [s.batch_no for s in ranges]
    assert missing == sorted(missing)
