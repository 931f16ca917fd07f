"""Positions at average cost, in exact integers: what is taken out of cost is what is realised."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Position:
    """Signed quantity and its signed cost; flat means both are zero."""

    quantity_e9: int = 0
    cost_e9: int = 0

    def trade(self, quantity_e9: int, notional_e9: int) -> int:
        """Applies a trade of signed `quantity_e9` worth `notional_e9` (> 0); returns the realised P&L.

        Average cost: a reduction takes cost out in proportion, rounded towards zero; what rounding
        leaves stays with the position and comes out when it goes flat, so nothing is ever lost. A
        trade through zero closes the old position and opens the rest at the trade's price.
        """
        sign = 1 if quantity_e9 > 0 else -1
        value = sign * notional_e9
        if self.quantity_e9 * quantity_e9 >= 0:
            self.quantity_e9 += quantity_e9
            self.cost_e9 += value
            return 0
        closing = min(abs(quantity_e9), abs(self.quantity_e9))
        closed_value = sign * (notional_e9 * closing // abs(quantity_e9))
        if closing == abs(self.quantity_e9):
            closed_cost = self.cost_e9
        else:
            closed_cost = (1 if self.cost_e9 > 0 else -1) * (abs(self.cost_e9) * closing // abs(self.quantity_e9))
        self.quantity_e9 += sign * closing
        self.cost_e9 -= closed_cost
        opening = quantity_e9 - sign * closing
        if opening:
            self.quantity_e9 += opening
            self.cost_e9 += value - closed_value
        return -(closed_value + closed_cost)
