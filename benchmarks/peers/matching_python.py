"""The benchmark flow of ../matching.py through a plain Python engine on sortedcontainers.

Usage: python matching_python.py FLOW.npz; prints {"ns": CPU nanoseconds a command, "trades": digest}.
Price levels are a SortedDict of deques; a cancel marks its order and the match skips it.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import hashlib
import json
import sys
import time
from array import array
from collections import deque

from matching_flow import load
from sortedcontainers import SortedDict

NEW = 1


class Order:
    __slots__ = ("leaves", "number", "price")

    def __init__(self, number, price, leaves):
        self.number = number
        self.price = price
        self.leaves = leaves


class Engine:
    """Limit orders, good till canceled or immediate, and cancels; events are tuples in a list."""

    def __init__(self):
        self.bids = SortedDict()  # by minus the price, so that the first level is the best one
        self.asks = SortedDict()
        self.orders = {}
        self.events = []

    def submit(self, number, side, price, quantity, immediate):
        events = self.events
        events.append(("ACCEPTED", number, price, quantity))
        if side == 1:
            own, other, limit, key = self.bids, self.asks, price, -price
        else:
            own, other, limit, key = self.asks, self.bids, -price, price
        while quantity and other:
            best, queue = other.peekitem(0)
            if best > limit:
                break
            while quantity and queue:
                maker = queue[0]
                if not maker.leaves:
                    queue.popleft()
                    continue
                traded = min(quantity, maker.leaves)
                quantity -= traded
                maker.leaves -= traded
                events.append(("FILL", maker.number, maker.price, traded, maker.leaves))
                events.append(("FILL", number, maker.price, traded, quantity))
                if not maker.leaves:
                    queue.popleft()
                    del self.orders[maker.number]
            if not queue:
                del other[best]
        if not quantity:
            return
        if immediate:
            events.append(("CANCELED", number, price, quantity))
            return
        order = Order(number, price, quantity)
        self.orders[number] = order
        queue = own.get(key)
        if queue is None:
            own[key] = deque((order,))
        else:
            queue.append(order)

    def cancel(self, number):
        order = self.orders.pop(number, None)
        if order is None:
            self.events.append(("CANCEL_REJECTED", number))
            return
        self.events.append(("CANCELED", number, order.price, order.leaves))
        order.leaves = 0


def main():
    rows = load(sys.argv[1])
    engine = Engine()
    started = time.process_time_ns()
    for number, (kind, side, price, quantity, immediate, target) in enumerate(rows):
        if kind == NEW:
            engine.submit(number, side, price, quantity, immediate)
        else:
            engine.cancel(target)
    elapsed = time.process_time_ns() - started
    fills = [event for event in engine.events if event[0] == "FILL"][::2]
    trades = array("q", [value for event in fills for value in (event[2], event[3])])
    digest = hashlib.sha256(trades.tobytes()).hexdigest()
    print(json.dumps({"ns": elapsed / len(rows), "trades": digest}))


main()
