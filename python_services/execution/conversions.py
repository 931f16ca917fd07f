"""Exchanging cash of one currency for another, at the rate of the account's last valuation. Pure."""

from __future__ import annotations

from alphamesh.execution.v1 import events_pb2
from alphamesh.type.v1 import money_pb2
from python_services.kit import convert
from python_services.kit.currency import rate_missing
from python_services.kit.errors import invalid, precondition

from .account import Account

PPM = 1_000_000


def bought_e9(account: Account, event: events_pb2.CurrencyConverted) -> int:
    """What a conversion brings: the sum at the rate it states, less the spread, rounded down once."""
    marks = {event.rate_instrument_id: event.rate_e9}
    rate = account.pairs.rate(event.sold.currency_code, event.bought.currency_code, marks)
    if rate is None:
        raise rate_missing(event.sold.currency_code, event.bought.currency_code)
    kept = PPM - event.spread_ppm
    return convert.money_e9(event.sold) * rate.numerator * kept // (rate.denominator * PPM)


def covers_debt(account: Account, event: events_pb2.CurrencyConverted) -> bool:
    """Whether all that it brings (before it is booked) goes against a debt: that may cost what is not free."""
    books = account.books.get(event.bought.currency_code)
    return books is not None and books.cash_e9 + convert.money_e9(event.bought) <= 0


def plan(
    account: Account, sell: money_pb2.Money, buy: str, *, spread_ppm: int, now_ns: int
) -> events_pb2.CurrencyConverted:
    """The conversion as an event. Raises ServiceError for one that must not be: see ConvertCurrency."""
    amount, currency = convert.money_e9(sell), sell.currency_code
    if amount <= 0:
        raise invalid("sell", "is not above zero", "state what to give")
    if currency == buy:
        raise invalid("buy_currency_code", f"{buy} is what is sold", "name another currency")
    pair = account.pairs.between(currency, buy)
    if pair is None or pair not in account.rate_ts:
        raise rate_missing(currency, buy)
    account.rate(buy)  # what cannot be valued cannot be held
    rate_ts, longest = account.rate_ts[pair], account.gate.price_max_age_ns
    if longest is not None and now_ns - rate_ts > longest:
        raise precondition(
            "CURRENCY_RATE_STALE",
            f"the rate of {pair} is {(now_ns - rate_ts) / 1e9:.0f} s old, the limit is {longest / 1e9:.0f} s; "
            "value the account at a later snapshot",
            instrument_id=pair,
        )
    held = account.books[currency].cash_e9 if currency in account.books else 0
    if amount > held:
        raise precondition(
            "INSUFFICIENT_BALANCE",
            f"{currency} {convert.decimal(amount)} is more than the {convert.decimal(held)} that are there; sell less",
            currency_code=currency,
        )
    event = events_pb2.CurrencyConverted(
        account_id=account.account_id,
        sold=sell,
        rate_instrument_id=pair,
        rate_e9=account.marks[pair],
        rate_ts_ns=rate_ts,
        spread_ppm=spread_ppm,
    )
    event.bought.currency_code = buy
    event.bought.CopyFrom(convert.money(bought_e9(account, event), buy))
    if covers_debt(account, event):
        return event
    cost = account.rate(currency).cost(amount) - account.rate(buy).worth(convert.money_e9(event.bought))
    # Each currency's cash is rounded once: by less than a nano unit before, and after.
    free = account.cash_e9 - account.gate.reserved_cash - cost - 2
    if free < 0:
        raise precondition(
            "INSUFFICIENT_FUNDS",
            f"the conversion costs {convert.decimal(cost)} {account.currency}, and reservations need all cash that is "
            "left; sell less, or release reservations",
        )
    return event
