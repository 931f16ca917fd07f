"""No feature knows the future, and every path gives the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.feature_store import historical, logic
from python_services.feature_store.bars import Bars, of_snapshot
from python_services.feature_store.definitions import COLUMNS, DAILY_TECHNICAL, FEATURES, Definition, FeatureSet
from python_services.feature_store.logic import Computable, of_code
from python_services.feature_store.online import Online
from python_services.market_data.cutting import NothingKnownError, cut
from python_services.market_data.history import History
from python_services.market_data.universe import Universes
from python_services.market_data.versions import Versions
from tests.unit.python_services.market_data.files import NAMES, load

DAY = 86_400 * 10**9
SET = of_code(DAILY_TECHNICAL)
SEEDS = st.integers(0, 2**32)
Rows = dict[tuple[int, int], tuple[float, ...]]


def bar(random: np.random.Generator, close: float) -> tuple[float, ...]:
    """Open, high, low, close, volume, step, split: a good bar around a close."""
    opening = close * float(random.uniform(0.98, 1.02))
    high, low = max(opening, close) * 1.01, min(opening, close) * 0.99
    split = float(random.choice([1.0, 1.0, 1.0, 2.0])) if random.random() < 0.05 else 1.0
    return (opening, high, low, close, float(random.integers(1, 10**6)), split * float(random.choice([1, 1.01])), split)


def versions(seed: int, first_day: int, days: int, corrections: int) -> Rows:
    """Bars of consecutive days, each known at its close, and later versions of some of them."""
    random = np.random.default_rng(seed)
    closes = 100.0 * np.exp(0.02 * random.standard_normal(days).cumsum())
    rows = {((first_day + i) * DAY,) * 2: bar(random, float(close)) for i, close in enumerate(closes)}
    for _ in range(corrections):
        day = first_day + int(random.integers(days))
        known = day * DAY + int(random.integers(1, 40 * DAY))
        rows[day * DAY, known] = bar(random, float(random.uniform(50, 200)))
    return rows


def alone(feature: Definition) -> tuple[Computable, ...]:
    return of_code(FeatureSet(display_name="one", features=(feature,)))


def values(features: Sequence[Computable], bars: Bars, cuts: Sequence[int]) -> bytes:
    return historical.at_moments(features, bars, np.array(cuts, dtype=np.int64)).values.tobytes()


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.feature_id}-{feature.version[:6]}")
def test_what_becomes_known_later_changes_no_feature(feature: Definition) -> None:
    features = alone(feature)

    @settings(max_examples=10, deadline=None)
    @given(past=SEEDS, future=SEEDS, offset=st.integers(-3 * DAY, 3 * DAY))
    def check(past: int, future: int, offset: int) -> None:
        cut_ns = 135 * DAY + offset
        rows = versions(past, 1, 140, 6)
        altered = {key: row for key, row in rows.items() if key[1] <= cut_ns}
        altered |= {key: row for key, row in versions(future, 1, 170, 40).items() if key[1] > cut_ns}
        assert values(features, Bars.of(rows), [cut_ns]) == values(features, Bars.of(altered), [cut_ns])

    check()


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: f"{feature.feature_id}-{feature.version[:6]}")
def test_every_feature_reads_its_newest_bar_and_has_a_value_from_its_minimum_on(feature: Definition) -> None:
    features = alone(feature)
    rows = versions(3, 1, feature.minimum_bars, 0)
    cut_ns = feature.minimum_bars * DAY
    found = historical.at_moments(features, Bars.of(rows), np.array([cut_ns - 1, cut_ns])).values[:, 0]
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
    newest = cut_ns - int(feature.parameters.get("skip", 0)) * DAY
    changed = rows | {(newest, newest): (60.0, 200.0, 40.0, 61.0, 77_777.0, 1.0, 1.0)}
    assert values(features, Bars.of(changed), [cut_ns]) != values(features, Bars.of(rows), [cut_ns])


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, corrections=st.integers(0, 30), cuts=st.lists(st.integers(1, 200 * DAY), min_size=1, max_size=40))
def test_many_cuts_at_once_give_the_bits_of_each_alone(seed: int, corrections: int, cuts: list[int]) -> None:
    bars = Bars.of(versions(seed, 1, 150, corrections))
    together = historical.at_moments(SET, bars, np.array(cuts)).values
    for row, cut_ns in zip(together, cuts, strict=True):
        assert row.tobytes() == values(SET, bars, [cut_ns])


@settings(max_examples=20, deadline=None)
@given(
    seeds=st.lists(SEEDS, min_size=3, max_size=3), cuts=st.lists(st.integers(DAY, 200 * DAY), min_size=1, max_size=30)
)
def test_rows_joined_by_moment_are_what_online_reading_gives(seeds: list[int], cuts: list[int]) -> None:
    market = {name: Bars.of(versions(seed, 1, 150, 8)) for name, seed in zip(NAMES, seeds, strict=True)}
    asked = [NAMES[i % 3] for i in range(len(cuts))]
    together = historical.rows(SET, market, asked, np.array(cuts))
    online = Online(SET)
    for i, (name, cut_ns) in enumerate(zip(asked, cuts, strict=True)):
        row, _ = online.read([name], cut_ns, market.__getitem__, 1)
        expected, _ = historical.Rows(
            values=together.values[i : i + 1],
            event_ns=together.event_ns[i : i + 1],
            known_ns=together.known_ns[i : i + 1],
        ).fresh(SET, np.array([cut_ns]))
        assert row.values.tobytes() == expected.values.tobytes()
        assert (row.event_ns[0], row.known_ns[0]) == (expected.event_ns[0], expected.known_ns[0])


def market_data(seed: int) -> History:
    """What market_data holds: a loaded set with gaps, splits and dividends, and corrections that came in."""
    random = np.random.default_rng(seed)
    days = np.busday_offset("2009-01-05", np.arange(150), roll="forward").astype(str).tolist()
    lines = []
    for name in NAMES:
        close, factor = 50.0, 1.0
        for day in days:
            close = round(min(max(close * float(np.exp(0.02 * random.standard_normal())), 5.0), 500.0), 2)
            factor *= float(random.choice([1.0, 1.01, 2.0], p=[0.96, 0.03, 0.01]))
            low, high = f"{close * 0.97:.2f}", f"{close * 1.03:.2f}"
            if random.random() > 0.03:
                adjusted = close * factor / 100
                lines.append(f"{name},{day},{close},{high},{low},{close},{random.integers(1, 10**6)},{adjusted!r}")
    history = History(load(lines))
    closes = history.dataset.close_ns
    columns = [
        (int(random.integers(3)), int(random.choice(closes)), int(random.integers(1, 60 * DAY))) for _ in range(20)
    ]
    price = random.integers(500, 20_000, 20) * 10**7
    late = {
        "stream": [0] * 20, "row": [row for row, _, _ in columns], "ts_event_ns": [ts for _, ts, _ in columns],
        "known_at_ns": [ts + delay for _, ts, delay in columns], "open": price, "high": price * 2, "low": price // 2,
        "close": price, "volume": random.integers(0, 10**15, 20),
        "step": random.choice([0.0, 1.0, 1.5], 20), "split_step": random.choice([0.0, 1.0, 2.0], 20),
    }  # fmt: skip
    history.append("vendor", Versions.of(late), (closes - 10**9).tolist()[:20])
    return history


def bars_of(history: History, row: int) -> Bars:
    found, _ = history.versions(np.array([row]), 2**62, -(2**62), 2**62)
    columns = [getattr(found, name) / 1e9 for name in ("open", "high", "low", "close", "volume")]
    table = np.stack([*columns, found.step, found.split_step], axis=1).tolist()
    keys = zip(found.ts_event_ns.tolist(), found.known_at_ns.tolist(), strict=True)
    return Bars.of({key: tuple(values) for key, values in zip(keys, table, strict=True)})


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, lookback=st.integers(135, 200), asked=st.permutations([0, 1, 2]), places=st.lists(st.floats(0, 1)))
def test_a_snapshot_gives_the_bits_of_the_bars(seed: int, lookback: int, asked: list[int], places: list[float]) -> None:
    history = market_data(seed)
    first, last = history.dataset.close_ns[0], history.dataset.close_ns[-1] + 40 * DAY
    universe = Universes(history)
    names = tuple(history.dataset.instruments[row].instrument_id for row in asked)
    for place in (1.0, *places):
        as_of_ns = int(first + place * (last - first))
        try:
            taken = cut(universe.get(names, as_of_ns), as_of_ns, lookback)
        except NothingKnownError:
            continue
        at = of_snapshot(taken.columns, taken.ts_event_ns, logic.longest(SET))
        found = logic.compute(SET, at.window, at.held)
        for i, row in enumerate(asked):
            past = historical.at_moments(SET, bars_of(history, row), np.array([as_of_ns]))
            assert found[i].tobytes() == past.values[0].tobytes()
            assert at.event_ns[i] == past.event_ns[0]


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    bars=st.integers(1, 12),
    length=st.integers(1, 16),
    gappy=st.lists(st.booleans(), min_size=1, max_size=9),
)
def test_a_window_of_a_snapshot_holds_each_instruments_own_newest_bars(
    seed: int, bars: int, length: int, gappy: list[bool]
) -> None:
    """Whether all, some or none of the instruments traded on every day."""
    random = np.random.default_rng(seed)
    columns = {name: random.uniform(1.0, 2.0, (length, len(gappy))) for name in COLUMNS}
    for column in np.flatnonzero(gappy):
        absent = random.random(length) < random.choice([0.2, 1.0])
        for values in columns.values():
            values[absent, column] = np.nan
    times = np.arange(1, length + 1) * DAY
    at = of_snapshot(columns, times, bars)
    for i in range(len(gappy)):
        own = np.flatnonzero(~np.isnan(columns["close"][:, i]))
        assert at.held[i] == len(own)
        assert at.event_ns[i] == (times[own[-1]] if len(own) else 0)
        for name in COLUMNS:
            found = getattr(at.window, name)
            assert found.shape == (bars, len(gappy))
            assert found.flags.c_contiguous
            wanted = np.full(bars, np.nan)
            newest = columns[name][own[-bars:], i]
            wanted[bars - len(newest) :] = newest
            assert np.array_equal(found[:, i], wanted, equal_nan=True)
