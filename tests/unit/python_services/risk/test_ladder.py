"""What moves the state that risk wants."""

from __future__ import annotations

import pytest

from execution_core.types import TradingState
from python_services.risk.ladder import DAY_NS, Cause, Losses, Wanted, losses, step

DAY = 14_500 * DAY_NS
ACTIVE, REDUCE_ONLY, HALTED = int(TradingState.ACTIVE), int(TradingState.REDUCE_ONLY), int(TradingState.HALTED)


def found(day: float = 0.0, drawdown: float = 0.0) -> Losses:
    return Losses(daily_loss_bps=day, daily_loss_limit_bps=500.0, drawdown_bps=drawdown, drawdown_limit_bps=2500.0)


def test_losses_are_shares_of_where_they_began() -> None:
    measured = losses(90, 100, 120, 500, 2500)
    assert measured.daily_loss_bps == pytest.approx(1000.0)
    assert measured.drawdown_bps == pytest.approx(2500.0)
    assert measured.daily_loss_reached
    assert measured.drawdown_reached
    gains = losses(130, 100, 120, 500, 2500)
    assert (gains.daily_loss_bps, gains.drawdown_bps) == (0.0, 0.0)


def test_nothing_moves_while_losses_are_small() -> None:
    wanted = Wanted()
    assert step(wanted, found(499.9, 2499.9), DAY) is wanted


def test_a_daily_loss_lasts_until_the_next_day() -> None:
    tripped = step(Wanted(), found(day=600.0), DAY)
    assert (tripped.state, tripped.cause) == (REDUCE_ONLY, Cause.DAILY_LOSS)
    assert "600 bps" in tripped.reason
    assert step(tripped, found(), DAY + 1) is tripped
    lifted = step(tripped, found(), DAY + DAY_NS)
    assert (lifted.state, lifted.cause) == (ACTIVE, Cause.DAILY_LOSS)


def test_a_second_day_of_loss_trips_again() -> None:
    tripped = step(Wanted(), found(day=600.0), DAY)
    again = step(tripped, found(day=700.0), DAY + DAY_NS)
    assert (again.state, again.ts_ns) == (REDUCE_ONLY, DAY + DAY_NS)


def test_a_drawdown_stays_until_an_operator_lifts_it() -> None:
    tripped = step(Wanted(), found(drawdown=2500.0), DAY)
    assert (tripped.state, tripped.cause) == (REDUCE_ONLY, Cause.DRAWDOWN)
    assert step(tripped, found(), DAY + 30 * DAY_NS) is tripped
    lifted = Wanted(state=ACTIVE, cause=Cause.OPERATOR, reason="reviewed", ts_ns=DAY)
    assert step(lifted, found(), DAY + DAY_NS) is lifted
    assert step(lifted, found(drawdown=2600.0), DAY).cause is Cause.DRAWDOWN


def test_a_drawdown_takes_over_from_a_daily_loss() -> None:
    tripped = step(Wanted(), found(day=600.0), DAY)
    assert step(tripped, found(day=600.0, drawdown=2600.0), DAY).cause is Cause.DRAWDOWN


@pytest.mark.parametrize("state", [REDUCE_ONLY, HALTED])
def test_an_operators_word_is_never_overruled(state: int) -> None:
    wanted = Wanted(state=state, cause=Cause.OPERATOR, reason="stop", ts_ns=DAY)
    assert step(wanted, found(day=900.0, drawdown=9000.0), DAY + DAY_NS) is wanted
