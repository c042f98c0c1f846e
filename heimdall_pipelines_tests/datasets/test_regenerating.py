"""Any sample's IQ again: the bytes that are stored, and what is said where those are not what they were."""

import hashlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import sigmf

from heimdall_pipelines.datasets.iq_files import iq_file
from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
from heimdall_pipelines.datasets.regenerating import MAX_RELATIVE_DIFFERENCE, RegenerationError, regenerate_iq, write_iq
from heimdall_pipelines.datasets.samples import (
    FULL_SCALE_DBM,
    GeneratorVersionError,
    Recipe,
    draw_sample,
    extract_sample_iq,
    sample_receptions,
    sample_time_differences,
)
from heimdall_pipelines.rf.features import extract_features
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.datasets import DatasetNotFoundError
from heimdall_pipelines.store.features import ReceiverFeatures
from heimdall_pipelines.store.iq_objects import sample_iq_location, sidecar_location
from heimdall_pipelines_tests.datasets.support import SEVEN, THREE, add, execute, make, object_sizes, query, stored_iq

RX = THREE[1].rx_id


@pytest.fixture
def dataset(stores, remembered):
    """Two samples with three receivers, and a third that is asked for but not made."""

    def make_night(stores):
        created = add(stores, "night", 3, batch_size=2)
        make(stores, "night", 0)
        return created

    return remembered(stores, "two of three samples", make_night)


def location(stores, dataset, sample_idx=0, rx_id=RX):
    return sample_iq_location(stores.objects, dataset.id, sample_idx, rx_id)


def read(stores, where):
    return stores.objects.read(where, 0, stores.objects.size_bytes(where))


def put(stores, where, content):
    stores.objects.put(where, io.BytesIO(content), len(content), "application/octet-stream")


def promise(stores, dataset, content, sample_idx=0, rx_id=RX):
    """Let the row name the checksum of this content."""
    execute(
        stores,
        "UPDATE heimdall.synthetic_iq_samples SET iq_metadata = jsonb_set(iq_metadata, ARRAY['sha256', :rx_id],"
        " to_jsonb(CAST(:sha256 AS text))) WHERE dataset_id = :id AND sample_idx = :sample_idx",
        id=dataset.id,
        sample_idx=sample_idx,
        rx_id=rx_id,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def again(stores, sample_idx=0, rx_id=RX):
    (regenerated,) = regenerate_iq(stores, "night", sample_idx, [rx_id])
    return regenerated


def test_every_byte_is_the_stored_one(stores, dataset):
    for sample_idx in (0, 1):
        regenerated = list(regenerate_iq(stores, "night", sample_idx))
        assert [one.rx_id for one in regenerated] == [site.rx_id for site in THREE]
        row = stored_iq(stores, "night", sample_idx)
        for one in regenerated:
            where = location(stores, dataset, sample_idx, one.rx_id)
            assert one.stored.location == where
            assert (one.stored.identical, one.stored.relative_difference, one.stored.problem) == (True, 0.0, None)
            assert one.stored.acceptable
            assert one.file.data == read(stores, where)
            assert one.file.sha256 == row.sha256[one.rx_id]
            assert one.file.sigmf == json.loads(read(stores, sidecar_location(where)))


def test_a_receiver_alone_has_the_bytes_that_it_has_among_others(stores, dataset):
    among_others = {one.rx_id: one.file.data for one in regenerate_iq(stores, "night", 1)}
    for rx_id, data in among_others.items():
        assert again(stores, 1, rx_id).file.data == data


def test_receivers_come_in_the_samples_order_however_they_are_asked_for(stores, dataset):
    asked = [THREE[2].rx_id, THREE[0].rx_id, THREE[2].rx_id]
    assert [one.rx_id for one in regenerate_iq(stores, "night", 0, asked)] == [THREE[0].rx_id, THREE[2].rx_id]


def test_a_sample_that_is_not_made_yet_is_the_one_that_will_be(stores, dataset):
    before = list(regenerate_iq(stores, "night", 2))
    assert all(one.stored is None for one in before)
    make(stores, "night", 1)
    after = list(regenerate_iq(stores, "night", 2))
    assert [one.file.data for one in before] == [one.file.data for one in after]
    assert all(one.stored.identical for one in after)


def test_a_sample_whose_iq_was_never_stored_has_the_features_of_its_row(stores):
    dataset = add(stores, "night", NUM_KEPT_IQ + 3, batch_size=1)
    make(stores, "night", NUM_KEPT_IQ + 2)
    (row,) = query(stores, "SELECT receiver_features FROM heimdall.measurement_features")
    assert object_sizes(stores, dataset) == {}
    regenerated = list(regenerate_iq(stores, "night", NUM_KEPT_IQ + 2))
    for one, stored in zip(regenerated, row["receiver_features"], strict=True):
        assert (one.rx_id, one.stored) == (stored["rx_id"], None)
        extracted = extract_features(
            np.frombuffer(one.file.data, "<c8").reshape(dataset.spec.num_chunks, -1),
            sample_rate_hz=float(dataset.spec.sample_rate_hz),
            channel_bandwidth_hz=float(dataset.spec.bandwidth_hz),
            full_scale_dbm=FULL_SCALE_DBM,
        )
        assert extracted.summary() == {name: stored[name] for name in extracted.summary()}


def test_stored_iq_gives_the_time_differences_of_the_row_to_the_last_digit(stores):
    dataset = add(stores, "night", 2, sites=SEVEN)
    make(stores, "night")
    found = query(stores, "SELECT sample_idx, receiver_features, time_differences FROM heimdall.measurement_features")
    for row in found:
        receivers = [ReceiverFeatures.from_json(element) for element in row["receiver_features"]]
        places = [location(stores, dataset, row["sample_idx"], receiver.rx_id) for receiver in receivers]
        extracted = [extract_sample_iq(dataset.spec, np.frombuffer(read(stores, place), "<c8")) for place in places]
        again = sample_time_differences(dataset.spec, receivers, extracted)
        assert [pair.to_json() for pair in again] == row["time_differences"]
    assert sum(len(row["time_differences"]) for row in found) > 10


def test_random_receivers_are_those_of_the_sample(stores):
    add(stores, "night", 2, use_random_receivers=True, min_receivers_count=4, max_receivers_count=6)
    make(stores, "night")
    for sample_idx in (0, 1):
        regenerated = list(regenerate_iq(stores, "night", sample_idx))
        assert [one.rx_id for one in regenerated] == [f"rx-{n:02d}" for n in range(len(regenerated))]
        assert all(one.stored.identical for one in regenerated)


@pytest.mark.parametrize("sample_idx", [-1, 3, 10**9])
def test_a_sample_that_the_dataset_does_not_have_is_refused_with_the_range(stores, dataset, sample_idx):
    with pytest.raises(RegenerationError, match=rf"night has samples 0 to 2, no sample {sample_idx}"):
        regenerate_iq(stores, "night", sample_idx)


def test_an_unknown_receiver_is_refused_with_the_known_ones(stores, dataset):
    with pytest.raises(RegenerationError, match=f"no receiver atlantis; it has {THREE[0].rx_id}, {RX}, "):
        regenerate_iq(stores, "night", 0, [RX, "atlantis"])


def test_an_unknown_dataset_is_said_so(stores):
    with pytest.raises(DatasetNotFoundError, match="unknown dataset night"):
        regenerate_iq(stores, "night", 0)


def test_a_dataset_of_another_generator_version_is_refused_instead_of_giving_other_samples(stores):
    add(stores, "night", 3, generator_version=GENERATOR_VERSION + 1)
    with pytest.raises(GeneratorVersionError, match=f"version {GENERATOR_VERSION + 1}, this is version"):
        regenerate_iq(stores, "night", 0)


def test_a_sample_for_which_no_scene_is_acceptable_is_refused(stores):
    add(stores, "night", 3, batch_size=1, min_snr_db=60)
    with pytest.raises(RegenerationError, match=r"none of 20 scenes drawn for sample 0 .*too_few_receivers.: 20"):
        regenerate_iq(stores, "night", 0)


@pytest.mark.parametrize("byte", [-1, -8, 20], ids=["exponent", "last_bit_of_a_mantissa", "header"])
def test_a_flipped_byte_of_the_stored_object_is_noticed_and_left(stores, dataset, byte):
    where = location(stores, dataset)
    damaged = bytearray(read(stores, where))
    damaged[byte] ^= 1
    put(stores, where, bytes(damaged))
    regenerated = again(stores)
    assert not regenerated.stored.identical
    assert not regenerated.stored.acceptable
    assert str(where) in regenerated.stored.problem
    assert read(stores, where) == bytes(damaged)
    assert again(stores, rx_id=THREE[0].rx_id).stored.identical


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda data: data[:-8], "bytes are stored, .* are expected"),
        (lambda data: data + b"\0", "bytes are stored, .* are expected"),
        (lambda data: b"", "0 bytes are stored"),
        (lambda data: bytes(len(data)), "the checksum differs from the stored one"),
        (lambda data: data[:-8] + np.array([np.nan], "<c8").tobytes(), "the checksum differs from the stored one"),
    ],
    ids=["truncated", "longer", "empty", "zeros", "NaN"],
)
def test_a_damaged_object_is_a_problem_that_says_what(stores, dataset, content, said):
    where = location(stores, dataset)
    put(stores, where, content(read(stores, where)))
    stored = again(stores).stored
    assert (stored.identical, stored.acceptable) == (False, False)
    assert re.search(said, stored.problem)


def test_a_missing_object_is_reported_and_not_regenerated(stores, dataset):
    where = location(stores, dataset)
    stores.objects.remove(where.bucket, where.key)
    assert again(stores).stored.problem == f"IQ file not found: {where}"
    assert f"0/{RX}.sigmf-data" not in object_sizes(stores, dataset)


def test_a_row_without_the_receivers_key_is_a_problem(stores, dataset):
    execute(
        stores,
        "UPDATE heimdall.synthetic_iq_samples SET iq_storage_paths = iq_storage_paths - :rx_id WHERE sample_idx = 0",
        rx_id=RX,
    )
    assert again(stores).stored.problem == f"the row of sample 0 names no object of {RX}"


def shift_truth(stores, by_hz):
    """Let the truth of sample 0 hold another frequency of its first receiver; gives the number."""
    (row,) = query(stores, "SELECT truth FROM heimdall.measurement_features WHERE sample_idx = 0")
    shifted = round(row["truth"]["receivers"][0]["frequency_offset_hz"] + by_hz, 6)
    for table in ("measurement_features", "synthetic_iq_samples"):
        execute(
            stores,
            f"UPDATE heimdall.{table} SET truth = jsonb_set(truth, '{{receivers,0,frequency_offset_hz}}',"
            " CAST(:hz AS text)::jsonb) WHERE sample_idx = 0",
            hz=repr(shifted),
        )
    return shifted


def test_a_stored_sample_is_regenerated_from_its_stored_truth(stores, dataset):
    rx_id = THREE[0].rx_id
    shifted = shift_truth(stores, 1e-6)  # as if a library of another processor had rounded it up
    regenerated = again(stores, 0, rx_id)
    recipe = Recipe.of(dataset)
    sample = draw_sample(recipe, 0, 100)
    links = [replace(sample.scene.links[0], frequency_offset_hz=shifted), *sample.scene.links[1:]]
    sample = replace(sample, scene=replace(sample.scene, links=tuple(links)))
    (heard,) = sample_receptions(recipe, sample, receiver_indices=[0])
    assert regenerated.file.data == iq_file(recipe, 0, sample.sites[0], heard.iq).data
    # 1e-6 Hz turns the carrier by 6e-7 in 0.1 s: samples differ in their last bit, if at all.
    assert regenerated.stored.acceptable


def test_a_truth_that_is_not_the_seeds_is_not_believed(stores, dataset):
    before = again(stores, 0, THREE[0].rx_id).file.data
    shift_truth(stores, 1.0)
    assert again(stores, 0, THREE[0].rx_id).file.data == before


def stored_with_relative_error(stores, dataset, error):
    """What a link rounded to another last digit would have stored: every sample a little off."""
    where = location(stores, dataset)
    samples = np.frombuffer(read(stores, where), "<c8")
    rms = np.sqrt(np.mean(np.abs(samples) ** 2))
    other = (samples + error * rms).astype("<c8").tobytes()
    put(stores, where, other)
    promise(stores, dataset, other)
    return again(stores).stored


def test_what_a_link_in_its_last_digit_explains_is_acceptable(stores, dataset):
    stored = stored_with_relative_error(stores, dataset, 0.5 * MAX_RELATIVE_DIFFERENCE)
    assert (stored.identical, stored.acceptable, stored.problem) == (False, True, None)
    # Samples of a few RMS are float32: 3e-7 of them is their rounding.
    assert stored.relative_difference == pytest.approx(0.5 * MAX_RELATIVE_DIFFERENCE, abs=5e-7)


def test_what_no_rounding_explains_is_not_acceptable(stores, dataset):
    stored = stored_with_relative_error(stores, dataset, 2 * MAX_RELATIVE_DIFFERENCE)
    assert not stored.acceptable
    assert "differ from the stored ones by up to 2e-05 of their RMS" in stored.problem


def test_files_are_read_by_sigmf_and_numpy(stores, dataset, tmp_path):
    folder = tmp_path / "not" / "there"
    for regenerated in regenerate_iq(stores, "night", 0):
        data, meta = write_iq(folder, regenerated)
        assert [data.name, meta.name] == [f"{regenerated.rx_id}.sigmf-data", f"{regenerated.rx_id}.sigmf-meta"]
        assert data.read_bytes() == regenerated.file.data
        assert meta.read_bytes() == read(stores, sidecar_location(regenerated.stored.location))
        samples = np.fromfile(data, "<c8")
        assert samples.dtype == np.complex64
        assert samples.shape == (dataset.spec.sample_rate_hz * dataset.spec.duration_ms // 1000,)
        recording = sigmf.fromfile(str(meta))
        np.testing.assert_array_equal(recording.read_samples(), samples)
        assert recording.get_global_field("heimdall:sample_idx") == 0
    assert len(list(folder.iterdir())) == 2 * len(THREE)


def test_writing_again_replaces_the_files_and_leaves_no_drafts(stores, dataset, tmp_path):
    write_iq(tmp_path, again(stores, 1))
    regenerated = again(stores, 0)
    data, meta = write_iq(tmp_path, regenerated)
    assert data.read_bytes() == regenerated.file.data
    assert json.loads(meta.read_text()) == regenerated.file.sigmf
    assert sorted(tmp_path.iterdir()) == [data, meta]


def test_a_file_that_cannot_be_written_leaves_no_half_of_it(stores, dataset, tmp_path):
    in_the_way = tmp_path / f"{RX}.sigmf-data"
    (in_the_way / "something").mkdir(parents=True)
    with pytest.raises(RegenerationError, match=f"{tmp_path}: IQ of {RX} could not be written"):
        write_iq(tmp_path, again(stores))
    assert list(tmp_path.iterdir()) == [in_the_way]


def test_a_folder_that_is_a_file_is_refused(stores, dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RegenerationError, match="could not be written"):
        write_iq(tmp_path / "file", again(stores))
