"""No random edit of a dataset or a session goes unnoticed: a few dozen in every run, 300 in `make reliability`."""

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from heimdall_pipelines_tests.edits.place import Place, place_of_module
from heimdall_pipelines_tests.edits.random_edits import RandomEdit, edit_byte, edit_row, row_edits

MANY = 300
ANYWHERE = st.floats(0, 1)
MASKS = st.integers(1, 255)


@pytest.fixture(scope="module")
def place(server_settings, _template, example_recordings):
    with place_of_module(server_settings, example_recordings) as made:
        yield made[1]


def assert_noticed(place: Place, edit: RandomEdit) -> None:
    note(edit.what)
    if not edit.is_done:
        event("rejected by PostgreSQL, or no change")
        return
    look = place.found_in_dataset if edit.of_dataset else place.found_in_session
    found = look() or look(checksums=True)
    event(f"found by {', '.join(found) or 'nothing'}")
    assert found, f"not detected: {edit.what}"


def a_row(place: Place, row_edit, data) -> None:
    try:
        assert_noticed(place, edit_row(place, *row_edit, data))
    finally:
        place.put_back()


def a_byte(place: Place, number: int, position: float, mask: int) -> None:
    own = (f"synthetic/{place.dataset_id}/", f"sessions/{place.session_id}/")  # another dataset lies beside them
    locations = sorted((location for location in place.objects() if location.key.startswith(own)), key=str)
    try:
        assert_noticed(place, edit_byte(place, locations[number % len(locations)], position, mask))
    finally:
        place.put_back()


@pytest.mark.slow
@settings(max_examples=30)
@given(row_edit=row_edits(), data=st.data())
def test_an_edit_of_any_column_of_any_row_is_noticed(place, row_edit, data):
    a_row(place, row_edit, data)


@pytest.mark.slow
@settings(max_examples=10)
@given(number=st.integers(0, 100), position=ANYWHERE, mask=MASKS)
def test_an_edit_of_any_byte_of_any_object_is_noticed(place, number, position, mask):
    a_byte(place, number, position, mask)


@pytest.mark.slow
@settings(max_examples=MANY, derandomize=False, print_blob=True)
@given(row_edit=row_edits(), data=st.data())
def test_of_many_edits_of_any_column_of_any_row_none_goes_unnoticed(place, row_edit, data):
    a_row(place, row_edit, data)


@pytest.mark.slow
@settings(max_examples=MANY // 3, derandomize=False, print_blob=True)
@given(number=st.integers(0, 100), position=ANYWHERE, mask=MASKS)
def test_of_many_edits_of_any_byte_of_any_object_none_goes_unnoticed(place, number, position, mask):
    a_byte(place, number, position, mask)
