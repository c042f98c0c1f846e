"""What somebody edits in rows, sidecars and objects is found by the check that is meant for it, and nothing else is."""

import re

import pytest

from heimdall_pipelines.datasets.repair import repair_dataset
from heimdall_pipelines.datasets.workers import Workers
from heimdall_pipelines_tests.edits import of_datasets, of_sessions
from heimdall_pipelines_tests.edits.place import Edit, Place, place_of_module
from heimdall_pipelines_tests.integrity import AS_BEFORE, in_words

EDITED = {"of a dataset": of_datasets.EDITS, "of a session": of_sessions.EDITS}
TO_A_PERSON = "nothing is regenerated or replaced; a person undoes it, or takes it over with `heimdall db accept`"


@pytest.fixture(scope="module")
def _module(server_settings, _template, example_recordings):
    with place_of_module(server_settings, example_recordings) as made:
        yield made


@pytest.fixture
def place(_module) -> Place:
    """Dataset and session as they were made."""
    yield _module[1]
    _module[1].put_back()


def edits(of: str):
    return pytest.mark.parametrize(
        "edit",
        [pytest.param(edit, marks=pytest.mark.fault(edit.title)) for edit in EDITED[of]],
        ids=lambda edit: edit.title.replace(" ", "-").replace(",", ""),
    )


def assert_found(edit: Edit, found: dict[str, list[str]]) -> None:
    assert set(found) == set(edit.found_by.split()), found
    examples = [example for group in found.values() for example in group]
    assert any(re.search(edit.named, example) for example in examples), examples


def test_nothing_is_found_where_nothing_was_edited(place):
    assert place.found() == {}
    assert place.found(checksums=True) == {}


@edits("of a dataset")
def test_an_edit_of_a_dataset_is_found_and_no_good_row_is_replaced(place, edit, fault):
    before = place.rows(), place.objects()
    edit.do(place)
    edited = place.rows(), place.objects()
    assert edited != before
    assert_found(edit, place.found_in_dataset())
    result = TO_A_PERSON
    if edit.repaired is not None:
        done = in_words(repaired(place, restore=edit.repaired == "restored"))
        assert (done, place.rows(), place.objects()) == (
            edit.repaired if edit.repaired != "restored" else done,
            *before,
        )
        result = f"{'parameters restored' if edit.repaired == 'restored' else done}: {AS_BEFORE}"
    fault.record(detected_by=edit.found_by.split(), result=result)


@edits("of a session")
def test_an_edit_of_a_session_is_found(place, edit, fault):
    edit.do(place)
    if edit.only_with_checksums:
        assert place.found() == {}
    found = place.found_in_session(checksums=edit.only_with_checksums)
    assert_found(edit, found)
    by = ", ".join(f"`{name}`" for name in edit.found_by.split())
    fault.record(detected_by=by + (", only with --checksums" if edit.only_with_checksums else ""), result=TO_A_PERSON)


def test_no_two_edits_have_the_same_title():
    titles = [edit.title for group in EDITED.values() for edit in group]
    assert len(set(titles)) == len(titles) >= 110


def repaired(place: Place, *, restore: bool):
    with Workers(1) as workers:
        return repair_dataset(place.stores, place.name(), workers, restore=restore)
