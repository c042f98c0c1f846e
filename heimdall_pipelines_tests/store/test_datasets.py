"""Rows of datasets: one transaction per batch, counts that are counted, and the queries that people use."""

import re
from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from heimdall_pipelines.model.row_metadata import IqMetadata, SampleExtraction
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES
from heimdall_pipelines.store.batches import commit_batch, committed_sample_idxs, list_batches, note_stopped_batch
from heimdall_pipelines.store.dataset_samples import DatasetCounts, count_rows, stream_samples
from heimdall_pipelines.store.dataset_snapshot import StoredIq
from heimdall_pipelines.store.datasets import (
    DatasetExistsError,
    DatasetNotFoundError,
    delete_dataset_rows,
    find_dataset,
    get_dataset,
    list_datasets,
    raise_target,
)
from heimdall_pipelines.store.features import ReceiverFeatures
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.store.sample_rows import IqSampleRow, SampleFeatureRow, feature_row_json, iq_row_json
from heimdall_pipelines_tests.datasets.support import (
    SEVEN,
    add,
    assert_agrees,
    execute,
    make,
    object_sizes,
    query,
    stored_iq,
    truth_of,
)


@pytest.fixture
def settings(module_settings):
    return module_settings


def feature_row(sample_idx: int, attempts: int = 1, snr_db: float = 12.5, **reasons: int) -> SampleFeatureRow:
    receiver = ReceiverFeatures(
        "torino",
        45.044,
        7.672,
        250.0,
        signal_present=True,
        features={name: {"mean": snr_db, "std": 0.5, "min": 1.0, "max": 2.0} for name in FEATURE_NAMES},
    )
    return SampleFeatureRow(
        sample_idx=sample_idx,
        truth=truth_of("torino"),
        start_time_unix_ns=sample_idx * 10**9,
        receivers=(receiver,),
        time_differences=(),
        tx_latitude=45.0,
        tx_longitude=8.0,
        tx_altitude_m=200.0,
        tx_power_dbm=0.0,
        extraction_metadata=SampleExtraction(
            bandwidth_hz=12_500, segment_ms=100, chunk_ms=20, num_chunks=5, attempts=attempts, rejections=reasons
        ),
        overall_confidence=0.9,
        mean_snr_db=snr_db,
        gdop=None,
    )


def iq_row(sample_idx: int) -> IqSampleRow:
    return IqSampleRow(
        sample_idx=sample_idx,
        start_time_unix_ns=946_684_800_000_000_000 + sample_idx * 10**9,
        truth=truth_of("torino"),
        receivers_metadata=SEVEN[-1:],
        iq_metadata=IqMetadata(num_samples=2500, sha256={"torino": "ab"}, etag={"torino": "cd"}),
        iq_storage_paths={"torino": "a", "genova": "b"},
    )


def commit(stores, dataset, batch_no, rows, iq=()):
    return commit_batch(
        stores.database,
        dataset,
        dataset.grid.batch(batch_no),
        sample_idxs=[row.sample_idx for row in rows],
        feature_rows=[feature_row_json(dataset.id, row) for row in rows],
        iq_rows=[iq_row_json(dataset.id, row) for row in iq],
    )


def idxs(stores, dataset) -> list[int]:
    rows = query(
        stores,
        "SELECT sample_idx FROM heimdall.measurement_features WHERE dataset_id = :id ORDER BY sample_idx",
        id=dataset.id,
    )
    return [row["sample_idx"] for row in rows]


def num_samples(stores, name: str = "night") -> int:
    return get_dataset(stores.database, name).num_samples


def test_a_dataset_is_stored_as_it_was_given(stores):
    added = add(stores, "night", 15, sites=SEVEN, tx_power_dbm=0, min_snr_db=-0.1)
    assert get_dataset(stores.database, "night") == find_dataset(stores.database, "night") == added
    assert added.receivers == SEVEN
    assert (added.spec.tx_power_dbm, added.spec.min_snr_db, added.spec.adc_bits) == (0.0, -0.1, None)
    assert (added.num_samples, added.target_num_samples) == (0, 15)
    assert list_batches(stores.database, added.id) == []
    assert count_rows(stores.database, added.id) == DatasetCounts(0, 0, 0)


def test_a_name_is_taken_once(stores):
    first = add(stores, "night", 5)
    with pytest.raises(DatasetExistsError, match="dataset night exists already"):
        add(stores, "night", 9)
    assert list_datasets(stores.database) == [first]


@pytest.mark.parametrize("name", ["Night", "a__b", "a b", "", "a\n"])
def test_the_database_takes_slugs_only(stores, name):
    with pytest.raises(IntegrityError):
        add(stores, name, 5)


def test_datasets_are_listed_oldest_first(stores):
    names = ["zulu", "alfa", "mike"]
    for name in names:
        add(stores, name, 1)
    assert [dataset.name for dataset in list_datasets(stores.database)] == names


def test_an_unknown_dataset_is_none_or_an_error(stores):
    assert find_dataset(stores.database, "night") is None
    with pytest.raises(DatasetNotFoundError, match="unknown dataset night; see: heimdall dataset list"):
        get_dataset(stores.database, "night")


def test_a_target_is_raised_and_never_lowered(stores):
    dataset = add(stores, "night", 15)
    assert raise_target(stores.database, dataset, 40).target_num_samples == 40
    assert raise_target(stores.database, dataset, 20).target_num_samples == 40
    assert get_dataset(stores.database, "night").target_num_samples == 40
    delete_dataset_rows(stores.database, dataset.id)
    with pytest.raises(DatasetNotFoundError, match="night was deleted meanwhile"):
        raise_target(stores.database, dataset, 50)


def test_a_commit_counts_samples_attempts_and_reasons(stores):
    dataset = add(stores, "night", 25, batch_size=10)
    batch = commit(
        stores, dataset, 1, [feature_row(10, 3, gdop_too_high=2), feature_row(11, 2, too_few_receivers=1)], [iq_row(10)]
    )
    assert (batch.batch_no, batch.first_sample_idx, batch.num_samples, batch.attempts) == (1, 10, 2, 5)
    assert batch.rejections == {"gdop_too_high": 2, "too_few_receivers": 1}
    batch = commit(stores, dataset, 1, [feature_row(12, 2, gdop_too_high=1)])
    assert (batch.num_samples, batch.attempts) == (3, 7)
    assert batch.rejections == {"gdop_too_high": 3, "too_few_receivers": 1}
    commit(stores, dataset, 0, [feature_row(idx) for idx in range(4)])
    assert num_samples(stores) == 7
    assert count_rows(stores.database, dataset.id) == DatasetCounts(features=7, iq_samples=1, iq_objects=2)
    assert [batch.num_samples for batch in list_batches(stores.database, dataset.id)] == [4, 3]


def test_more_rows_than_one_insert_takes_are_committed(stores):
    dataset = add(stores, "night", 250)
    commit(stores, dataset, 0, [feature_row(idx) for idx in range(250)], [iq_row(idx) for idx in range(205)])
    assert count_rows(stores.database, dataset.id) == DatasetCounts(250, 205, 410)
    assert idxs(stores, dataset) == list(range(250))


def test_a_sample_committed_again_takes_the_place_of_the_former(stores):
    dataset = add(stores, "night", 5)
    commit(stores, dataset, 0, [feature_row(0), feature_row(1)], [iq_row(0), iq_row(1)])
    commit(stores, dataset, 0, [feature_row(1, snr_db=3.25)], [])
    rows = query(stores, "SELECT mean_snr_db FROM heimdall.measurement_features ORDER BY sample_idx")
    assert [row["mean_snr_db"] for row in rows] == [12.5, 3.25]
    assert count_rows(stores.database, dataset.id).iq_samples == 1
    assert num_samples(stores) == 2


@pytest.mark.parametrize("bad", [{"overall_confidence": 1.5}, {"gdop": -1.0}, {"tx_latitude": 91.0}])
def test_an_error_during_a_commit_changes_no_row_or_count(stores, bad):
    dataset = add(stores, "night", 300)
    commit(stores, dataset, 0, [feature_row(0), feature_row(1, 2, gdop_too_high=1)], [iq_row(0)])
    before = (count_rows(stores.database, dataset.id), list_batches(stores.database, dataset.id), num_samples(stores))
    rows = [feature_row(idx, snr_db=1.0) for idx in range(150)]
    rows[120] = replace(rows[120], **bad)  # the first hundred are inserted before
    with pytest.raises(DBAPIError):
        commit(stores, dataset, 0, rows, [iq_row(5)])
    after = (count_rows(stores.database, dataset.id), list_batches(stores.database, dataset.id), num_samples(stores))
    assert after == before
    assert [sample.mean_snr_db for sample in stream_samples(stores.database, dataset.id)] == [12.5, 12.5]


def test_an_iq_row_that_is_refused_takes_the_features_with_it(stores):
    dataset = add(stores, "night", 5)
    with pytest.raises(DBAPIError):
        commit(stores, dataset, 0, [feature_row(0)], [replace(iq_row(0), sample_idx=-1)])
    assert count_rows(stores.database, dataset.id) == DatasetCounts(0, 0, 0)
    assert list_batches(stores.database, dataset.id) == []


def test_numbers_that_json_does_not_have_are_refused_before_anything_is_sent(stores):
    dataset = add(stores, "night", 5)
    with pytest.raises(ValueError, match=r"JSON|NaN|infinity"):
        commit(stores, dataset, 0, [feature_row(0, snr_db=float("nan"))])
    with pytest.raises(ValueError, match=r"JSON|NaN|infinity"):
        iq_row_json(dataset.id, replace(iq_row(0), iq_metadata=IqMetadata(full_scale_dbm=float("inf"))))


def test_a_commit_for_a_deleted_dataset_is_a_clear_error(stores):
    dataset = add(stores, "night", 5)
    delete_dataset_rows(stores.database, dataset.id)
    with pytest.raises(DatasetNotFoundError, match="dataset night was deleted while night__00000 was being made"):
        commit(stores, dataset, 0, [feature_row(0)], [iq_row(0)])
    again = add(stores, "night", 5)  # of the same name, but another
    with pytest.raises(DatasetNotFoundError):
        commit(stores, dataset, 0, [feature_row(0)])
    assert idxs(stores, again) == []


def test_a_commit_for_the_target_of_before_counts_the_whole_batch(stores):
    small = add(stores, "night", 5)
    large = raise_target(stores.database, small, 15)
    commit(stores, large, 0, [feature_row(idx, 2, gdop_too_high=1) for idx in range(15)])
    batch = commit(stores, small, 0, [feature_row(idx, 2, gdop_too_high=1) for idx in range(5)])
    assert (batch.num_samples, batch.attempts, batch.rejections) == (15, 30, {"gdop_too_high": 15})
    assert num_samples(stores) == 15


def test_commits_of_one_dataset_touch_no_other(stores):
    night, day = add(stores, "night", 5), add(stores, "day", 5)
    commit(stores, night, 0, [feature_row(0), feature_row(1)], [iq_row(0)])
    commit(stores, day, 0, [feature_row(0)], [iq_row(0)])
    assert (num_samples(stores, "night"), num_samples(stores, "day")) == (2, 1)
    delete_dataset_rows(stores.database, night.id)
    assert count_rows(stores.database, night.id) == DatasetCounts(0, 0, 0)
    assert count_rows(stores.database, day.id) == DatasetCounts(1, 1, 2)
    assert [dataset.name for dataset in list_datasets(stores.database)] == ["day"]


def test_a_stopped_batch_is_noted_without_touching_what_is_committed(stores):
    dataset = add(stores, "night", 20, batch_size=10)
    span = dataset.grid.batch(0)
    note_stopped_batch(stores.database, dataset, span, reason="max_attempts", attempts=200, rejections={"gdop": 200})
    (batch,) = list_batches(stores.database, dataset.id)
    assert (batch.num_samples, batch.attempts, batch.stopped_reason) == (0, 200, "max_attempts")
    assert num_samples(stores) == 0

    commit(stores, dataset, 0, [feature_row(0)])
    (batch,) = list_batches(stores.database, dataset.id)
    assert (batch.num_samples, batch.attempts, batch.rejections, batch.stopped_reason) == (1, 1, {}, None)

    note_stopped_batch(stores.database, dataset, span, reason="max_attempts", attempts=180, rejections={"gdop": 179})
    (batch,) = list_batches(stores.database, dataset.id)
    assert (batch.num_samples, batch.attempts, batch.stopped_reason) == (1, 180, "max_attempts")
    assert (num_samples(stores), idxs(stores, dataset)) == (1, [0])


def test_nothing_is_noted_of_a_deleted_dataset(stores):
    dataset = add(stores, "night", 5)
    delete_dataset_rows(stores.database, dataset.id)
    note_stopped_batch(stores.database, dataset, dataset.grid.batch(0), reason="x", attempts=1, rejections={})
    assert query(stores, "SELECT 1 FROM heimdall.synthetic_batches") == []


def test_counts_heal_with_the_next_commit(stores):
    dataset = add(stores, "night", 5)
    commit(stores, dataset, 0, [feature_row(idx) for idx in range(5)])
    execute(stores, "DELETE FROM heimdall.measurement_features WHERE sample_idx IN (1, 2, 3)")
    execute(stores, "UPDATE heimdall.synthetic_datasets SET num_samples = 77")
    assert commit(stores, dataset, 0, [feature_row(1)]).num_samples == 3
    assert num_samples(stores) == 3


def test_committed_are_the_samples_that_have_all_they_should(stores):
    dataset = add(stores, "night", 20, batch_size=10)
    commit(stores, dataset, 0, [feature_row(idx) for idx in range(5)], [iq_row(idx) for idx in (0, 2)])
    commit(stores, dataset, 1, [feature_row(12)], [iq_row(12)])
    span = dataset.grid.batch(0)
    assert committed_sample_idxs(stores.database, dataset, span, iq_below=0) == {0, 1, 2, 3, 4}
    assert committed_sample_idxs(stores.database, dataset, span, iq_below=3) == {0, 2, 3, 4}
    assert committed_sample_idxs(stores.database, dataset, span, iq_below=100) == {0, 2}
    assert committed_sample_idxs(stores.database, dataset, dataset.grid.batch(1), iq_below=100) == {12}


def test_an_iq_row_comes_back_as_it_was_given(stores):
    dataset = add(stores, "night", 5)
    commit(stores, dataset, 0, [feature_row(3)], [iq_row(3)])
    given = iq_row(3)
    assert stored_iq(stores, "night", 3) == StoredIq(
        sample_idx=3,
        truth=given.truth,
        paths=given.iq_storage_paths,
        num_samples=2500,
        sha256={"torino": "ab"},
        etag={"torino": "cd"},
        form=IqForm.NPY,
    )
    assert stored_iq(stores, "night", 4) is None


def test_samples_are_streamed_in_their_order(stores):
    dataset = add(stores, "night", 130, batch_size=65)
    commit(stores, dataset, 1, [feature_row(idx) for idx in range(65, 130)])
    commit(stores, dataset, 0, [feature_row(idx) for idx in range(65)])
    samples = list(stream_samples(stores.database, dataset.id))
    assert [sample.sample_idx for sample in samples] == list(range(130))
    assert samples[7].truth == feature_row(7).truth
    assert samples[7].receivers == feature_row(7).receivers


def test_no_sample_exists_twice(stores):
    dataset = add(stores, "night", 5)
    commit(stores, dataset, 0, [feature_row(0)], [iq_row(0)])
    copy = "(jsonb_populate_record(f, jsonb_build_object('id', gen_random_uuid()))).*"
    with pytest.raises(IntegrityError, match="dataset_id_sample_idx"):
        execute(
            stores,
            f"INSERT INTO heimdall.measurement_features SELECT {copy} FROM heimdall.measurement_features f",
        )
    with pytest.raises(IntegrityError, match="synthetic_iq_samples_pkey"):
        execute(stores, "INSERT INTO heimdall.synthetic_iq_samples SELECT * FROM heimdall.synthetic_iq_samples")


def test_the_queries_that_people_use_give_what_they_expect(stores):
    night, day = add(stores, "night", 6, sites=SEVEN), add(stores, "day", 4, sites=SEVEN, dataset_type="iq_raw")
    make(stores, "night")
    make(stores, "day")
    counts = query(
        stores,
        "SELECT name, num_samples, (SELECT count(*) FROM heimdall.measurement_features WHERE dataset_id = d.id) AS f,"
        " (SELECT count(*) FROM heimdall.synthetic_iq_samples WHERE dataset_id = d.id) AS iq"
        " FROM heimdall.synthetic_datasets d ORDER BY name",
    )
    assert counts == [
        {"name": "day", "num_samples": 4, "f": 4, "iq": 4},
        {"name": "night", "num_samples": 6, "f": 6, "iq": 6},
    ]
    receivers = query(
        stores,
        "SELECT DISTINCT jsonb_array_length(receiver_features) AS n, num_receivers_in_sample AS told"
        " FROM heimdall.measurement_features",
    )
    assert receivers == [{"n": 7, "told": 7}]
    levels = query(
        stores,
        "SELECT receiver_features[0]->>'rx_id' AS rx_id, receiver_features[0]->'snr_db'->>'mean' AS snr_db,"
        " (truth->'receivers'->0->>'snr_db')::float8 AS truth, tx_known, tx_power_dbm, recording_session_id,"
        " receiver_features::text AS text FROM heimdall.measurement_features WHERE dataset_id = :id",
        id=night.id,
    )
    assert {row["rx_id"] for row in levels} == {"aquila-di-giaveno"}
    assert {(row["tx_known"], row["tx_power_dbm"], row["recording_session_id"]) for row in levels} == {(True, 37, None)}
    strong = [row for row in levels if row["truth"] > 10]
    assert len(strong) > 1
    # A tenth of a second in a band that is hardly wider than the channel: within a few dB, in the units of the truth.
    assert all(abs(float(row["snr_db"]) - row["truth"]) < 6 for row in strong)
    assert not any(re.search(r"nan|inf", row["text"], re.IGNORECASE) for row in levels)
    duplicates = query(
        stores,
        "SELECT dataset_id, sample_idx FROM heimdall.measurement_features"
        " GROUP BY dataset_id, sample_idx HAVING count(*) > 1",
    )
    assert duplicates == []
    by_receiver = query(
        stores,
        "SELECT rx_id, count(snr_db) AS n FROM heimdall.receiver_features WHERE dataset_id = :id"
        " AND signal_present GROUP BY rx_id",
        id=night.id,
    )
    assert {row["rx_id"] for row in by_receiver} <= {site.rx_id for site in SEVEN}
    assert sum(row["n"] for row in by_receiver) >= 6 * 3
    for dataset, total in ((night, 6), (day, 4)):
        folders = {}
        for key in object_sizes(stores, dataset):
            folder, file = key.split("/")
            folders.setdefault(int(folder), []).append(file.rsplit(".", 1)[1])
        assert {idx: sorted(kinds) for idx, kinds in folders.items()} == {
            idx: ["sigmf-data"] * 7 + ["sigmf-meta"] * 7 for idx in range(total)
        }
        assert_agrees(stores, dataset.name, range(total))
