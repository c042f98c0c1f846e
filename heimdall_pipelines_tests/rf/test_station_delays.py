"""Delays of stations from time differences: right, with their uncertainty, named where one differs."""

import numpy as np
import pytest

from heimdall_pipelines.rf.geodesy import distance_m
from heimdall_pipelines.rf.positioning import Receiver
from heimdall_pipelines.rf.station_delays import Emission, corrected, estimate_delays, misfit
from heimdall_pipelines.rf.tdoa import TimeDifference

# Seven stations within 120 km, as the network's.
PLACES = (
    *((45.07, 7.69), (44.41, 8.93), (45.46, 9.19), (45.03, 7.35)),
    *((44.39, 7.55), (45.32, 8.42), (44.91, 8.61)),
)
STATIONS = tuple(Receiver(f"rx-{number}", lat, lon, 300.0) for number, (lat, lon) in enumerate(PLACES))
NAMES = [station.rx_id for station in STATIONS]


def emission(rng, delays_us, *, noise_us=0.1, with_echoes=False, is_known=False, stations=STATIONS):
    """A transmission at a random place within the network's area, as the stations receive it."""
    lat, lon = rng.uniform(44.4, 45.5), rng.uniform(7.4, 9.2)
    paths_m = np.asarray(distance_m(lat, lon, [x.latitude for x in stations], [x.longitude for x in stations]))
    times_us = np.hypot(paths_m, 300.0) / 299.792458 + np.array([delays_us.get(x.rx_id, 0.0) for x in stations])
    times_us += noise_us * rng.standard_normal(len(stations))
    if with_echoes:
        times_us += rng.exponential(2.0, len(stations)) + 2.5 * rng.standard_normal(len(stations))
    pairs = [(a, b) for a in range(len(stations)) for b in range(a + 1, len(stations))]
    differences = tuple(TimeDifference(a, b, times_us[b] - times_us[a], 1.4 * noise_us, 0.8, None) for a, b in pairs)
    return Emission(tuple(stations), differences, (lat, lon) if is_known else None)


def generator(key):
    return np.random.Generator(np.random.Philox(key=key))


def test_a_known_source_gives_the_delays_of_three_stations():
    true_us = {"rx-0": 30.0, "rx-1": -12.0, "rx-2": 5.0}
    found = estimate_delays([emission(generator(1), true_us, is_known=True, stations=STATIONS[:3])], systematic_us=0.1)
    mean_us = np.mean(list(true_us.values()))
    for rx_id, delay_us in true_us.items():
        # Noise of 0.1 us at each station.
        assert found[rx_id].delay_us == pytest.approx(delay_us - mean_us, abs=0.4)
        assert 0.02 < found[rx_id].std_us < 0.5
    assert sum(x.delay_us for x in found.values()) == pytest.approx(0.0, abs=1e-6)


def test_one_emission_at_an_unknown_place_says_little():
    found = estimate_delays([emission(generator(2), {"rx-3": 20.0})], systematic_us=0.5)
    # Seven delays, of which the mean, the position and the instant are not seen.
    assert max(x.std_us for x in found.values()) > 100.0


def test_the_uncertainty_is_that_of_the_delays():
    apart = []
    for key in range(60):
        rng = generator(100 + key)
        found = estimate_delays([emission(rng, {}, noise_us=1.0, is_known=True) for _ in range(4)], systematic_us=0.01)
        apart += [x.delay_us / x.std_us for x in found.values()]
    # 420 values, of which 6 of 7 are independent: the spread of a standard normal to 4 %, three sigma 12 %;
    # the soft-L1 weights cost up to another tenth.
    assert 0.8 < np.std(apart) < 1.2


@pytest.mark.long
def test_a_station_that_is_10_us_late_is_named_over_many_emissions():
    for key in range(2):
        rng = generator(10 + key)
        late = NAMES[key]
        emissions = [emission(rng, {late: 10.0}, with_echoes=True) for _ in range(40)]
        found = estimate_delays(emissions, systematic_us=3.0)
        assert [rx_id for rx_id, x in found.items() if x.is_different] == [late]
        others_us = np.median([x.delay_us for rx_id, x in found.items() if rx_id != late])
        assert found[late].delay_us - others_us == pytest.approx(10.0, abs=4.0)
        assert found[late].num_emissions == 40


@pytest.mark.long
def test_right_clocks_are_not_named_over_many_emissions():
    for key in range(2):
        rng = generator(20 + key)
        found = estimate_delays([emission(rng, {}, with_echoes=True) for _ in range(40)], systematic_us=3.0)
        assert not any(x.is_different for x in found.values())


def test_delays_are_subtracted_with_their_sign():
    given = emission(generator(3), {"rx-0": 30.0}, noise_us=0.0)
    without = emission(generator(3), {}, noise_us=0.0)
    for one, other in zip(
        corrected(given.receivers, given.differences, {"rx-0": 30.0}), without.differences, strict=True
    ):
        assert one.tdoa_us == pytest.approx(other.tdoa_us, abs=1e-9)


def allowed(std_us):
    return dict.fromkeys(NAMES, std_us)


@pytest.mark.long
def test_a_wrong_clock_of_one_emission_is_named():
    named = 0
    for key in range(30):
        late = NAMES[key % 7]
        given = emission(generator(200 + key), {late: 20.0})
        found = misfit(given.receivers, given.differences, allowed(0.3))
        assert found is not None
        assert found.probability < 0.005
        assert found.suspect in (late, None)
        if found.suspect == late:
            named += 1
            assert found.suspect_us == pytest.approx(20.0, abs=8.0)
            assert found.others_rms_us is not None
            assert found.others_rms_us < 1.0
    assert named >= 28


def test_right_clocks_of_one_emission_are_not_named():
    for key in range(30):
        given = emission(generator(300 + key), {}, noise_us=0.5)
        found = misfit(given.receivers, given.differences, allowed(0.5))
        assert found is not None
        assert found.suspect is None


def test_of_four_stations_none_can_be_named_and_three_say_nothing():
    given = emission(generator(4), {"rx-1": 60.0}, stations=STATIONS[:4])
    found = misfit(given.receivers, given.differences, allowed(0.3))
    assert found is not None
    assert found.suspect is None
    three = emission(generator(5), {"rx-1": 60.0}, stations=STATIONS[:3])
    assert misfit(three.receivers, three.differences, allowed(0.3)) is None
