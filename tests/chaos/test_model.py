"""The sequential ledger, on baskets whose outcome is worked out by hand, and on histories that it must refuse."""

from __future__ import annotations

from .client import Instrument, Limits
from .linearizability import Interval, check
from .model import ALL, FIT, Basket, Ledger, Look, Release, Step, Wanted

E9 = 10**9
EACH, BUY, SELL = 1, 1, 2
# Two instruments at 10.00, a cent a tick, a share a lot: one lot is 10 of exposure.
INSTRUMENTS = {
    name: Instrument(instrument_id=name, tick_e9=E9 // 100, lot_e9=E9, multiplier_e9=E9, mark_e9=10 * E9)
    for name in ("A", "B")
}
LEDGER = Ledger(INSTRUMENTS, Limits(order_notional=500, position=800, gross=1_000))


def basket(mode: int, *rows: tuple[int, int, int], approved: tuple[int, ...], price: int = 1_000) -> Basket:
    return Basket(mode, tuple(Wanted(*row, price) for row in rows), approved)


def judged(*steps: Step) -> bool | None:
    """One after the other."""
    return check(LEDGER, [Interval(2 * i, 2 * i + 1, step) for i, step in enumerate(steps)]).linearizable


def test_each_limit_binds_to_the_lot() -> None:
    assert judged(basket(EACH, (0, BUY, 50), approved=(50,)))
    assert judged(basket(EACH, (0, BUY, 51), approved=(0,)))  # notional 510 > 500
    assert judged(basket(EACH, (0, BUY, 51), approved=(50,))) is False
    assert judged(basket(FIT, (0, BUY, 51), approved=(50,)))
    assert judged(basket(FIT, (0, BUY, 50), (0, BUY, 50), approved=(50, 30)))  # position 800
    assert judged(basket(FIT, (0, BUY, 50), (0, BUY, 50), approved=(50, 31))) is False
    assert judged(basket(FIT, (0, BUY, 50), (0, BUY, 50), (1, SELL, 50), approved=(50, 30, 20)))  # gross 1,000
    assert judged(basket(FIT, (0, BUY, 50), (0, BUY, 50), (1, SELL, 50), approved=(50, 30, 21))) is False


def test_a_notional_is_taken_at_the_limit_price_and_an_exposure_at_the_mark() -> None:
    assert judged(basket(EACH, (0, SELL, 26), approved=(0,), price=2_000))  # 520
    assert judged(basket(EACH, (0, SELL, 25), approved=(25,), price=2_000))
    assert judged(basket(FIT, (0, BUY, 90), approved=(80,), price=500))  # notional 450, exposure 800


def test_the_two_sides_of_an_instrument_share_the_room() -> None:
    held = basket(FIT, (0, BUY, 50), (0, BUY, 50), approved=(50, 30))
    assert judged(held, basket(EACH, (0, SELL, 50), approved=(50,)))  # the worse end stays 800
    assert judged(held, basket(EACH, (0, SELL, 50), approved=(0,))) is False


def test_all_or_nothing_takes_nothing_when_one_does_not_fit() -> None:
    rows = ((0, BUY, 50), (0, BUY, 50))
    assert judged(basket(ALL, *rows, approved=(0, 0)))
    assert judged(basket(ALL, *rows, approved=(50, 0))) is False
    assert judged(basket(ALL, *rows, approved=(0, 0)), Look(0), basket(EACH, (0, BUY, 50), approved=(50,)), Look(1))


def test_what_was_cancelled_is_room_again_and_not_before() -> None:
    full = basket(FIT, (0, BUY, 50), (0, BUY, 50), approved=(50, 30))
    again = basket(EACH, (0, BUY, 30), approved=(30,))
    assert judged(full, Look(2), Release(0, BUY, 30), Look(1), again, Look(2))
    assert judged(full, again) is False
    assert judged(full, again, Release(0, BUY, 30)) is False


def test_two_clients_that_both_got_the_last_room_are_found() -> None:
    """Overexposure by a race: each answer alone is right, no order explains both."""
    first = Interval(0.0, 1.0, basket(EACH, (0, BUY, 50), approved=(50,)))
    second = Interval(0.5, 1.5, basket(EACH, (0, BUY, 50), approved=(50,)))
    denied = Interval(0.5, 1.5, basket(EACH, (0, BUY, 50), approved=(0,)))
    assert check(LEDGER, [first, second]).linearizable is False
    assert check(LEDGER, [first, denied]).linearizable is True


def test_a_read_that_misses_an_acknowledged_order_is_found() -> None:
    order = Interval(0.0, 1.0, basket(EACH, (0, BUY, 10), approved=(10,)))
    assert check(LEDGER, [order, Interval(0.5, 2.0, Look(0))]).linearizable is True
    assert check(LEDGER, [order, Interval(1.5, 2.0, Look(0))]).linearizable is False


def test_an_order_that_the_system_closed_holds_room_until_then() -> None:
    rejected = Basket(EACH, (Wanted(0, BUY, 50, 1_000),), (50,), frozenset({"x"}))
    ended = Release(0, BUY, 50, after="x")
    tight = basket(EACH, (0, BUY, 50), approved=(0,))
    loose = basket(EACH, (0, BUY, 50), approved=(50,))
    during = [Interval(0.0, 9.0, rejected), Interval(0.0, 9.0, ended)]
    assert check(LEDGER, [*during, Interval(1.0, 2.0, tight), Interval(3.0, 4.0, loose)]).linearizable is True
    assert check(LEDGER, [*during, Interval(1.0, 2.0, loose), Interval(3.0, 4.0, tight)]).linearizable is True
    assert check(LEDGER, [*during, Interval(10.0, 11.0, tight)]).linearizable is False
