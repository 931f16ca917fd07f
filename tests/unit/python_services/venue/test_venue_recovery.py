"""The books are their journal carried out again; fees are the schedule's, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import events_pb2, venue_pb2
from execution_core.simulation.fees import FeeModel, fees_nano
from execution_core.types import LiquidityFlag
from python_services.kit.config import ConfigError, load
from python_services.kit.journal import Event, Journal, JournalError
from python_services.venue.bars.desk import Desk as BarsDesk
from python_services.venue.book.charge import Charge
from python_services.venue.config import Config

from .venue_floor import Floor, Phase, Tif, Type, instruments, order

BUY = trading_pb2.SIDE_BUY


def trade(floor: Floor) -> None:
    """A little of everything that must come back."""
    floor.limits(9_000, 11_000, 10_000)
    floor.sell("a/1", 30, 10_000, order_type=Type.ORDER_TYPE_ICEBERG, display=10)
    floor.buy("b/1", 13, 10_000)
    floor.buy("b/2", 5, 9_990, time_in_force=Tif.TIME_IN_FORCE_GTD, expire_time_ns=500)
    floor.sell("c/1", 5, order_type=Type.ORDER_TYPE_TRAILING_STOP_MARKET, trail=7)
    floor.replace("a/1", trading_pb2.SIDE_SELL, 25, 10_001)
    floor.buy("d/1", 1, 100, instrument_id="TSLA")
    floor.advance(100)
    floor.phase(Phase.SESSION_PHASE_INTRADAY_AUCTION)


def test_a_restart_gives_the_same_books_reports_and_tape(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "restarted").mkdir()
    kept, restarted = Floor(tmp_path / "kept"), Floor(tmp_path / "restarted")
    trade(kept)
    trade(restarted)
    restarted.restart()
    assert restarted.desk.reports == kept.desk.reports
    assert restarted.desk.trades == kept.desk.trades
    for floor in (kept, restarted):
        floor.buy("e/1", 9)
        floor.phase(Phase.SESSION_PHASE_CONTINUOUS)
        floor.advance(600)
    assert restarted.desk.reports == kept.desk.reports
    assert restarted.desk.book("IBM", 5) == kept.desk.book("IBM", 5)
    keys = kept.desk.orders("b", open_only=False)
    assert [restarted.desk.status(key) for key in keys] == [kept.desk.status(key) for key in keys]
    assert len(keys) == 2
    assert restarted.journal.last_seq == kept.journal.last_seq


@pytest.mark.parametrize("lost", [1, 3])
def test_reports_that_a_crash_cut_off_their_command_are_written_again(tmp_path: Path, lost: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = Floor(tmp_path / "whole")
    whole.sell("a/1", 10, 10_000)
    whole.buy("b/1", 10, 10_000)  # a command and three reports
    whole.journal.close()
    journal = Journal(tmp_path / "whole" / "journal.db", "venue", "test", lambda error: None)
    envelopes = [envelope for frame in journal.read(1) for envelope in frame.events]
    journal.close()
    journal = Journal(tmp_path / "cut" / "journal.db", "venue", "test", lambda error: None)
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in (events_pb2.BookCommand, venue_pb2.Report)}
    for envelope in envelopes[:-lost]:
        payload = kinds[envelope.schema].FromString(envelope.payload)
        journal.add([Event(payload=payload, ts_event_ns=envelope.ts_event_ns, ts_init_ns=envelope.ts_init_ns)])
    journal.close()
    cut = Floor(tmp_path / "cut")
    assert cut.desk.reports == whole.desk.reports
    assert cut.journal.last_seq == len(envelopes)
    cut.restart()
    assert cut.desk.reports == whole.desk.reports


def test_a_new_schedule_holds_from_now_on(tmp_path: Path) -> None:
    floor = Floor(tmp_path, fee_per_lot_e9=10_000_000)
    floor.sell("a/1", 30, 10_000)
    floor.buy("b/1", 10, 10_000)
    floor.restart(fee_per_lot_e9=20_000_000, minimum_fee_e9=0)
    floor.buy("b/2", 10, 10_000)
    assert floor.fees() == [100_000_000, 100_000_000, 300_000_000, 200_000_000]
    floor.restart()
    assert len(floor.fees()) == 4


def test_a_journal_of_the_other_market_is_refused(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    floor.buy("a/1", 1, 10_000)
    floor.journal.close()
    journal = Journal(tmp_path / "journal.db", "venue", "test", lambda error: None)
    with pytest.raises(JournalError, match="another market"):
        BarsDesk(Config(), journal, instruments())
    journal.close()
    (tmp_path / "bars").mkdir()
    journal = Journal(tmp_path / "bars" / "journal.db", "venue", "test", lambda error: None)
    BarsDesk(Config(), journal, instruments()).submit([order("a/1", BUY, 1, 10_000)])
    journal.close()
    with pytest.raises(JournalError, match="cannot be repeated from event 1"):
        Floor(tmp_path / "bars")


def test_a_configuration_that_makes_no_sense_is_refused() -> None:
    for values in ({"market": "pit"}, {"initial_phase": "LUNCH"}, {"self_trade_prevention": "HOPE"}):
        with pytest.raises(ConfigError, match="use one of"):
            load(Config, values, where="venue")


fills = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**15)), min_size=1, max_size=6)


@given(
    fills=fills,
    liquidity=st.sampled_from([1, 2, 4]),
    rates=st.tuples(st.integers(-10_000, 50_000), st.integers(0, 50_000)),
    per_lot=st.integers(0, 10**7),
    minimum=st.sampled_from([0, 10**9]),
)
def test_an_orders_fees_are_those_of_its_whole(
    fills: list[tuple[int, int]], liquidity: int, rates: tuple[int, int], per_lot: int, minimum: int
) -> None:
    model = FeeModel(maker_rate_e8=rates[0], taker_rate_e8=rates[1], per_lot_nano=per_lot, minimum_nano=minimum)
    charge = Charge()
    paid = sum(charge.fill(lots, notional, liquidity, model) for lots, notional in fills)
    whole = fees_nano(np.int64(sum(f[0] for f in fills)), np.int64(sum(f[1] for f in fills)), liquidity, model)
    assert paid == int(whole)


def test_a_rebate_and_a_fee_on_one_order() -> None:
    model = FeeModel(maker_rate_e8=-10_000, taker_rate_e8=30_000, rounding_nano=1)
    charge = Charge()
    assert charge.fill(1, 10**12, LiquidityFlag.TAKER, model) == 300_000_000
    assert charge.fill(1, 10**12, LiquidityFlag.MAKER, model) == -100_000_000
    # A notional beyond int64 is no trouble.
    assert charge.fill(1, 10**20, LiquidityFlag.AUCTION, model) == 3 * 10**16
