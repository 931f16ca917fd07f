"""The instruments file: what can be traded, and when its session opens and closes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from python_services.kit import config as configuration

from .findings import DatasetError

NANO = 1_000_000_000
_CLOCK = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)$")
_CURRENCY = re.compile(r"^[A-Z]{3}$")
_ID_LIMIT = 64


@dataclass(frozen=True, kw_only=True)
class Session:
    """The regular session of one trading day, in the exchange's own time."""

    timezone: str = "America/New_York"
    open: str = "09:30"
    close: str = "16:00"

    def __post_init__(self) -> None:
        for name, value in (("open", self.open), ("close", self.close)):
            if not _CLOCK.match(value):
                raise ValueError(f'{name}: {value!r} is not a time of day; write it as "HH:MM"')
        if self.open >= self.close:
            raise ValueError(f"open {self.open} is not before close {self.close}; correct them")
        self.zone()

    def zone(self) -> ZoneInfo:
        """The time zone."""
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is not known here; use a name like America/New_York, "
                "or install the zone database with `pip install tzdata`"
            ) from error


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One instrument as it is written down: every value is text, so that no number becomes a float."""

    instrument_id: str
    currency_code: str
    price_increment: str
    size_increment: str
    display_name: str = ""
    multiplier: str = "1"
    sector: str = ""
    base_currency_code: str = ""


@dataclass(frozen=True, kw_only=True)
class InstrumentSpec:
    """What is fixed about an instrument. Increments and multiplier in nano units.

    A currency pair has a `base_currency_code`: its price is the rate of that currency in `currency_code`.
    """

    instrument_id: str
    display_name: str
    currency_code: str
    price_increment_e9: int
    size_increment_e9: int
    multiplier_e9: int
    sector: str
    base_currency_code: str = ""


def parse(body: bytes, where: str) -> tuple[tuple[InstrumentSpec, ...], Session]:
    """Instruments ordered by id, and their session.

    Raises DatasetError (CORRUPT_FILE, EMPTY_UNIVERSE, BAD_VALUE) or ConfigError for unknown and missing keys.
    """
    try:
        # The base loader keeps every scalar as text.
        document: Any = yaml.load(body, Loader=yaml.CBaseLoader)
    except yaml.YAMLError as error:
        raise DatasetError("CORRUPT_FILE", where, f"is not YAML: {error}", "see docs/data.md for the format") from error
    if not isinstance(document, Mapping) or not isinstance(document.get("instruments"), list):
        raise DatasetError("CORRUPT_FILE", where, "has no list `instruments`", "see docs/data.md for the format")
    unknown = sorted(set(document) - {"instruments", "session"})
    if unknown:
        raise DatasetError("BAD_VALUE", where, f"unknown key {unknown[0]!r}", "known keys are instruments, session")
    session = configuration.load(Session, document.get("session") or {}, where=f"{where}: session")
    specs: dict[str, InstrumentSpec] = {}
    pairs: set[frozenset[str]] = set()
    for number, raw in enumerate(document["instruments"]):
        place = f"{where}: instruments[{number}]"
        if not isinstance(raw, Mapping):
            raise DatasetError("BAD_VALUE", place, "is not a mapping", "see docs/data.md for its keys")
        spec = _spec(configuration.load(_Entry, raw, where=place), place)
        if spec.instrument_id in specs:
            raise DatasetError("BAD_VALUE", place, f"{spec.instrument_id} is listed twice", "remove one of the two")
        specs[spec.instrument_id] = spec
        if spec.base_currency_code:
            pair = frozenset((spec.base_currency_code, spec.currency_code))
            if pair in pairs:
                raise DatasetError("BAD_VALUE", place, f"a second pair of {' and '.join(sorted(pair))}", "keep one")
            pairs.add(pair)
    if not specs:
        raise DatasetError("EMPTY_UNIVERSE", where, "lists no instrument", "add at least one under `instruments`")
    return tuple(specs[name] for name in sorted(specs)), session


def _spec(entry: _Entry, where: str) -> InstrumentSpec:
    if not 0 < len(entry.instrument_id) <= _ID_LIMIT:
        raise DatasetError(
            "BAD_VALUE", where, f"instrument_id {entry.instrument_id!r}", f"use 1 to {_ID_LIMIT} characters"
        )
    if not _CURRENCY.match(entry.currency_code):
        raise DatasetError("BAD_VALUE", where, f"currency_code {entry.currency_code!r}", "use an ISO 4217 code")
    base = entry.base_currency_code
    if base and (not _CURRENCY.match(base) or base == entry.currency_code):
        raise DatasetError("BAD_VALUE", where, f"base_currency_code {base!r}", "use another ISO 4217 code, or leave it")
    return InstrumentSpec(
        instrument_id=entry.instrument_id,
        display_name=entry.display_name or entry.instrument_id,
        currency_code=entry.currency_code,
        price_increment_e9=_nano(entry.price_increment, f"{where}.price_increment"),
        size_increment_e9=_nano(entry.size_increment, f"{where}.size_increment"),
        multiplier_e9=_nano(entry.multiplier, f"{where}.multiplier"),
        sector=entry.sector,
        base_currency_code=base,
    )


def _nano(text: str, where: str) -> int:
    try:
        scaled = Decimal(text) * NANO
    except InvalidOperation as error:
        raise DatasetError("BAD_VALUE", where, f"{text!r} is not a number", "write a decimal like 0.01") from error
    if not scaled.is_finite() or scaled <= 0 or scaled != int(scaled) or scaled >= 2**63:
        raise DatasetError(
            "BAD_VALUE", where, f"{text!r} is not a positive decimal of at most nine places", "write one like 0.01"
        )
    return int(scaled)
