"""One sample: a function of seed, index and spec; its features, truth and IQ belong together."""

import hashlib
import io
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from uuid import UUID

import numpy as np
import pytest

from heimdall_pipelines.datasets.iq_files import iq_file, iq_metadata
from heimdall_pipelines.datasets.limits import NUM_KEPT_IQ
from heimdall_pipelines.datasets.samples import (
    FULL_SCALE_DBM,
    draw_sample,
    keeps_iq,
    make_sample,
    sample_receptions,
    scene_truth,
    start_time_unix_ns,
)
from heimdall_pipelines.datasets.stored_truth import from_stored_truth
from heimdall_pipelines.model.dataset_spec import MAX_SEED
from heimdall_pipelines.model.truth import SampleTruth
from heimdall_pipelines.rf.feature_registry import FEATURE_NAMES
from heimdall_pipelines.rf.geodesy import SPEED_OF_LIGHT_M_PER_S
from heimdall_pipelines.rf.receivers import standing_sites
from heimdall_pipelines.rf.scene import rejection_reason
from heimdall_pipelines.rf.synthesis import GENERATOR_VERSION
from heimdall_pipelines.store.iq_form import IqForm
from heimdall_pipelines.terrain.ground import SMOOTH_EARTH, Ground
from heimdall_pipelines.terrain.shipped import SHIPPED_TILE
from heimdall_pipelines_tests.datasets.support import SEVEN, SMALL, THREE, any_scene, drawn, recipe, sample_digest

# SHA-256 of the scenes and the IQ of samples 0 and 7, by version of the generator: the same on every processor.
GOLDEN = {
    2: {
        "default": "ac09302343880cb8f0f2114e24a3ee16f7903eacc12c3f13123cfafb6fb3b918",
        "random_receivers": "d759a30648ff176a115e0cc0131ec170b5a3c77f55f97c1365be37a68bc56cbc",
        "terrain": "7a548fd94bb0aeecd79d1930433fcbf1d4bbcf01f4669c2becdbf2782e07631f",
        "random_receivers_on_terrain": "a814015d737261f27189a2c459c9d1f06829c448a85631b4ac44c3e041508ebe",
    }
}
GOLDEN_SPECS = {
    "default": {},
    "random_receivers": {"use_random_receivers": True, "environment": "city"},
    "terrain": {"ground": Ground((SHIPPED_TILE,))},
    "random_receivers_on_terrain": {"ground": Ground((SHIPPED_TILE,)), "use_random_receivers": True},
}


def golden_digest(*, ground=SMOOTH_EARTH, **parameters) -> str:
    sites = SEVEN if ground.terrain is None else standing_sites(SEVEN, ground.terrain)
    of = replace(recipe(sites=sites, **parameters), ground=ground)
    digest = hashlib.sha256()
    for sample_idx in (0, 7):
        sample = drawn(of, sample_idx)
        digest.update(json.dumps([asdict(sample.scene), *map(asdict, sample.sites)]).encode())
        for heard in sample_receptions(of, sample):
            digest.update(heard.iq.tobytes())
    return digest.hexdigest()


@pytest.mark.long
@pytest.mark.parametrize("name", GOLDEN_SPECS)
def test_the_golden_checksum_of_whole_samples(name):
    digest = golden_digest(**GOLDEN_SPECS[name])
    assert digest == GOLDEN[GENERATOR_VERSION][name], "other samples: if this changes, count GENERATOR_VERSION up"


@pytest.mark.slow
@pytest.mark.programs
def test_another_process_makes_the_same_sample():
    code = (
        "from heimdall_pipelines_tests.datasets.support import *\n"
        "print(sample_digest(recipe(**SMALL), 41), sample_digest(recipe(**SMALL, use_random_receivers=True), 3))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.split() == [
        sample_digest(recipe(**SMALL), 41),
        sample_digest(recipe(**SMALL, use_random_receivers=True), 3),
    ]


def test_what_was_made_before_does_not_matter():
    of = recipe(**SMALL)
    forwards = [sample_digest(of, idx) for idx in range(4)]
    assert [sample_digest(of, idx) for idx in (3, 1, 2, 0)] == [forwards[idx] for idx in (3, 1, 2, 0)]
    assert len(set(forwards)) == 4


def test_no_number_depends_on_the_name_of_the_dataset():
    of = recipe(**SMALL)
    assert sample_digest(of, 5) == sample_digest(replace(of, dataset_id=UUID(int=99)), 5)


@pytest.mark.parametrize("seed", [0, 1, MAX_SEED - 1, MAX_SEED])
def test_each_seed_has_its_own_samples(seed):
    of = recipe(**SMALL, seed=seed)
    assert sample_digest(of, 0) == sample_digest(recipe(**SMALL, seed=seed), 0)
    assert sample_digest(of, 0) not in {sample_digest(recipe(**SMALL, seed=other), 0) for other in (2, 2**32)}


def test_features_truth_and_links_are_in_the_order_of_the_receivers():
    of = recipe(**SMALL)
    sample = drawn(of)
    row = make_sample(of, sample)
    in_order = [site.rx_id for site in SEVEN]
    assert [receiver.rx_id for receiver in row.receivers] == in_order
    assert [link.rx_id for link in row.truth.receivers] == in_order
    for site, receiver in zip(SEVEN, row.receivers, strict=True):
        assert (receiver.rx_lat, receiver.rx_lon, receiver.rx_alt_m) == (
            site.latitude,
            site.longitude,
            site.altitude_m,
        )
    for link, truth in zip(sample.scene.links, row.truth.receivers, strict=True):
        assert truth.delay_s == pytest.approx(link.delay_s, rel=1e-8)
    assert [truth.detected for truth in row.truth.receivers] == list(sample.scene.detected)
    assert [truth.line_of_sight for truth in row.truth.receivers] == list(sample.scene.line_of_sight)


def test_each_receivers_features_are_those_of_its_own_link():
    """Seven links 30 dB apart at random: a swapped receiver would be off by tens of dB, an estimate is by under 1."""
    of = recipe(bandwidth_hz=25_000, multipath=False, fading=False)
    for sample_idx in range(3):
        row = make_sample(of, drawn(of, sample_idx))
        heard = [
            (receiver.features["snr_db"]["mean"], truth.snr_db)
            for receiver, truth in zip(row.receivers, row.truth.receivers, strict=True)
            if truth.snr_db > 3
        ]
        assert len(heard) >= 3
        assert max(abs(estimate - truth) for estimate, truth in heard) < 1


def test_the_delay_is_that_of_the_way_from_transmitter_to_receiver():
    of = recipe(**SMALL)
    truth = make_sample(of, drawn(of)).truth
    for site, link in zip(SEVEN, truth.receivers, strict=True):
        north_m = (site.latitude - truth.tx_latitude) * 111_150
        east_m = (site.longitude - truth.tx_longitude) * 111_320 * math.cos(math.radians(site.latitude))
        distance_m = math.hypot(north_m, east_m, site.altitude_m - truth.tx_altitude_m)
        # A flat Earth is good for half a percent over 100 km.
        assert link.delay_s == pytest.approx(distance_m / SPEED_OF_LIGHT_M_PER_S, rel=0.01)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"tx_power_dbm": -30},
        {"multipath": False, "fading": False, "oscillator_ppm": 0},
        {"adc_bits": 2, "dc_offset_db": 20},
        {"sample_rate_hz": 20_000, "duration_ms": 20, "num_chunks": 1},
    ],
)
def test_the_json_of_a_sample_has_no_nan_and_every_feature(parameters):
    of = recipe(**SMALL | parameters)
    elements = make_sample(of, any_scene(of)).columns()["receiver_features"]
    assert len(elements) == len(SEVEN)
    for element in json.loads(json.dumps(elements, allow_nan=False)):
        assert set(element) >= set(FEATURE_NAMES)
        assert all(set(element[name]) == {"mean", "std", "min", "max"} for name in FEATURE_NAMES)


def test_an_undetected_sample_has_a_row():
    of = recipe(**SMALL, tx_power_dbm=-10, min_snr_db=-20)
    rows = [make_sample(of, drawn(of, idx)) for idx in range(10)]
    weakest = min(rows, key=lambda row: row.num_receivers_detected)
    assert weakest.num_receivers_detected < 3
    assert weakest.gdop is None
    assert all(math.isfinite(row.truth.gdop) for row in rows)
    json.dumps([row.columns() for row in rows], allow_nan=False)


def test_a_row_holds_the_truth_in_its_columns_and_how_it_was_taken():
    of = recipe(**SMALL | {"tx_power_dbm": 20})
    sample = drawn(of, 3)
    row = make_sample(of, sample)
    assert (row.tx_latitude, row.tx_longitude) == (sample.scene.tx_latitude, sample.scene.tx_longitude)
    assert (row.tx_altitude_m, row.tx_power_dbm) == (sample.scene.tx_altitude_m, 20)
    assert row.columns()["extraction_metadata"] == {
        "bandwidth_hz": 12500,
        "segment_ms": 100,
        "chunk_ms": 20,
        "num_chunks": 5,
        "attempts": sample.attempts,
        "rejections": sample.rejections,
    }
    assert row.start_time_unix_ns == start_time_unix_ns(3) == start_time_unix_ns(0) + 3 * 10**9


def test_attempts_are_the_rejected_ones_and_the_accepted_one():
    of = recipe(**SMALL, min_receivers=7)
    samples = [drawn(of, idx) for idx in range(30)]
    assert {sample.attempts for sample in samples} > {1}
    for sample in samples:
        assert sample.attempts == 1 + sum(sample.rejections.values())
        assert rejection_reason(of.spec.scene_spec(), sample.scene) is None
        assert sample.scene.num_detected == 7


def test_a_sample_without_an_acceptable_scene_gives_the_reason():
    of = recipe(**SMALL, min_receivers=7)
    hard = next(idx for idx in range(30) if drawn(of, idx).attempts > 2)
    needed = drawn(of, hard).attempts
    given_up = draw_sample(of, hard, needed - 1)
    assert given_up.scene is None
    assert given_up.attempts == needed - 1 == sum(given_up.rejections.values())
    assert draw_sample(of, hard, needed).scene == drawn(of, hard).scene
    assert draw_sample(of, hard, 0).attempts == 0


@pytest.mark.parametrize("parameters", [{}, {"fading": False}, {"multipath": False}, {"use_random_receivers": True}])
def test_a_scene_is_read_from_its_truth_to_the_last_bit(parameters):
    of = recipe(**SMALL | parameters)
    for sample_idx in range(20):
        sample = drawn(of, sample_idx)
        stored = SampleTruth.from_json(json.loads(json.dumps(scene_truth(sample).to_json(), allow_nan=False)))
        assert stored.scene().links == sample.scene.links
        assert from_stored_truth(sample, stored).scene.links == sample.scene.links
        assert scene_truth(replace(sample, scene=stored.scene())) == stored


def test_links_are_rounded_to_what_is_stored():
    for link in drawn(recipe(**SMALL)).scene.links:
        assert link == link.rounded()
        assert link.delay_s == round(link.delay_s, 12)
        assert link.received_power_dbm == round(link.received_power_dbm, 6)


def test_random_receivers_are_drawn_anew_for_each_sample():
    of = recipe(**SMALL, use_random_receivers=True)
    samples = [drawn(of, idx) for idx in range(20)]
    assert {len(sample.sites) for sample in samples} <= set(range(5, 11))
    assert len({sample.sites for sample in samples}) == 20
    row = make_sample(of, samples[0])
    assert [receiver.rx_id for receiver in row.receivers] == [site.rx_id for site in samples[0].sites]


def test_the_iq_given_to_be_kept_stays_what_it_is():
    """The samples' memory is reused only if they are not kept; features are the same in both cases."""
    of = recipe(**SMALL)
    kept = {}
    row = make_sample(of, drawn(of), lambda site, iq: kept.__setitem__(site.rx_id, iq))
    assert row == make_sample(of, drawn(of))
    for site, heard in zip(SEVEN, sample_receptions(of, drawn(of)), strict=True):
        assert kept[site.rx_id].tobytes() == heard.iq.tobytes()
        assert (heard.iq.dtype, heard.iq.shape) == (np.complex64, (2500,))


def test_a_single_receiver_gives_the_same_iq():
    of = recipe(**SMALL)
    every = [heard.iq for heard in sample_receptions(of, drawn(of))]
    for index in (6, 2):
        (alone,) = sample_receptions(of, drawn(of), receiver_indices=[index])
        assert alone.iq.tobytes() == every[index].tobytes()


def test_the_iq_of_the_first_hundred_samples_is_kept_of_iq_raw_all():
    features, raw = recipe().spec, recipe(dataset_type="iq_raw").spec
    assert NUM_KEPT_IQ == 100
    assert [keeps_iq(features, idx) for idx in (0, 99, 100, 4_999_999)] == [True, True, False, False]
    assert all(keeps_iq(raw, idx) for idx in (0, 99, 100, 4_999_999))


@pytest.mark.parametrize("form", [IqForm.SIGMF, IqForm.NPY])
def test_the_iq_file_holds_these_samples_and_its_description_fits(form):
    of = recipe(**SMALL, sites=THREE)
    sample = drawn(of, 12)
    heard = list(sample_receptions(of, sample))[1]
    file = iq_file(of, 12, THREE[1], heard.iq, form)
    as_npy = io.BytesIO()
    np.save(as_npy, heard.iq.astype("<c8"))
    assert file.data == (heard.iq.tobytes() if form is IqForm.SIGMF else as_npy.getvalue())
    assert file.sha256 == hashlib.sha256(file.data).hexdigest()

    described = json.dumps(file.sigmf)
    (capture,) = file.sigmf["captures"]
    assert capture.get("core:header_bytes", 0) + 8 * heard.iq.size == len(file.data)
    assert file.sigmf["global"].get("core:dataset") == (None if form is IqForm.SIGMF else "milano-baggio.npy")
    assert capture["core:frequency"] == 145e6
    assert file.sigmf["global"]["core:sample_rate"] == 25_000
    assert capture["core:datetime"].startswith("2000-01-01T00:00:12")
    assert all(text in described for text in ("milano-baggio", str(of.dataset_id), str(of.seed)))


def test_the_iq_metadata_say_how_to_read_it():
    of = recipe(**SMALL)
    assert iq_metadata(of, {"torino": "ab"}, {"torino": "cd"}, {"torino": "ef"}).to_json() == {
        "format": "sigmf",
        "dtype": "complex64",
        "num_samples": 2500,
        "sample_rate_hz": 25_000,
        "frequency_hz": 145e6,
        "full_scale_dbm": FULL_SCALE_DBM,
        "sha256": {"torino": "ab"},
        "etag": {"torino": "cd"},
        "sidecar_sha256": {"torino": "ef"},
    }


def test_iq_of_full_scale_one_has_the_power_that_the_truth_states():
    """30 dBm at abs(x) = 1: the mean power of a receiver's samples is its signal's plus its noise's."""
    of = recipe(**SMALL, multipath=False, fading=False)
    sample = drawn(of)
    truth = make_sample(of, sample).truth.receivers
    for link, heard in zip(truth, sample_receptions(of, sample), strict=True):
        power_dbm = 10 * math.log10(np.mean(np.abs(heard.iq.astype(complex)) ** 2)) + FULL_SCALE_DBM
        expected_dbm = 10 * math.log10(10 ** (link.signal_power_dbm / 10) + 10 ** (link.noise_power_dbm / 10))
        # 2500 samples of noise scatter by 4.3 dB / sqrt(2500) = 0.09 dB
        assert power_dbm == pytest.approx(expected_dbm, abs=0.4)
