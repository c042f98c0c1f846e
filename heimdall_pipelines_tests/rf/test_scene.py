"""Scenes drawn for the project's own network: repeatable, mostly acceptable, and physical."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest

from heimdall_pipelines.rf.environment import noise_power_dbm
from heimdall_pipelines.rf.geodesy import distance_m, propagation_delay_s
from heimdall_pipelines.rf.receiver_site import ReceiverSite
from heimdall_pipelines.rf.scene import SceneSpec, draw_scene, draw_shadowing_db, rejection_reason

SITES = (
    ReceiverSite("aquila-di-giaveno", 45.030, 7.270, 600),
    ReceiverSite("montanaro", 45.234, 7.857, 300),
    ReceiverSite("torino", 45.044, 7.672, 250),
    ReceiverSite("coazze", 45.048, 7.238, 700),
    ReceiverSite("passo-del-giovi", 44.561, 8.956, 480),
    ReceiverSite("genova", 44.395, 8.956, 100),
    ReceiverSite("milano-baggio", 45.478, 9.123, 120),
)


def scenes(num_scenes, seed=0, sites=SITES, **changes):
    spec, rng = SceneSpec(**changes), np.random.default_rng(seed)
    return [draw_scene(spec, sites, rng) for _ in range(num_scenes)]


def values(drawn, name):
    return np.array([[getattr(link, name) for link in scene.links] for scene in drawn])


@pytest.fixture(scope="module")
def drawn():
    return scenes(2000)


def test_equal_generators_draw_equal_scenes():
    assert scenes(5, seed=0) == scenes(5, seed=0)


def test_other_seeds_draw_other_scenes():
    assert scenes(1, seed=0) != scenes(1, seed=1)


def test_a_scene_uses_only_its_own_generator():
    np.random.seed(1)  # noqa: NPY002
    first = scenes(1)
    np.random.seed(2)  # noqa: NPY002
    assert scenes(1) == first


@pytest.mark.long
def test_most_attempts_are_accepted_with_default_parameters(drawn):
    reasons = Counter(rejection_reason(SceneSpec(), scene) for scene in drawn)
    # 93 % over 12,000 draws of three seeds; the standard deviation over 2000 is 0.6 %.
    assert reasons[None] / len(drawn) >= 0.90


def test_a_too_demanding_spec_rejects_most_scenes():
    wishes = SceneSpec(min_snr_db=30, min_receivers=7, max_gdop=1)
    rng = np.random.default_rng(0)
    reasons = Counter(rejection_reason(wishes, draw_scene(wishes, SITES, rng)) for _ in range(500))
    assert reasons[None] < 0.05 * 500  # fewer than one in the 20 attempts that a sample has
    assert reasons["too_few_receivers"] > 0.9 * 500


def test_each_rejection_reason_is_described():
    spec, accepted = SceneSpec(), next(scene for scene in scenes(20) if rejection_reason(SceneSpec(), scene) is None)
    assert rejection_reason(dataclasses.replace(spec, min_receivers=8), accepted) == "too_few_receivers"
    assert rejection_reason(dataclasses.replace(spec, min_snr_db=90), accepted) == "mean_snr_too_low"
    assert rejection_reason(dataclasses.replace(spec, max_gdop=0.0), accepted) == "gdop_too_high"


def test_a_signal_without_receivers_is_rejected():
    silent = scenes(1, tx_power_dbm=-200.0)[0]
    assert silent.num_detected == 0
    assert math.isnan(silent.mean_snr_db)
    assert silent.gdop == math.inf
    assert rejection_reason(SceneSpec(), silent) == "too_few_receivers"


def test_a_power_of_0_dbm_is_a_value():
    weak, usual = scenes(50, tx_power_dbm=0.0), scenes(50)
    assert weak[0].tx_power_dbm == 0
    difference_db = values(usual, "received_power_dbm") - values(weak, "received_power_dbm")
    assert difference_db == pytest.approx(37)  # nothing else is drawn differently


def test_a_scene_without_echoes_and_fading_is_otherwise_the_same():
    plain, usual = scenes(50, multipath=False, fading=False), scenes(50)
    assert np.all(values(plain, "rms_delay_spread_s") == 0)
    assert np.all(values(plain, "rice_k_db") == math.inf)
    assert np.all(values(plain, "doppler_hz") == 0)
    for name in ("delay_s", "received_power_dbm", "frequency_offset_hz"):
        assert np.array_equal(values(plain, name), values(usual, name))


def test_all_transmitters_lie_in_the_receivers_box_where_asked():
    for scene in scenes(300, inside_ratio=1.0):
        assert 44.395 <= scene.tx_latitude <= 45.478
        assert 7.238 <= scene.tx_longitude <= 9.123


@pytest.mark.long
def test_an_inside_ratio_of_0_fills_the_enlarged_box():
    outside = scenes(1000, inside_ratio=0.0, margin_deg=0.5)
    latitudes = np.array([scene.tx_latitude for scene in outside])
    longitudes = np.array([scene.tx_longitude for scene in outside])
    assert 43.895 <= latitudes.min() < 43.92 < 45.95 < latitudes.max() <= 45.978
    assert 6.738 <= longitudes.min() < 6.77 < 9.59 < longitudes.max() <= 9.623
    is_inside = (latitudes > 44.395) & (latitudes < 45.478) & (longitudes > 7.238) & (longitudes < 9.123)
    # Share of the box in the enlarged one: 1.083 * 1.885 / (2.083 * 2.885) = 0.340; 4 standard deviations.
    assert is_inside.mean() == pytest.approx(0.340, abs=0.06)


def test_a_network_across_the_180th_meridian_has_its_transmitters_there():
    sites = (
        ReceiverSite("a", 0.0, 179.5, 100),
        ReceiverSite("b", 0.5, -179.5, 100),
        ReceiverSite("c", 1.0, 180.0, 100),
    )
    longitudes = np.array([scene.tx_longitude for scene in scenes(100, sites=sites)])
    assert np.all(np.abs(longitudes) >= 179.3)
    assert np.any(longitudes > 0)
    assert np.any(longitudes < 0)


def test_the_delay_is_that_of_the_straight_line():
    scene = scenes(1)[0]
    for site, link in zip(SITES, scene.links, strict=True):
        expected_s = propagation_delay_s(
            scene.tx_latitude, scene.tx_longitude, scene.tx_altitude_m, site.latitude, site.longitude, site.altitude_m
        )
        assert link.delay_s == pytest.approx(float(expected_s), abs=0.51e-12)  # rounded to 1 ps


def test_noise_is_that_of_the_environment_and_the_sampled_band():
    scene = scenes(1, environment="city", sample_rate_hz=50e3)[0]
    assert {link.noise_power_dbm for link in scene.links} == {round(noise_power_dbm(145e6, 50e3, "city", 6.0), 6)}


def test_detected_are_those_that_reach_the_least_snr(drawn):
    for scene in drawn[:200]:
        snr_db = np.array([link.snr_db for link in scene.links])
        assert scene.detected == tuple((snr_db >= 3).tolist())
        if scene.num_detected:
            assert scene.mean_snr_db == pytest.approx(snr_db[list(scene.detected)].mean())


def test_no_link_is_better_than_free_space_and_one_reflection(drawn):
    for scene in drawn[:300]:
        d = distance_m(
            scene.tx_latitude,
            scene.tx_longitude,
            [site.latitude for site in SITES],
            [site.longitude for site in SITES],
        )
        eirp_dbm = scene.tx_power_dbm + scene.tx_antenna_gain_dbi
        # The slant path is longer than the ground's: what is left out only lowers the level.
        most_dbm = eirp_dbm + 4.0 - 20 * np.log10(4 * np.pi * d * 145e6 / 299_792_458) + 6
        assert np.all(
            np.array([link.received_power_dbm for link in scene.links]) <= most_dbm + 1e-6
        )  # links are rounded


def test_links_beyond_the_horizon_have_rayleigh_fading_and_others_a_rice_factor(drawn):
    rice_k_db = values(drawn, "rice_k_db")
    seen = np.array([scene.line_of_sight for scene in drawn])
    assert np.all(rice_k_db[~seen] == -math.inf)
    # 7 +- 4 dB (TR 38.901); 10,000 links: standard error 0.04 dB.
    assert rice_k_db[seen].mean() == pytest.approx(7, abs=0.2)
    assert rice_k_db[seen].std() == pytest.approx(4, abs=0.2)


def test_doppler_is_that_of_a_vehicle_or_of_leaves_and_one_for_the_scene(drawn):
    doppler_hz = values(drawn, "doppler_hz")
    is_mobile = np.array([scene.tx_kind == "mobile" for scene in drawn])
    assert np.all(doppler_hz == doppler_hz[:, :1])
    assert 12.5 < doppler_hz[is_mobile].max() <= 13.1  # 27 m/s at 145 MHz: 13.06 Hz
    assert doppler_hz[~is_mobile].max() <= 0.49  # 1 m/s
    assert is_mobile.mean() == pytest.approx(0.5, abs=0.05)  # 4 standard deviations


def test_delay_spreads_without_line_of_sight_are_of_microseconds_and_grow_with_the_distance(drawn):
    is_hidden = ~np.array([scene.line_of_sight for scene in drawn])
    spreads_us = values(drawn, "rms_delay_spread_s")[is_hidden] * 1e6
    delays_s = values(drawn, "delay_s")[is_hidden]
    assert 1.5 < np.median(spreads_us) < 4  # 0.3 us sqrt(70) = 2.5 us
    assert 2 < np.quantile(spreads_us, 0.95) <= 12  # measured in mountains: 2 to 12 us
    assert spreads_us.max() <= 12
    near, far = delays_s < np.quantile(delays_s, 0.2), delays_s > np.quantile(delays_s, 0.8)
    assert np.median(spreads_us[far]) > 1.3 * np.median(spreads_us[near])


@pytest.mark.long
@pytest.mark.parametrize(("environment", "median_ns"), [("city", 93), ("residential", 59), ("rural", 32)])
def test_delay_spreads_in_line_of_sight_are_those_of_macrocells(environment, median_ns):
    drawn = scenes(600, environment=environment)
    spreads_s = values(drawn, "rms_delay_spread_s")[np.array([scene.line_of_sight for scene in drawn])]
    # 3000 links, a third of them independent; sigma up to 0.66 decades: standard error 6 %.
    assert np.median(spreads_s) == pytest.approx(median_ns * 1e-9, rel=0.2)
    assert np.quantile(spreads_s, 0.95) < 1.5e-6


def test_no_scattering_leaves_no_echoes_and_no_label_of_them():
    assert np.all(values(scenes(20, fading=False), "rms_delay_spread_s") == 0)
    assert np.all(values(scenes(20, multipath=False), "rms_delay_spread_s") == 0)


def test_clocks_err_by_what_is_asked_for_each_receiver_on_its_own(drawn):
    clocks_ns = values(drawn, "clock_offset_ns")
    # 14,000 independent numbers: 0.6 % and 0.4 ns standard error.
    assert clocks_ns.std() == pytest.approx(50, rel=0.03)
    assert clocks_ns.mean() == pytest.approx(0, abs=2)
    assert abs(np.corrcoef(clocks_ns[:, 0], clocks_ns[:, 1])[0, 1]) < 0.1
    assert np.all(values(scenes(5, receiver_clock_ns=0.0), "clock_offset_ns") == 0)
    assert np.array_equal(values(scenes(5, receiver_clock_ns=0.0), "delay_s"), values(scenes(5), "delay_s"))


def test_oscillators_err_by_their_ppm_and_share_the_transmitters_error(drawn):
    offsets_hz = values(drawn, "frequency_offset_hz")
    # 0.5 ppm of 145 MHz is 72.5 Hz for each of the two ends; 3 % is 3 standard errors of 14,000 partly shared values.
    assert offsets_hz.std() == pytest.approx(72.5 * math.sqrt(2), rel=0.03)
    assert np.corrcoef(offsets_hz[:, 0], offsets_hz[:, 1])[0, 1] == pytest.approx(0.5, abs=0.08)
    assert np.all(values(scenes(5, oscillator_ppm=0.0), "frequency_offset_hz") == 0)


def test_shadowing_is_correlated_for_receivers_in_the_same_direction():
    bearings_deg = [350.0, 10.0, 10.0, 100.0, 190.0]
    rng = np.random.default_rng(0)
    shadowing_db = np.array([draw_shadowing_db(bearings_deg, 7.0, rng) for _ in range(8000)])
    correlation = np.corrcoef(shadowing_db.T)
    # 0.045 is 4 standard errors of a correlation of 0 over 8000 draws; the mean's is 0.08 dB.
    assert correlation[1, 2] == pytest.approx(0.8, abs=0.045)  # the same bearing
    assert correlation[0, 1] == pytest.approx(0.8 * math.exp(-20 / 45), abs=0.045)  # 20 degrees across north
    assert correlation[1, 3] == pytest.approx(0.8 * math.exp(-2), abs=0.045)  # 90 degrees
    assert correlation[1, 4] == pytest.approx(0.8 * math.exp(-4), abs=0.045)  # opposite
    assert shadowing_db.std(axis=0) == pytest.approx(7.0, rel=0.04)
    assert shadowing_db.mean(axis=0) == pytest.approx(0.0, abs=0.32)


def test_no_shadowing_leaves_the_path_loss():
    assert np.all(draw_shadowing_db([0.0, 90.0], 0.0, np.random.default_rng(0)) == 0)


def test_two_stations_in_nearly_one_direction_do_not_blow_up_the_geometry():
    # Coazze and Aquila are 2 to 3 km apart: from the plain their bearings differ by about a degree.
    loud = scenes(100, tx_power_dbm=120.0, inside_ratio=1.0)
    assert all(scene.num_detected == 7 for scene in loud)
    # All seven inside the network: 0.8 to 2.5; angular gaps in degrees gave about 100.
    assert max(scene.gdop for scene in loud) < 4


def test_receivers_at_one_place_are_no_trouble():
    twice = (*SITES, dataclasses.replace(SITES[0], rx_id="aquila-again"))
    scene = scenes(1, sites=twice)[0]
    assert all(math.isfinite(link.received_power_dbm) for link in scene.links)


def test_a_transmitter_at_a_receivers_own_place_is_heard_there():
    sites = (SITES[2],)
    scene = scenes(1, sites=sites, inside_ratio=1.0)[0]  # the box of one receiver is its place
    assert math.isfinite(scene.links[0].received_power_dbm)
    assert scene.links[0].snr_db > 60
    assert rejection_reason(SceneSpec(), scene) == "too_few_receivers"


def test_a_scene_needs_a_receiver():
    with pytest.raises(ValueError, match="at least one receiver"):
        scenes(1, sites=())
