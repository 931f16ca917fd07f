"""The pre-trade gate: all denial reasons in one kernel over one account's compact state.

    gate = Gate(instruments=500)
    gate.set_instrument(0, InstrumentFacts(tick_value=10_000_000, position_limit=5_000))
    gate.set_price(0, 18_950, ts_ns)
    gate.set_account(cash=10**14, day_start_equity=10**14, peak_equity=10**14)
    gate.set_policy(Policy(version=1, ts_ns=ts_ns, max_age_ns=60 * 10**9, price_max_age_ns=5 * 10**9))
    gate.set_trading_state(TradingState.ACTIVE)

    mask, lots, reservation = gate.check_one(0, Side.BUY, OrderType.LIMIT, 10, now_ns, price=18_950)
    if lots:
        gate.fill(reservation, instrument=0, side=Side.BUY, lots=4, price=18_950, fee=5_000)
        gate.release(reservation)
    else:
        reasons(mask)                                # every rule it broke, the deciding one first
    verdicts = gate.check(orders, now_ns, mode=Mode.ALL)    # GATE_ORDER rows: a basket

Which reason decides: the one with the lowest number in ``DenialReason``.

Reductions (an order that, with all open orders of its side, leaves the position on its side of zero)
are asked only what the venue and the order itself demand: HALTED, a free reservation, restricted,
closed, price (stale: at the operator's word), collar, size (but no minimum notional: a remainder stays
closable), self-trade, duplicate, post-only, expiry, type.
A reduction that buys back a short may therefore take cash below what is reserved.

Duplicates: the ids of the last `recent` approved orders, as 64-bit hashes, are remembered exactly.
Self-trades: the gate keeps each instrument's best own resting prices from its own reservations.

Ranges: prices and lots below 2**48, every amount of money and every sum within 2**61 nano units. Inputs
beyond are refused, products beyond count as 2**61, which no limit allows: nothing wraps around.

How the parts hang together:

    layout    the block of memory            memory    how kernels reach it
    facts     instrument facts and policy    settings  what is set from outside
    rules     the denial reasons             exposure  reservations, fills, prices, sums
    judge     one order's verdict            kernels   entry points
    gate      the public class               fused     gate and matching engine in one call
"""

from __future__ import annotations

from execution_core.gate.facts import InstrumentFacts, Policy
from execution_core.gate.gate import Gate, Mode, reasons, warm

__all__ = ["Gate", "InstrumentFacts", "Mode", "Policy", "reasons", "warm"]
