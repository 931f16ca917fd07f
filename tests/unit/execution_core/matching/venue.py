"""A matching engine whose orders have names and whose events read as sentences, for tests by example."""

from __future__ import annotations

from typing import Any

from execution_core.matching import MatchingEngine
from execution_core.types import NO_PRICE, LiquidityFlag, MatchEventKind, MatchReason, OrderType, Side, TimeInForce

TIF = TimeInForce
TYPE = OrderType


class Venue:
    """Each call returns its events, ACCEPTED left out: ``FILL a 5@100 leaves 3 MAKER``."""

    def __init__(self, **settings: Any) -> None:
        self.engine = MatchingEngine(**settings)
        self.names: list[str] = [""]
        self.ids: dict[str, int] = {}
        self.accounts: dict[str, int] = {}
        self.accepted: list[int] = []

    def buy(self, name: str, quantity: int, price: int = NO_PRICE, **fields: Any) -> list[str]:
        return self.submit(Side.BUY, name, quantity, price, fields)

    def sell(self, name: str, quantity: int, price: int = NO_PRICE, **fields: Any) -> list[str]:
        return self.submit(Side.SELL, name, quantity, price, fields)

    def submit(self, side: Side, name: str, quantity: int, price: int, fields: dict[str, Any]) -> list[str]:
        fields.setdefault("order_type", TYPE.MARKET if price == NO_PRICE else TYPE.LIMIT)
        fields.setdefault("account", len(self.names))
        self.names.append(name)
        self.accounts[name] = fields["account"]
        return self.read(self.engine.submit(side, quantity, price, client_tag=len(self.names) - 1, **fields))

    def cancel(self, name: str) -> list[str]:
        return self.read(self.engine.cancel(self.ids[name], self.accounts[name]))

    def replace(self, name: str, **changes: Any) -> list[str]:
        return self.read(self.engine.replace(self.ids[name], self.accounts[name], **changes))

    def read(self, events: Any) -> list[str]:
        lines = []
        for event in events:
            kind = MatchEventKind(int(event["kind"]))
            name = self.names[event["client_tag"]]
            reason = MatchReason(int(event["reason"]))
            price = "market" if event["price"] == NO_PRICE else str(event["price"])
            if kind == MatchEventKind.ACCEPTED:
                self.ids[name] = int(event["order_id"])
                continue
            if kind == MatchEventKind.FILL:
                liquidity = LiquidityFlag(int(event["liquidity"])).name
                lines.append(f"FILL {name} {event['quantity']}@{price} leaves {event['leaves']} {liquidity}")
            elif kind == MatchEventKind.REPLACED:
                why = f" {reason.name}" if reason else ""
                lines.append(f"REPLACED {name} {event['quantity']}@{price} leaves {event['leaves']}{why}")
            elif kind == MatchEventKind.APPLIED:
                lines.append(f"APPLIED {event['quantity']}@{price}")
            elif kind in (MatchEventKind.CANCELED, MatchEventKind.EXPIRED):
                why = f" {reason.name}" if reason else ""
                lines.append(f"{kind.name} {name} {event['quantity']}{why}")
            elif kind == MatchEventKind.TRIGGERED:
                lines.append(f"TRIGGERED {name} @{price}")
            else:
                lines.append(f"{kind.name} {reason.name}")
        return lines

    def trades(self, lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith("FILL") and not line.endswith("TAKER")]

    def depth(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """(bids, asks) as (price, shown quantity, orders), best first."""
        return self.engine.depth(Side.BUY).tolist(), self.engine.depth(Side.SELL).tolist()
