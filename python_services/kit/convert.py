"""The only place that knows both the contracts and the core: e9 integers, money, ticks and lots."""

from __future__ import annotations

from alphamesh.type.v1 import money_pb2

from .errors import invalid

NANO = 1_000_000_000
INT64_MAX = 2**63 - 1


def money(amount_e9: int, currency: str) -> money_pb2.Money:
    """Nano units to Money. Python integers: no range is lost."""
    units, nanos = divmod(abs(amount_e9), NANO)
    sign = -1 if amount_e9 < 0 else 1
    return money_pb2.Money(currency_code=currency, units=sign * units, nanos=sign * nanos)


def money_e9(value: money_pb2.Money) -> int:
    """Money to nano units."""
    return value.units * NANO + value.nanos


def to_steps(value_e9: int, increment_e9: int, field: str) -> int:
    """A price to ticks or a quantity to lots.

    Raises ServiceError (INVALID_ARGUMENT) that names the field and the increment when it is off the
    grid: nothing is ever rounded silently.
    """
    steps, rest = divmod(value_e9, increment_e9)
    if rest:
        raise invalid(
            field,
            f"{decimal(value_e9)} is not a multiple of the increment {decimal(increment_e9)}",
            f"use {decimal(steps * increment_e9)} or {decimal((steps + 1) * increment_e9)}",
        )
    return steps


def nearest_steps(value_e9: int, increment_e9: int) -> int:
    """A market price in ticks, off-tick prints rounded half up. For references and bars only, never for
    what a client states: the data's own checks have reported such prints."""
    return (2 * value_e9 + increment_e9) // (2 * increment_e9)


def from_steps(steps: int, increment_e9: int, field: str) -> int:
    """Ticks to a price or lots to a quantity. Raises ServiceError when it leaves int64."""
    value = steps * increment_e9
    if abs(value) > INT64_MAX:
        raise invalid(field, f"{steps} steps of {increment_e9} leave the int64 range", "use a smaller value")
    return value


def notional_e9(price_e9: int, quantity_e9: int, multiplier_e9: int) -> int:
    """Exact notional in nano units; a remainder below a nano unit is an error of the increments.

    price x quantity x multiplier overflows int64 at 100 x 1, so this is Python's big integers.
    """
    value, rest = divmod(price_e9 * quantity_e9 * multiplier_e9, NANO * NANO)
    if rest:
        raise invalid("price_e9", "notional is not a whole number of nano units", "use coarser increments")
    return value


def decimal(value_e9: int) -> str:
    """1_500_000_000 -> "1.5"."""
    units, nanos = divmod(abs(value_e9), NANO)
    text = f"{units}.{nanos:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if value_e9 < 0 else text
