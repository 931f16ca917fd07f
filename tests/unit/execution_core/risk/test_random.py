"""The random numbers: the generator word for word, and the distributions by real tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from execution_core.errors import InvalidValueError
from execution_core.risk.random import (
    LANES,
    fill_normals,
    fill_uniforms,
    fill_words,
    in_threads,
    key_of,
    streams,
)

MASK = 2**64 - 1
KEY = key_of(np.random.Generator(np.random.SFC64(2024)))


def rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (64 - k))) & MASK


def next_word(s: list[int]) -> int:
    """xoshiro256++ as its authors wrote it (https://prng.di.unimi.it/xoshiro256plusplus.c)."""
    answer = (rotate((s[0] + s[3]) & MASK, 23) + s[0]) & MASK
    t = (s[1] << 17) & MASK
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotate(s[3], 45)
    return answer


def split_mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_words_equal_the_authors_generator_lane_by_lane() -> None:
    state = streams(KEY, 7)
    lanes = [[int(state[word, lane]) for word in range(4)] for lane in range(LANES)]
    words = np.empty(LANES * 50, np.uint64)
    fill_words(state, words)
    expected = [[next_word(lane) for lane in lanes] for _ in range(50)]
    np.testing.assert_array_equal(words.reshape(50, LANES), np.array(expected, dtype=np.uint64))


def test_streams_are_seeded_by_split_mix() -> None:
    golden = 0x9E3779B97F4A7C15
    base = split_mix(int(KEY[0]) ^ split_mix((int(KEY[1]) + golden * 4) & MASK))
    state = streams(KEY, 3)
    for lane in range(LANES):
        for word in range(4):
            base = (base + golden) & MASK
            assert int(state[word, lane]) == split_mix(base)


def normals(count: int, first_block: int = 0) -> np.ndarray:
    words, out = np.empty(1024, np.uint64), np.empty((count // 1024, 1024))
    for block in range(out.shape[0]):
        fill_normals(streams(KEY, first_block + block), words, out[block])
    return out.ravel()


def test_normals_equal_box_and_muller() -> None:
    state, twin = streams(KEY, 1), streams(KEY, 1)
    words, out = np.empty(64, np.uint64), np.empty(64)
    fill_words(twin, words)
    fill_normals(state, np.empty(64, np.uint64), out)
    for i in range(32):
        radius = math.sqrt(-2.0 * math.log(((int(words[i]) >> 11) + 1) * 2.0**-53))
        signed = int(words[32 + i]) - (2**64 if int(words[32 + i]) >= 2**63 else 0)
        angle = 2.0 * math.pi * (signed >> 11) * 2.0**-53
        assert out[i] == pytest.approx(radius * math.cos(angle), rel=1e-11, abs=1e-13)
        assert out[32 + i] == pytest.approx(radius * math.sin(angle), rel=1e-11, abs=1e-13)


def test_normals_are_normal() -> None:
    """Moments, distribution and tails of a million numbers at a fixed key: thresholds at p 1e-4."""
    x = normals(1 << 20)
    n = x.size
    assert abs(x.mean()) * math.sqrt(n) < 3.9
    assert abs(x.var() - 1.0) * math.sqrt(n / 2) < 3.9
    assert abs(stats.skew(x)) * math.sqrt(n / 6) < 3.9
    assert abs(stats.kurtosis(x)) * math.sqrt(n / 24) < 3.9
    assert stats.kstest(x, "norm").pvalue > 1e-4
    for edge in (3.0, 4.0):
        chance = 2 * stats.norm.sf(edge)
        assert abs((np.abs(x) > edge).sum() - n * chance) < 4 * math.sqrt(n * chance)


def test_normals_do_not_depend_on_their_neighbours() -> None:
    """Serial correlation inside a block, between the pair of Box and Muller, and across blocks."""
    x = normals(1 << 20).reshape(-1, 1024)
    n = x.size
    for a, b in (
        (x[:, :-1], x[:, 1:]),
        (x[:, :-LANES], x[:, LANES:]),
        (x[:, :512], x[:, 512:]),
        (x[:-1], x[1:]),
        (x[:, :-1] ** 2 - 1, x[:, 1:] ** 2 - 1),
        (x[:, :512] ** 2 - 1, x[:, 512:] ** 2 - 1),
    ):
        scale = a.std() * b.std()
        assert abs((a * b).mean() / scale) * math.sqrt(a.size) < 4.2, n


def test_uniforms_fill_the_interval_and_the_plane() -> None:
    state, words, out = streams(KEY, 0), np.empty(1 << 18, np.uint64), np.empty(1 << 18)
    fill_uniforms(state, words, out)
    assert out.min() > 0.0
    assert out.max() <= 1.0
    counts = np.histogram(out, 256, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-4
    pairs = np.histogram2d(out[::2], out[1::2], 32, [[0, 1], [0, 1]])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-4
    bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    share = bits.mean(axis=0)
    assert np.abs(share - 0.5).max() * 2 * math.sqrt(words.size) < 4.5


def test_blocks_and_keys_give_different_numbers() -> None:
    states = {streams(KEY, block).tobytes() for block in range(2000)}
    assert len(states) == 2000
    other = key_of(np.random.Generator(np.random.SFC64(2025)))
    assert streams(other, 0).tobytes() not in states


@pytest.mark.parametrize("workers", [1, 2, 3, 64])
def test_every_block_is_worked_on_once(workers: int) -> None:
    seen = np.zeros(10, np.int64)

    def work(first: int, last: int) -> None:
        seen[first:last] += 1

    in_threads(work, 10, workers)
    np.testing.assert_array_equal(seen, 1)


def test_an_error_in_a_thread_is_raised_and_no_worker_is_refused() -> None:
    def fail(first: int, last: int) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        in_threads(fail, 4, 2)
    with pytest.raises(InvalidValueError, match="workers"):
        in_threads(fail, 4, 0)
