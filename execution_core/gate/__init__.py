"""The pre-trade gate: all denial reasons in one kernel over one account's compact state.

gate = Gate(instruments=500)
gate.set_instrument(0, InstrumentFacts(tick_value=10_000_000, position_limit=5_000))
gate.set_price(0, 18_950, ts_ns)
gate.set_account(cash=10**14, day_start_equity=10**14, peak_equity=10**14)
gate.set_policy(Policy(version=1, ts_ns=ts_ns, max_age_ns=60 * 10**9, price_max_age_ns=5 * 10**9))
gate.set_trading_state(TradingState.ACTIVE)

orders = np.zeros(1, GATE_ORDER)      # side, type, time_in_force, lots, price, ...
verdict = gate.check(orders, now_ns)[0]
if verdict["lots"]:
    gate.fill(verdict["reservation"], instrument=0, side=Side.BUY, lots=10, price=18_950, fee=5_000)
    gate.release(verdict["reservation"])
else:
    reasons(verdict["mask"])          # every rule it broke, the deciding one first
"""

from __future__ import annotations

from execution_core.gate.facts import InstrumentFacts, Policy
from execution_core.gate.gate import Gate, Mode, reasons, warm

__all__ = ["Gate", "InstrumentFacts", "Mode", "Policy", "reasons", "warm"]
