"""The venue's reports against the ledger's books: every approved order reached it once, and nothing else did."""

from __future__ import annotations

from collections.abc import Iterable

from alphamesh.venue.v1 import venue_pb2

from .ledger_check import Book, BrokenError

Kind = venue_pb2.Report.Kind


class VenueBook:
    """What the venue reported, and that it reported it once."""

    def __init__(self) -> None:
        self.seq = 0
        self.accepted: dict[tuple[str, str], int] = {}
        self.trades: dict[str, set[str]] = {}

    def take(self, reports: Iterable[venue_pb2.Report]) -> None:
        """Raises BrokenError for a gap, an order that was entered twice, or a trade that was reported twice."""
        for report in reports:
            if report.seq != self.seq + 1:
                raise BrokenError(f"the venue's report {report.seq} follows {self.seq}")
            self.seq = report.seq
            key = report.account_id, report.client_order_id
            if report.kind == Kind.KIND_ACCEPTED:
                if key in self.accepted:
                    raise BrokenError(
                        f"report {report.seq}: order {report.client_order_id} was entered twice at the venue"
                    )
                self.accepted[key] = report.order.quantity_e9
            elif report.kind == Kind.KIND_FILL:
                trades = self.trades.setdefault(report.account_id, set())
                if report.trade_id in trades:
                    raise BrokenError(f"report {report.seq}: trade {report.trade_id} was reported twice")
                trades.add(report.trade_id)

    def compare(self, account: str, book: Book, rejected: set[str], granted: dict[str, int]) -> None:
        """`granted`: what the ledger approved of each order; `rejected`: those that never reached the venue.

        Only when nothing is under way. Raises BrokenError.
        """
        at_venue = {identifier: quantity for (owner, identifier), quantity in self.accepted.items() if owner == account}
        in_ledger = {identifier: quantity for identifier, quantity in granted.items() if identifier not in rejected}
        if at_venue != in_ledger:
            different = sorted(set(at_venue.items()) ^ set(in_ledger.items()))[:5]
            raise BrokenError(f"account {account}: venue and ledger differ in orders {different}")
        if self.trades.get(account, set()) != book.trades:
            different = sorted(self.trades.get(account, set()) ^ book.trades)[:5]
            raise BrokenError(f"account {account}: venue and ledger differ in trades {different}")
