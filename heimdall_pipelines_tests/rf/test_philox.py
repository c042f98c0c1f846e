"""Counter-based random numbers: known answers, moments and tails, and independence of what is kept apart."""

import math

import numpy as np
import pytest
from scipy import stats

from heimdall_pipelines.rf.philox import (
    MAX_RECEIVER,
    MAX_SAMPLE_IDX,
    MAX_SEED,
    TILE_BLOCKS,
    Purpose,
    counter_words,
    generator,
    normal_tile,
    philox_words,
)

STREAM = {"seed": 11, "sample_idx": 5, "purpose": Purpose.NOISE, "receiver": 2}


def normals(size, **changes):
    """The first numbers of a stream, tile by tile."""
    words, random = counter_words(**(STREAM | changes)), np.empty((4, TILE_BLOCKS), np.uint32)
    tiles = np.empty((math.ceil(size / (4 * TILE_BLOCKS)), 4 * TILE_BLOCKS), np.float32)
    for number, tile in enumerate(tiles):
        normal_tile(tile, random, number * TILE_BLOCKS, words, np.float32(1.0))
    return tiles.reshape(-1)[:size]


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # Random123 1.14, tests/kat_vectors, philox4x32 10
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_the_published_known_answers_come_out(counter, key, answer):
    words = np.zeros((4, 1), np.uint32)
    philox_words(words, counter[0], np.array(counter[1:] + key, np.uint32))
    assert words[:, 0].tolist() == answer


@pytest.mark.long
def test_moments_and_tails_are_those_of_a_normal_distribution_to_five_sigma():
    total, bins = 0, np.array([1.0, 2.0, 3.0, 4.0, 4.5, 5.0])
    beyond = np.zeros((2, bins.size))
    moments = np.zeros(4)
    for sample_idx in range(25):
        x = normals(1_000_000, sample_idx=sample_idx).astype(np.float64)
        total += x.size
        moments += [x.sum(), (x**2).sum(), (x**3).sum(), (x**4).sum()]
        beyond += [[np.count_nonzero(x > edge) for edge in bins], [np.count_nonzero(x < -edge) for edge in bins]]
    # 25 million numbers; four standard errors. Variances of x, x^2, x^3, x^4 are 1, 2, 15, 96.
    assert moments / total == pytest.approx([0, 1, 0, 3], abs=4 * np.sqrt(96 / total))
    assert moments[:3] / total == pytest.approx([0, 1, 0], abs=4 * np.sqrt(15 / total))
    expected = total * stats.norm.sf(bins)
    assert np.all(np.abs(beyond - expected) < 4 * np.sqrt(expected) + 1)
    assert beyond[:, -1].min() > 0


def test_the_distribution_passes_kolmogorov_and_smirnov():
    assert stats.kstest(normals(400_000), "norm").pvalue > 0.001


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"seed": 11 + 2**32},
        {"sample_idx": 6},
        {"sample_idx": 5 + 2**32},
        {"receiver": 3},
        {"purpose": Purpose.FADING},
    ],
)
def test_streams_of_other_keys_are_independent(change):
    one, other = normals(400_000), normals(400_000, **change)
    # Four standard errors of a correlation of 400,000 pairs; also of the squares, and one number apart.
    limit = 4 / np.sqrt(400_000)
    assert abs(np.mean(one * other)) < limit
    assert abs(np.mean(one[1:] * other[:-1])) < limit
    assert abs(np.corrcoef(one**2, other**2)[0, 1]) < limit


def test_a_generator_is_keyed_by_every_argument():
    draws = {
        float(generator(**(STREAM | change)).random())
        for change in ({}, {"seed": 0}, {"sample_idx": 0}, {"receiver": 0}, {"purpose": Purpose.SCENE}, {"attempt": 1})
    }
    assert len(draws) == 6
    assert generator(**STREAM).random() == generator(**STREAM).random()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("sample_idx", MAX_SAMPLE_IDX + 1),
        ("receiver", MAX_RECEIVER + 1),
        ("receiver", -1),
    ],
)
def test_what_does_not_fit_into_the_counter_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be between 0 and"):
        counter_words(**(STREAM | {name: value}))
    with pytest.raises(ValueError, match=f"{name} must be between 0 and"):
        generator(**(STREAM | {name: value}))
