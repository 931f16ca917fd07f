"""Uncrossing: the one price of an auction and its trades.

The price is, among the limit prices in the book and the band, the one with the largest executable
volume; then the one with the smallest surplus; then, by market pressure, the highest if every price
left has a surplus of buys, the lowest if every one has a surplus of sells. Otherwise it is the
reference price, kept between the ends of what is left: the highest price with a surplus of buys and
the lowest with a surplus of sells, or the ends of the prices without surplus. Market orders alone
trade at the reference. (Xetra market model, price determination in auctions; Euronext and the LSE
use the same order of rules.) The reference is SET_REFERENCE's, else the last trade, else the middle.
Self-trade prevention does not act in auctions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.crossing import REDUCE_ONLY_WOULD_INCREASE, book_trade, reducible
from execution_core.matching.ladder import next_step
from execution_core.matching.layout import (
    ASKS,
    BIDS,
    ICEBERG,
    LEVEL_BITS,
    MARKET_LIST,
    PRICE_LEVELS,
    REDUCE_ONLY,
)
from execution_core.matching.report import AUCTION, CANCELED, fill, withdraw
from execution_core.matching.store import detach, head, price_at, release
from execution_core.types import NO_PRICE


@kernel
def volume(book: Any, level: int) -> int:
    """Lots in one list, the reserves of icebergs included."""
    total = 0
    slot = head(book, level)
    while slot != 0:
        total += book.orders[slot].leaves + book.orders[slot].hidden
        slot = np.int64(book.orders[slot].next)
    return total


@kernel
def curve(book: Any, ladder: int, descending: bool) -> Any:
    """Prices (ascending) and volumes of a ladder's used levels: two int64 arrays."""
    prices = np.empty(book.live, np.int64)
    volumes = np.empty(book.live, np.int64)
    count = 0
    step = book.best[ladder]
    while step < PRICE_LEVELS:
        prices[count] = price_at(book, ladder, step)
        volumes[count] = volume(book, (ladder << LEVEL_BITS) | step)
        count += 1
        step = next_step(book, ladder, step)
    if descending:
        return prices[:count][::-1].copy(), volumes[:count][::-1].copy()
    return prices[:count].copy(), volumes[:count].copy()


@kernel
def clearing_price(book: Any) -> tuple[int, int]:
    """The auction's price and its executable volume; (NO_PRICE, 0) when nothing can trade."""
    bid_prices, bid_volumes = curve(book, BIDS, True)
    ask_prices, ask_volumes = curve(book, ASKS, False)
    market_buys = volume(book, MARKET_LIST)
    sells = volume(book, MARKET_LIST + 1)
    market_only = min(market_buys, sells)
    buys = market_buys + bid_volumes.sum()
    bid = 0
    ask = 0
    most = 0
    least = 0
    # The ends of the best prices: where their surplus is nil, of buys, and of sells.
    lowest = NO_PRICE
    highest = NO_PRICE
    highest_with_buys = NO_PRICE
    lowest_with_sells = NO_PRICE
    while bid < len(bid_prices) or ask < len(ask_prices):
        if ask == len(ask_prices) or (bid < len(bid_prices) and bid_prices[bid] <= ask_prices[ask]):
            price = bid_prices[bid]
        else:
            price = ask_prices[ask]
        if ask < len(ask_prices) and ask_prices[ask] == price:
            sells += ask_volumes[ask]
            ask += 1
        executable = min(buys, sells)
        surplus = buys - sells
        # Only limits that reach beyond the band were refused; passive ones may lie outside it.
        if book.lower <= price <= book.upper and executable > 0:
            if executable > most or (executable == most and abs(surplus) < least):
                most = executable
                least = abs(surplus)
                lowest = price
                highest_with_buys = NO_PRICE
                lowest_with_sells = NO_PRICE
            if executable == most and abs(surplus) == least:
                highest = price
                if surplus > 0:
                    highest_with_buys = price
                elif surplus < 0 and lowest_with_sells == NO_PRICE:
                    lowest_with_sells = price
        if bid < len(bid_prices) and bid_prices[bid] == price:
            buys -= bid_volumes[bid]
            bid += 1
    reference = book.reference if book.reference != NO_PRICE else book.last
    if most == 0:
        if market_only == 0 or reference == NO_PRICE:
            return NO_PRICE, 0
        return min(max(reference, book.lower), book.upper), market_only
    if least > 0:
        if lowest_with_sells == NO_PRICE:
            return highest_with_buys, most
        if highest_with_buys == NO_PRICE:
            return lowest_with_sells, most
        lowest = highest_with_buys
        highest = lowest_with_sells
    if reference == NO_PRICE:
        reference = (lowest + highest) >> 1
    return min(max(reference, lowest), highest), most


@kernel
def next_at(book: Any, ladder: int, limit: int) -> int:
    """The first order of a side that trades at the auction's price: market orders first; 0 for none."""
    slot = head(book, MARKET_LIST + ladder)
    if slot == 0 and book.best[ladder] <= limit:
        slot = head(book, (ladder << LEVEL_BITS) | book.best[ladder])
    return int(slot)


@kernel
def allowed(book: Any, slot: int) -> int:
    """How much of an order may trade; a reduce-only order that may not trade at all is canceled."""
    order = book.orders[slot]
    total = order.leaves + order.hidden
    if order.flags & REDUCE_ONLY:
        total = min(total, reducible(book, order.account, order.side))
        if total == 0:
            withdraw(book, slot, CANCELED, REDUCE_ONLY_WOULD_INCREASE)
    return int(total)


@kernel
def fill_side(book: Any, slot: int, price: int, traded: int) -> None:
    """Book one side of an auction trade; an iceberg trades from its whole quantity."""
    order = book.orders[slot]
    left = order.leaves + order.hidden - traded
    fill(book, slot, AUCTION, price, traded, left)
    if left == 0:
        detach(book, slot)
        release(book, slot)
        return
    order.leaves = min(book.terms[slot].display, left) if order.type == ICEBERG else left
    order.hidden = left - order.leaves


@kernel
def uncross(book: Any) -> tuple[int, int]:
    """Trade everything that can trade, at the auction's price; returns that price and the volume.

    A reduce-only order that must not trade in full takes volume out of the auction while it runs. What
    then still crosses is priced and traded again, so that no phase ever starts with a crossed book.
    """
    first = NO_PRICE
    done = 0
    while True:
        price, executable = clearing_price(book)
        if executable == 0:
            return first, done
        if first == NO_PRICE:
            first = price
        bid_limit = book.base + PRICE_LEVELS - 1 - price
        ask_limit = price - book.base
        while True:
            buy = next_at(book, BIDS, bid_limit)
            sell = next_at(book, ASKS, ask_limit)
            if buy == 0 or sell == 0:
                break
            traded = allowed(book, buy)
            if traded == 0:
                continue
            traded = min(traded, allowed(book, sell))
            if traded == 0:
                continue
            book.last = price
            done += traded
            book_trade(book, book.orders[sell], book.orders[buy], traded)
            fill_side(book, buy, price, traded)
            fill_side(book, sell, price, traded)
