"""The benchmark flow of ../matching.py through liquibook (C++); runs in its own environment.

Usage: python matching_liquibook.py FLOW; prints {"ns": CPU nanoseconds a command, "trades": digest}.
Fills come through a listener, the only way in which it tells of them.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import hashlib
import json
import sys
import time
from array import array

import liquibook
from matching_flow import load

NEW = 1


class Listener(liquibook.OrderListener):
    def __init__(self):
        liquibook.OrderListener.__init__(self)
        self.fills = []

    def on_fill(self, taker, maker, quantity, price):
        self.fills.append((price, quantity))

    def on_accept(self, order):
        pass

    def on_reject(self, order, reason):
        pass

    def on_cancel(self, order):
        pass

    def on_cancel_reject(self, order, reason):
        pass


def main():
    rows = load(sys.argv[1])
    book = liquibook.DepthOrderBook()
    listener = Listener()
    book.set_order_listener(listener)
    orders = {}
    started = time.process_time_ns()
    for number, (kind, side, price, quantity, immediate, target) in enumerate(rows):
        if kind == NEW:
            order = liquibook.SimpleOrder(side == 1, price, quantity)
            orders[number] = order
            book.add(order, liquibook.oc_immediate_or_cancel if immediate else liquibook.oc_no_conditions)
        else:
            book.cancel(orders[target])
    elapsed = time.process_time_ns() - started
    trades = array("q", [value for fill in listener.fills for value in fill])
    digest = hashlib.sha256(trades.tobytes()).hexdigest()
    print(json.dumps({"ns": elapsed / len(rows), "trades": digest}))


main()
