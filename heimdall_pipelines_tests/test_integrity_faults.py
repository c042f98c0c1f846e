"""What somebody or something did to a dataset's rows and objects: found by the check meant for it, and repaired."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.exc import IntegrityError

from heimdall_pipelines.datasets import generating, samples
from heimdall_pipelines.datasets.checks import check_batch
from heimdall_pipelines.datasets.findings import BATCH_FEATURE_CHECKS, BATCH_IQ_CHECKS
from heimdall_pipelines.datasets.generating import BatchProgress
from heimdall_pipelines.datasets.repair import NoSuchSampleError
from heimdall_pipelines.datasets.samples import GeneratorVersionError
from heimdall_pipelines.datasets.validation import DatasetValidation, validate_dataset
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.objects import ObjectsRefusedError
from heimdall_pipelines.store.stores import open_stores
from heimdall_pipelines_tests.datasets.support import add, assert_agrees, execute, feature_rows, iq_sha256, make
from heimdall_pipelines_tests.integrity import (
    AS_BEFORE,
    NAME,
    NUM_SAMPLES,
    OBJECTS_OF_BATCH,
    RX_IDS,
    Night,
    failed,
    in_words,
    night_of_module,
    numbers,
)
from heimdall_pipelines_tests.sealing import reseal

ALL = tuple(range(NUM_SAMPLES))
RX = RX_IDS[0]


@pytest.fixture(scope="module")
def _module(server_settings, _template):
    with night_of_module(server_settings) as made:
        yield made


@pytest.fixture
def settings(_module):
    return _module[0]


@pytest.fixture
def night(_module) -> Night:
    _module[1].make_sound()
    return _module[1]


@pytest.fixture
def few_kept(night, monkeypatch):
    """The dataset as it would be if the IQ of four samples were kept, not of a hundred."""
    monkeypatch.setattr(samples, "NUM_KEPT_IQ", 4)
    monkeypatch.setattr(generating, "NUM_KEPT_IQ", 4)
    night.clear()
    return Night(night.stores)


@dataclass(frozen=True)
class Edit:
    """A fault, the checks that must fail for it and no other, and the samples that must be regenerated.

    ``named`` are regular expressions, each to be found in an example of the failed checks.
    """

    title: str
    inject: Callable[[Night], object]
    detected_by: str
    named: tuple[str, ...]
    to_regenerate: tuple[int, ...] = ()
    health: str = "critical"
    only_with_checksums: bool = False


def rows(table: str, change: str, *idxs: int) -> Callable[[Night], None]:
    """Change rows of some samples; all if none is given."""
    where = "dataset_id = :id" + (" AND sample_idx = ANY(:idxs)" if idxs else "")
    verb = f"DELETE FROM heimdall.{table}" if change == "DELETE" else f"UPDATE heimdall.{table} SET {change}"
    return lambda night: night.execute(f"{verb} WHERE {where}", idxs=list(idxs))


features = partial(rows, "measurement_features")
iq_rows = partial(rows, "synthetic_iq_samples")


def dataset_row(change: str) -> Callable[[Night], None]:
    return lambda night: night.execute(f"UPDATE heimdall.synthetic_datasets SET {change} WHERE id = :id")


def batch_row(change: str, batch_no: int) -> Callable[[Night], None]:
    verb = "DELETE FROM" if change == "DELETE" else "UPDATE"
    return lambda night: night.execute(
        f"{verb} heimdall.synthetic_batches {'' if change == 'DELETE' else f'SET {change}'}"
        " WHERE dataset_id = :id AND batch_no = :batch_no",
        batch_no=batch_no,
    )


def in_turn(*edits: Callable[[Night], object]) -> Callable[[Night], None]:
    def inject(night: Night) -> None:
        for edit in edits:
            edit(night)

    return inject


def changed_bytes(night: Night, change: Callable[[bytes], bytes], sample_idx: int = 3) -> None:
    key = night.key(sample_idx)
    night.put(key, change(night.read(key)))


def flip_a_bit(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def remove_every_object(night: Night) -> None:
    night.stores.objects.remove(night.bucket, f"synthetic/{night.dataset.id}/")


NO_ETAG = iq_rows("iq_metadata = iq_metadata - 'etag'", 3)
ANOTHER_LATITUDE = "truth = jsonb_set(truth, '{tx_latitude}', '45.5')"

OBJECTS = [
    Edit(
        "an object is deleted",
        lambda night: night.delete(night.key(3)),
        "objects_agree",
        (rf"sample 3: \S+/3/{RX}\.sigmf-data is missing",),
        (3,),
    ),
    Edit(
        "an object is truncated",
        lambda night: changed_bytes(night, lambda content: content[:-8]),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-data has 19992 bytes, 20000 are expected",),
        (3,),
    ),
    Edit(
        "an object is empty",
        lambda night: changed_bytes(night, lambda content: b""),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-data has 0 bytes, 20000 are expected",),
        (3,),
    ),
    Edit(
        "an object is replaced by another one of the same size",
        lambda night: night.put(night.key(3), night.read(night.key(4))),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-data was changed since it was stored: its SHA-256 differs",),
        (3,),
    ),
    Edit(
        "one bit of an object is flipped",
        lambda night: changed_bytes(night, flip_a_bit),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-data was changed since it was stored",),
        (3,),
    ),
    Edit(
        "an object is replaced, and its row, of an older version, has no ETag",
        in_turn(
            NO_ETAG,
            lambda night: reseal(night.stores),
            lambda night: night.put(night.key(3), night.read(night.key(4))),
        ),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-data was changed since it was stored",),
        (3,),
        only_with_checksums=True,
    ),
    Edit(
        "a sidecar is deleted",
        lambda night: night.delete(night.key(3, sidecar=True)),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-meta is missing",),
        (3,),
    ),
    Edit(
        "a sidecar is emptied",
        lambda night: night.put(night.key(3, sidecar=True), b""),
        "objects_agree",
        (rf"/3/{RX}\.sigmf-meta is empty",),
        (3,),
    ),
    Edit(
        "a sample's folder has an additional object",
        lambda night: night.put(f"synthetic/{night.dataset.id}/3/notes.txt", b"x"),
        "objects_agree",
        (r"/3/notes\.txt: no row names it",),
        health="warning",
    ),
    Edit(
        "additional objects lie outside the samples' folders",
        in_turn(
            lambda night: night.put(f"synthetic/{night.dataset.id}/notes.txt", b"x"),
            lambda night: night.put(f"synthetic/{night.dataset.id}/03/notes.txt", b"x"),
        ),
        "objects_agree",
        (r"/notes\.txt: no row names it", r"/03/notes\.txt: no row names it"),
        health="warning",
    ),
    Edit(
        "an object exists for a sample beyond the target",
        lambda night: night.put(night.key(999), b"x"),
        "objects_agree",
        (r"/999/\S+: no row names it",),
        health="warning",
    ),
]

ROWS = [
    Edit(
        "a feature row is deleted",
        features("DELETE", 3),
        "counts_agree samples_without_gap iq_of_every_sample rows_as_committed",
        ("sample 3: its feature row is missing", "sample 3: an IQ row exists, but no feature row"),
        (3,),
    ),
    Edit(
        "both rows of a sample are deleted, its objects remain",
        in_turn(features("DELETE", 11), iq_rows("DELETE", 11)),
        "counts_agree samples_without_gap objects_agree rows_as_committed",
        ("sample 11: its feature row is missing", "/11/.*: no row names it"),
        (11,),
    ),
    Edit(
        "every feature row is deleted",
        features("DELETE"),
        "counts_agree samples_without_gap iq_of_every_sample rows_as_committed",
        ("sample 0: its feature row is missing",),
        ALL,
    ),
    Edit(
        "every IQ row and every object is deleted, the features are kept",
        in_turn(iq_rows("DELETE"), remove_every_object),
        "counts_agree iq_of_every_sample rows_as_committed",
        ("0 IQ rows exist, 12 are expected", "sample 3: its IQ should be kept, but there is no IQ row"),
        ALL,
    ),
    Edit(
        "all rows except those of the dataset and its batches are deleted, and all objects",
        in_turn(features("DELETE"), iq_rows("DELETE"), remove_every_object),
        "counts_agree samples_without_gap rows_as_committed",
        ("sample 11: its feature row is missing",),
        ALL,
    ),
    Edit(
        "an IQ row is deleted",
        iq_rows("DELETE", 3),
        "counts_agree iq_of_every_sample objects_agree rows_as_committed",
        ("sample 3: its IQ should be kept, but there is no IQ row", "/3/.*: no row names it"),
        (3,),
    ),
    Edit(
        "an IQ row is inserted for a sample beyond the target",
        lambda night: night.execute(
            "INSERT INTO heimdall.synthetic_iq_samples SELECT (jsonb_populate_record(s, '{\"sample_idx\": 50}')).*"
            " FROM heimdall.synthetic_iq_samples s WHERE dataset_id = :id AND sample_idx = 3"
        ),
        "counts_agree iq_of_every_sample objects_agree rows_as_committed",
        ("sample 50: an IQ row exists, but no feature row",),
    ),
    Edit(
        "an IQ row is inserted for a sample beyond the target, and an object",
        in_turn(
            lambda night: night.execute(
                "INSERT INTO heimdall.synthetic_iq_samples SELECT (jsonb_populate_record(s, jsonb_build_object("
                "'sample_idx', 50, 'iq_storage_paths', jsonb_build_object(CAST(:rx AS text), CAST(:key AS text))))).*"
                " FROM heimdall.synthetic_iq_samples s WHERE dataset_id = :id AND sample_idx = 3",
                rx=RX,
                key=night.key(50),
            ),
            lambda night: night.put(night.key(50), b"x"),
        ),
        "counts_agree iq_of_every_sample objects_agree rows_as_committed",
        ("sample 50: an IQ row exists, but no feature row", "/50/.* has 1 bytes"),
    ),
    Edit(
        "a path in an IQ row is edited",
        iq_rows(f"iq_storage_paths = jsonb_set(iq_storage_paths, '{{{RX}}}', '\"elsewhere/x.npy\"')", 3),
        "iq_of_every_sample objects_agree rows_as_committed",
        ("sample 3: the IQ row names 3 objects.*elsewhere/x.npy", "elsewhere/x.npy is missing"),
        (3,),
    ),
    Edit(
        "a checksum in an IQ row is deleted",
        iq_rows(f"iq_metadata = iq_metadata #- '{{sha256,{RX}}}'", 3),
        "iq_of_every_sample rows_as_committed",
        ("sample 3: the IQ row's checksums or length do not match the sample",),
        (3,),
    ),
    Edit(
        "num_samples is set to 0",
        dataset_row("num_samples = 0"),
        "counts_agree rows_as_committed",
        ("num_samples is 0, 12 feature rows exist",),
    ),
    Edit(
        "num_samples is set too high",
        dataset_row("num_samples = 5074"),
        "counts_agree rows_as_committed",
        ("num_samples is 5074, 12 feature rows exist",),
    ),
    Edit(
        "the target is lowered",
        dataset_row("target_num_samples = 7"),
        "counts_agree rows_as_committed",
        ("sample 11 exists, the target is 7 samples",),
        health="warning",
    ),
    Edit(
        "the count of a batch is lowered",
        batch_row("num_samples = 3", 0),
        "counts_agree samples_without_gap rows_as_committed",
        ("batch 0: it counts 3 samples, 5 feature rows exist",),
        health="warning",
    ),
    Edit(
        "the count of a batch is set above the batch size",
        batch_row("num_samples = 9", 0),
        "counts_agree samples_without_gap rows_as_committed",
        ("batch 0: it counts 9 samples, 5 feature rows exist",),
        health="warning",
    ),
    Edit(
        "the count of the last batch is set beyond the target",
        batch_row("num_samples = 5", 2),
        "counts_agree samples_without_gap rows_as_committed",
        ("batch 2: it counts 5 samples, 2 feature rows exist",),
        health="warning",
    ),
    Edit(
        "the row of a batch is deleted",
        batch_row("DELETE", 1),
        "counts_agree samples_without_gap rows_as_committed",
        ("batch 1: it counts 0 samples, 5 feature rows exist",),
        health="warning",
    ),
]

NUMBERS = [
    Edit(
        "the truth is edited in a feature row",
        features(ANOTHER_LATITUDE, 3),
        "truths_agree rows_as_committed",
        (r"sample 3: tx_latitude is \S+ in its column and 45.5 in the truth", "differs between feature row and IQ row"),
        (3,),
    ),
    Edit(
        "the truth is edited in an IQ row",
        iq_rows(ANOTHER_LATITUDE, 3),
        "truths_agree rows_as_committed",
        (r"sample 3: tx_latitude \(\S+ and 45.5\) differs between feature row and IQ row",),
        (3,),
    ),
    Edit(
        "the truth is edited identically in both rows and the column",
        in_turn(features(f"{ANOTHER_LATITUDE}, tx_latitude = 45.5", 3), iq_rows(ANOTHER_LATITUDE, 3)),
        "truths_agree rows_as_committed",
        (r"sample 3: tx_latitude \(\S+ and 45.5\) is not what the seed gives",),
        (3,),
    ),
    Edit(
        "only the column tx_latitude is edited",
        features("tx_latitude = 45.5", 3),
        "truths_agree rows_as_committed",
        (r"sample 3: tx_latitude is 45.5 in its column and \S+ in the truth",),
        (3,),
    ),
    Edit(
        "the truth is deleted in a feature row",
        features("truth = NULL", 3),
        "truths_agree rows_as_committed",
        ("sample 3: the feature row has no truth",),
        (3,),
    ),
    Edit(
        "an SNR is set to 1e9 dB",
        features("receiver_features = jsonb_set(receiver_features, '{0,snr_db,mean}', '1e9')", 3),
        "numbers_in_range rows_as_committed",
        (rf"sample 3: {RX} snr_db\.mean = 1000000000(\.0)? is outside -100\.\.200",),
        (3,),
    ),
    Edit(
        "a number is replaced by text",
        features("receiver_features = jsonb_set(receiver_features, '{0,snr_db,mean}', '\"12.5\"')", 3),
        "numbers_in_range rows_as_committed",
        (rf"sample 3: {RX} snr_db\.mean = '12\.5' is no number",),
        (3,),
    ),
    Edit(
        "a receiver is removed from the features",
        features("receiver_features = receiver_features - 0", 3),
        "truths_agree numbers_in_range iq_of_every_sample rows_as_committed",
        ("sample 3: receivers of the truth are not those of the features",),
        (3,),
    ),
    Edit(
        "a feature is removed",
        features("receiver_features = receiver_features #- '{0,snr_db}'", 3),
        "numbers_in_range rows_as_committed",
        (f"sample 3: {RX} lacks snr_db",),
        (3,),
    ),
    Edit(
        "a time difference is set to 1e9 us",
        features("time_differences = jsonb_set(time_differences, '{0,tdoa_us}', '1e9')", 3),
        "numbers_in_range triangles_close rows_as_committed",
        (r"sample 3: \S+ tdoa_us = 1000000000(\.0)? is outside -\d+\.\.\d+",),
        (3,),
    ),
    Edit(
        "a time difference is 200 us longer",
        features(
            "time_differences = jsonb_set(time_differences, '{0,tdoa_us}',"
            " to_jsonb((time_differences #>> '{0,tdoa_us}')::float8 + 200))",
            3,
        ),
        "triangles_close rows_as_committed",
        (r"sample 3: \S+ to \S+ to \S+ to \S+: \S+ us, limit \d+\.\d us",),
        (3,),
    ),
    Edit(
        "a pair is removed from the time differences",
        features("time_differences = time_differences - 0", 3),
        "numbers_in_range rows_as_committed",
        ("sample 3: time_differences are of 2 pairs, not the 3 of the receivers that detected",),
        (3,),
    ),
    Edit(
        "the time differences of a sample are deleted",
        features("time_differences = NULL", 3),
        "numbers_in_range rows_as_committed",
        ("sample 3: lacks time_differences",),
        (3,),
    ),
    Edit(
        "the column mean_snr_db is edited",
        features("mean_snr_db = mean_snr_db + 1", 3),
        "numbers_in_range rows_as_committed",
        (r"sample 3: mean_snr_db is \S+, its receivers give",),
        (3,),
    ),
    Edit(
        "the column gdop is edited",
        features("gdop = 1", 3),
        "numbers_in_range rows_as_committed",
        (r"sample 3: gdop is 1.0, its receivers give",),
        (3,),
    ),
    Edit(
        "the count of receivers is edited",
        features("num_receivers_in_sample = 7", 3),
        "numbers_in_range rows_as_committed",
        ("sample 3: . of 7 receivers are stored as detected",),
        (3,),
    ),
]


UNREADABLE = {
    "time differences": features("time_differences = '[1]'", 3),
    "a time difference": features("time_differences = jsonb_set(time_differences, '{0,peak}', '\"high\"')", 3),
    "a feature row's truth": features("truth = '[1]'", 3),
    "links": features("truth = jsonb_set(truth, '{receivers}', '[1, 2, 3]')", 3),
    "a receiver": features("receiver_features = jsonb_set(receiver_features, '{0}', '{\"rx_id\": \"x\"}')", 3),
    "receivers": features("receiver_features = '[1]'", 3),
    "a feature": features("receiver_features = jsonb_set(receiver_features, '{0,snr_db}', '7')", 3),
    "metadata": features("extraction_metadata = '[]'", 3),
    "attempts": features("extraction_metadata = jsonb_set(extraction_metadata, '{attempts}', '\"many\"')", 3),
    "an IQ row's truth": iq_rows("truth = '7'", 3),
    "IQ metadata": iq_rows("iq_metadata = '[]'", 3),
    "checksums": iq_rows("iq_metadata = jsonb_set(iq_metadata, '{sha256}', 'null')", 3),
    "paths": iq_rows("iq_storage_paths = '{\"x\": null}'", 3),
    "no paths": iq_rows("iq_storage_paths = '{}'", 3),
    "both rows": in_turn(features("receiver_features = '[{}]'", 3), iq_rows("iq_metadata = '1'", 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("inject", UNREADABLE.values(), ids=list(UNREADABLE))
def test_malformed_json_is_a_problem_of_its_sample(night, inject):
    inject(night)
    examples = [example for group in failed(night.validate()).values() for example in group]
    assert any(example.startswith("sample 3: ") for example in examples)
    assert night.repair().to_regenerate == (3,)
    night.assert_sound()


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit",
    [pytest.param(edit, marks=pytest.mark.fault(edit.title)) for edit in [*OBJECTS, *ROWS, *NUMBERS]],
    ids=lambda edit: edit.title.replace(" ", "-"),
)
def test_an_edit_is_found_and_repaired_to_the_byte(night, fault, edit):
    edit.inject(night)

    if edit.only_with_checksums:
        assert failed(night.validate()) == {}
    validation = night.validate(checksums=edit.only_with_checksums)
    found = failed(validation)
    assert set(found) == set(edit.detected_by.split()), found
    assert validation.health_status == edit.health
    examples = [example for group in found.values() for example in group]
    for name in edit.named:
        assert any(re.search(name, example) for example in examples), examples

    plan = night.plan(checksums=edit.only_with_checksums)
    assert plan.is_empty == bool(re.fullmatch(r"\d+ young orphans? kept", in_words(plan)))
    assert plan.to_regenerate == edit.to_regenerate
    done = night.repair(checksums=edit.only_with_checksums)
    for promised in ("to_regenerate", "iq_rows_to_remove", "batches_to_count", "num_samples"):
        assert getattr(done, promised) == getattr(plan, promised)
    assert done.num_orphans == plan.num_young_orphans + plan.num_orphans  # all of them are young here
    if edit.only_with_checksums:  # its row, of an older version, is good: it stays
        assert failed(night.validate(checksums=True)) == {}
        assert night.snapshot().objects == night.sound.objects
    else:
        night.assert_sound()

    fault.record(
        detected_by=_seen(validation) + (", only with --checksums" if edit.only_with_checksums else ""),
        result=f"{in_words(done)}: {AS_BEFORE}",
    )


@pytest.mark.fault("a sample is inserted a second time")
@pytest.mark.parametrize("table", ["measurement_features", "synthetic_iq_samples"])
def test_a_sample_cannot_be_there_twice(night, fault, table):
    new_id = "gen_random_uuid()" if table == "measurement_features" else "dataset_id"
    column = "id" if table == "measurement_features" else "dataset_id"
    with pytest.raises(IntegrityError) as caught:
        night.execute(
            f"INSERT INTO heimdall.{table}"
            f" SELECT (jsonb_populate_record(t, jsonb_build_object('{column}', {new_id}))).*"
            f" FROM heimdall.{table} t WHERE dataset_id = :id AND sample_idx = 3"
        )
    night.assert_sound()
    fault.record(detected_by=[type(caught.value).__name__], result="PostgreSQL rejects it; every row as before")


@pytest.mark.fault("samples are missing from a dataset of another generator version")
def test_another_generator_version_is_checked_and_never_repaired(night, fault):
    version = "UPDATE heimdall.synthetic_datasets SET generator_version = 99 WHERE id = :id"
    night.execute(version)
    reseal(night.stores)
    assert failed(night.validate(checksums=True)) == {}  # consistent data are healthy in any generator version
    assert night.plan().is_empty
    in_turn(features("DELETE", 3), lambda night: night.delete(night.key(5)))(night)
    night.put(f"synthetic/{night.dataset.id}/notes.txt", b"x")
    before = night.snapshot()

    validation = night.validate()
    found = failed(validation)
    assert set(found) == {
        "counts_agree",
        "samples_without_gap",
        "iq_of_every_sample",
        "objects_agree",
        "rows_as_committed",
    }
    plan = night.plan()
    assert (plan.to_regenerate, plan.is_possible) == ((3, 5), False)
    with pytest.raises(GeneratorVersionError, match=r"night: 2 samples .* generator version 99.* Nothing was changed"):
        night.repair()
    assert night.snapshot() == before
    fault.record(
        detected_by=_seen(validation),
        result="the repair fails with `GeneratorVersionError` and changes nothing",
    )


@pytest.mark.fault("only counts are wrong in a dataset of another generator version")
def test_counts_of_another_generator_version_are_repaired(night, fault):
    night.execute("UPDATE heimdall.synthetic_datasets SET generator_version = 99 WHERE id = :id")
    reseal(night.stores)
    night.execute("UPDATE heimdall.synthetic_datasets SET num_samples = 1 WHERE id = :id")
    validation = night.validate()
    done = night.repair()
    assert failed(night.validate()) == {}
    night.execute("UPDATE heimdall.synthetic_datasets SET generator_version = :it WHERE id = :id", it=GENERATOR_VERSION)
    reseal(night.stores)
    night.assert_sound()
    fault.record(detected_by=_seen(validation), result=f"{in_words(done)}: {AS_BEFORE}")


@pytest.mark.fault("orphans are younger than an hour")
def test_young_orphans_are_kept_and_old_ones_removed(night, fault):
    night.unmake(1)
    missing = night.snapshot()
    with pytest.raises(_BrokenOffError):
        make(night.stores, NAME, 1, progress=_break_off_at_the_end)
    stored = night.snapshot()
    assert len(stored.objects) == len(missing.objects) + OBJECTS_OF_BATCH
    num_bytes = sum(size for key, (size, _) in night.entries().items() if key not in missing.objects)

    validation = night.validate()
    assert set(failed(validation)) == {"objects_agree"}
    assert numbers(validation, "objects_agree")["objects_without_row"] == OBJECTS_OF_BATCH
    plan = night.plan()
    assert plan.is_empty
    assert plan.num_young_orphans == OBJECTS_OF_BATCH
    left = night.repair(min_orphan_age=timedelta(hours=1))
    assert night.snapshot() == stored
    removed = night.repair(min_orphan_age=timedelta(0))
    assert night.snapshot() == missing
    assert (removed.num_orphans, removed.orphan_bytes) == (OBJECTS_OF_BATCH, num_bytes)
    fault.record(detected_by=_seen(validation), result=f"{in_words(left)}; when they are older: {in_words(removed)}")


@pytest.mark.slow
@pytest.mark.fault("an IQ row exists for a sample whose IQ is not kept")
def test_an_iq_row_too_many_is_removed(few_kept, fault):
    night = few_kept
    night.execute(
        "INSERT INTO heimdall.synthetic_iq_samples"
        " SELECT (jsonb_populate_record(s, jsonb_build_object('sample_idx', 9, 'truth', f.truth))).*"
        " FROM heimdall.synthetic_iq_samples s, heimdall.measurement_features f"
        " WHERE s.dataset_id = :id AND f.dataset_id = :id AND s.sample_idx = 3 AND f.sample_idx = 9"
    )
    validation = night.validate()
    assert set(failed(validation)) == {"counts_agree", "iq_of_every_sample", "objects_agree", "rows_as_committed"}
    done = night.repair()
    night.assert_sound()
    fault.record(detected_by=_seen(validation), result=f"{in_words(done)}: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("the feature row of a sample without IQ is deleted, and an object exists for it")
def test_orphan_objects_of_a_regenerated_sample_are_removed_at_once(few_kept, fault):
    night = few_kept
    night.execute("DELETE FROM heimdall.measurement_features WHERE dataset_id = :id AND sample_idx = 9")
    night.put(night.key(9), b"x")
    validation = night.validate()
    assert set(failed(validation)) == {"counts_agree", "samples_without_gap", "objects_agree", "rows_as_committed"}
    done = night.repair()
    night.assert_sound()
    fault.record(detected_by=_seen(validation), result=f"{in_words(done)}: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("one of a hundred samples is affected")
def test_few_of_many_samples_are_a_warning(few_kept, fault):
    night = few_kept
    night.clear()
    dataset = add(night.stores, NAME, 105, num_chunks=1, duration_ms=20)
    make(night.stores, NAME)
    before = feature_rows(night.stores, dataset), iq_sha256(night.stores, dataset)
    night.stores.objects.remove(night.bucket, f"synthetic/{dataset.id}/3/")
    execute(night.stores, "DELETE FROM heimdall.measurement_features WHERE sample_idx = 104")
    validation = validate_dataset(night.stores, NAME, seed=1)
    assert (validation.num_affected, validation.num_all) == (2, 105)
    assert validation.health_status == "warning"
    done = night.repair()
    assert validate_dataset(night.stores, NAME, checksums=True, seed=1).health_status == "healthy"
    assert (feature_rows(night.stores, dataset), iq_sha256(night.stores, dataset)) == before
    assert_agrees(night.stores, NAME, range(105))
    fault.record(detected_by=_seen(validation), result=f"{in_words(done)}: {AS_BEFORE}")


@pytest.mark.slow
def test_of_many_problems_twenty_are_reported(night):
    remove_every_object(night)
    (outcome,) = (outcome for outcome in night.validate().outcomes if not outcome.passed)
    assert (outcome.num_problems, len(outcome.examples)) == (NUM_SAMPLES * len(RX_IDS) * 2, 20)
    assert len(night.plan().examples) == 20
    night.repair()
    night.assert_sound()


@pytest.mark.fault("the bucket is missing")
def test_a_missing_bucket_is_said_and_no_failed_check(night, settings, fault):
    elsewhere = settings.model_copy(update={"s3_bucket_synthetic_iq": "no-such-bucket-here"})
    before = night.rows()
    with open_stores(elsewhere) as stores:
        for do in (night.validate, night.repair):
            with pytest.raises(ObjectsRefusedError, match=r"bucket not found .* heimdall db migrate") as caught:
                do(stores)
    assert (night.rows(), night.health()) == (before, ("unknown", None))
    fault.record(
        detected_by=[type(caught.value).__name__],
        result="no check is passed or failed, no health is written, nothing is changed",
    )


@pytest.mark.fault("the target is lowered while batches before the last one are missing")
def test_a_target_below_what_was_made_out_of_order_is_found_and_raised(night, fault):
    night.unmake(0)
    night.unmake(1)
    before = night.snapshot()
    assert failed(night.validate()) == {}
    night.execute("UPDATE heimdall.synthetic_datasets SET target_num_samples = 7 WHERE id = :id")
    validation = night.validate()
    assert failed(validation) == {
        "counts_agree": ["sample 11 exists, the target is 7 samples"],
        "rows_as_committed": ["dataset: target_num_samples is not as committed"],
    }
    done = night.repair()
    assert night.snapshot() == before
    assert night.plan().is_empty
    fault.record(detected_by=_seen(validation), result=f"{in_words(done)}: {AS_BEFORE}")


@pytest.mark.slow
@pytest.mark.fault("features are edited, within their ranges")
def test_wrong_features_are_found_by_regeneration_and_repaired(night, fault):
    night.execute(
        "UPDATE heimdall.measurement_features SET receiver_features ="
        " jsonb_set(receiver_features, '{0,multipath_delay_spread_us,std}', '0.123')"
        " WHERE dataset_id = :id"
    )
    validation = night.validate()
    assert set(failed(validation)) == {"rows_as_committed"}
    assert night.plan().to_regenerate == ALL
    reseal(night.stores)  # as if it had been committed so
    (outcome,) = (one for one in night.validate().outcomes if not one.passed)
    assert outcome.name == "samples_regenerate_identically"
    named = re.match(r"sample (\d+): features of .* are not those of its IQ", outcome.examples[0])
    assert outcome.repair == f"heimdall dataset repair {NAME} --sample {named[1]} --apply"
    committed = night.snapshot()
    done = night.repair(also=range(NUM_SAMPLES))
    assert any("its feature row is as committed, and stays" in refusal for refusal in done.refusals)
    assert night.snapshot() == committed
    night.repair(also=range(NUM_SAMPLES), overwrite=True)
    night.assert_sound()
    with pytest.raises(NoSuchSampleError, match="no sample -1, 12: it has 0 to 11"):
        night.repair(also=[-1, 3, 12])
    fault.record(
        detected_by=f"{_seen(validation)}; committed so: `samples_regenerate_identically`, for a chosen one",
        result=f"what was committed stays; with `--overwrite` the samples are regenerated: {AS_BEFORE}",
    )


@pytest.mark.fault("a feature row is inserted far beyond the target")
def test_a_feature_row_of_no_batch_is_reported_and_kept(night, fault):
    night.execute(
        "INSERT INTO heimdall.measurement_features SELECT (jsonb_populate_record(f, jsonb_build_object("
        "'sample_idx', 4000000, 'id', gen_random_uuid()))).*"
        " FROM heimdall.measurement_features f WHERE dataset_id = :id AND sample_idx = 3"
    )
    broken = night.snapshot()
    validation = night.validate()
    assert failed(validation) == {
        "counts_agree": ["feature rows beyond the target, of no batch: 1"],
        "samples_without_gap": [
            "sample 4000000: a feature row beyond the target that belongs to no batch: inspect it, and "
            "delete it with SQL"
        ],
        "rows_as_committed": ["sample 4000000: feature row: id, sample_idx are not as committed"],
    }
    assert night.plan().is_empty
    night.repair()
    assert night.snapshot() == broken
    fault.record(detected_by=_seen(validation), result="the row and the target are not changed; a person must decide")


def test_samples_of_a_lone_last_batch_are_regenerated(night):
    night.unmake(0)
    night.unmake(1)
    assert numbers(night.validate(), "samples_regenerate_identically")["samples_regenerated"] == 1
    night.execute("UPDATE heimdall.synthetic_batches SET num_samples = 2000000000 WHERE dataset_id = :id")
    assert set(failed(night.validate())) == {"counts_agree", "samples_without_gap", "rows_as_committed"}


@pytest.mark.parametrize("checked", [0, 1, 2])
def test_a_check_of_a_batch_sees_its_samples_alone(night, checked):
    in_turn(features("tx_latitude = 45.5", 3), iq_rows("DELETE", 6))(night)
    night.delete(night.key(11))
    found = check_batch(night.stores, NAME, checked)
    assert list(found.outcomes) == [*BATCH_FEATURE_CHECKS, *BATCH_IQ_CHECKS]
    expected = ({"truths_agree", "rows_as_committed"}, {"rows_as_committed", "iq_of_every_sample"}, {"objects_agree"})
    assert {outcome.name for outcome in found.outcomes.values() if not outcome.passed} == expected[checked]
    assert found.affected == {(3, 6, 11)[checked]}


def test_a_check_of_a_batch_that_is_not_committed_fails(night):
    night.unmake(1)
    outcome = check_batch(night.stores, NAME, 1).outcomes["samples_without_gap"]
    assert outcome.examples == ["batch 1 is not committed"]


class _BrokenOffError(Exception):
    pass


def _break_off_at_the_end(progress: BatchProgress) -> None:
    if progress.num_made == progress.num_samples:
        raise _BrokenOffError


def _seen(validation: DatasetValidation) -> str:
    return f"{', '.join(f'`{name}`' for name in failed(validation))}: {validation.health_status}"
