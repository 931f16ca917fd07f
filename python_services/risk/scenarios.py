"""Stress scenarios as data: what a file may say, checked on reading. Pure but for reading the file.

Every error is a ConfigError that names the file, the field and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from python_services.kit.config import ConfigError

BUNDLED = "bundled:"
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, kw_only=True)
class Historical:
    """A stretch of history happens again: from the close before `start` to the close of `end`."""

    start: date
    end: date

    @property
    def start_ns(self) -> int:
        """Midnight UTC at the start of the first day."""
        return _midnight_ns(self.start)

    @property
    def end_ns(self) -> int:
        """Midnight UTC at the end of the last day."""
        return _midnight_ns(self.end) + DAY_NS


@dataclass(frozen=True, kw_only=True)
class Hypothetical:
    """Given simple returns; an instrument's own counts before its sector's, that before `all`."""

    all: float | None = None
    sectors: Mapping[str, float] = field(default_factory=dict)
    instruments: Mapping[str, float] = field(default_factory=dict)

    def move(self, instrument: str, sector: str) -> float:
        """Return of one instrument."""
        return self.instruments.get(instrument, self.sectors.get(sector, self.all or 0.0))


@dataclass(frozen=True, kw_only=True)
class Covariance:
    """Volatilities times a factor; each correlation goes a share of its way to one."""

    volatility_factor: float = 1.0
    correlation_to_one: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reverse:
    """The likeliest market that loses this share of equity."""

    loss: float


Kind: TypeAlias = Historical | Hypothetical | Covariance | Reverse


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One scenario."""

    name: str
    description: str
    kind: Kind


def load(name: str) -> tuple[Scenario, ...]:
    """Reads a file, or "bundled:NAME". Raises ConfigError."""
    try:
        if name.startswith(BUNDLED):
            body = files(__package__).joinpath(name.removeprefix(BUNDLED)).read_text(encoding="utf-8")
        else:
            body = Path(name).read_text(encoding="utf-8")
        document = yaml.load(body, Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"report.stress: cannot read {name}: {error}; correct the path") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: no YAML: {error}") from error
    return parse(document, name)


def parse(document: Any, where: str) -> tuple[Scenario, ...]:
    """Scenarios of a document read from `where`. Raises ConfigError."""
    listed = _keys(document, where, required=("scenarios",))["scenarios"]
    if not isinstance(listed, list):
        raise ConfigError(f"{where}: scenarios: expected a list, got {listed!r}")
    found = tuple(_scenario(item, f"{where}: scenarios[{i}]") for i, item in enumerate(listed))
    seen: set[str] = set()
    for i, scenario in enumerate(found):
        if scenario.name in seen:
            raise ConfigError(f"{where}: scenarios[{i}].name: {scenario.name!r} is there twice; use another name")
        seen.add(scenario.name)
    return found


def check_instruments(scenarios: tuple[Scenario, ...], known: Collection[str], where: str) -> None:
    """Refuses moves of instruments that market_data does not list. Raises ConfigError."""
    for i, scenario in enumerate(scenarios):
        if isinstance(scenario.kind, Hypothetical):
            for name in scenario.kind.instruments:
                if name not in known:
                    raise ConfigError(
                        f"{where}: scenarios[{i}].hypothetical.instruments.{name}: market_data lists no such "
                        f"instrument; correct the name or leave it out"
                    )


def _scenario(item: Any, where: str) -> Scenario:
    kinds: dict[str, Callable[[Any, str], Kind]] = {
        "historical": _historical,
        "hypothetical": _hypothetical,
        "covariance": _covariance,
        "reverse": _reverse,
    }
    keys = _keys(item, where, required=("name",), optional=("description", *kinds))
    for key in ("name", "description"):
        if not isinstance(keys.get(key, ""), str) or (key == "name" and not keys[key]):
            raise ConfigError(f"{where}.{key}: expected a text, got {keys[key]!r}")
    given = [key for key in keys if key in kinds]
    if len(given) != 1:
        raise ConfigError(f"{where}: give exactly one of {', '.join(kinds)}, not {len(given)}")
    kind = kinds[given[0]](keys[given[0]], f"{where}.{given[0]}")
    return Scenario(name=keys["name"], description=keys.get("description", ""), kind=kind)


def _historical(item: Any, where: str) -> Historical:
    keys = _keys(item, where, required=("start", "end"))
    for key, value in keys.items():
        if not isinstance(value, date) or isinstance(value, datetime):
            raise ConfigError(f"{where}.{key}: expected a day such as 2008-09-15, got {value!r}")
    if keys["end"] < keys["start"]:
        raise ConfigError(f"{where}.end: {keys['end']} is before start {keys['start']}; exchange them")
    return Historical(start=keys["start"], end=keys["end"])


def _hypothetical(item: Any, where: str) -> Hypothetical:
    keys = _keys(item, where, optional=("all", "sectors", "instruments"))
    if not keys:
        raise ConfigError(f"{where}: no move is given; give all, sectors or instruments")
    moves = {
        key: {
            name: _number(value, f"{where}.{key}.{name}", at_least=-1.0, at_most=10.0)
            for name, value in _entries(keys[key], f"{where}.{key}")
        }
        for key in ("sectors", "instruments")
        if key in keys
    }
    everything = _number(keys["all"], f"{where}.all", at_least=-1.0, at_most=10.0) if "all" in keys else None
    return Hypothetical(all=everything, **moves)


def _covariance(item: Any, where: str) -> Covariance:
    keys = _keys(item, where, optional=("volatility_factor", "correlation_to_one"))
    if not keys:
        raise ConfigError(f"{where}: no change is given; give volatility_factor or correlation_to_one")
    bounds = {"volatility_factor": (0.01, 100.0), "correlation_to_one": (0.0, 1.0)}
    return Covariance(
        **{
            key: _number(value, f"{where}.{key}", at_least=bounds[key][0], at_most=bounds[key][1])
            for key, value in keys.items()
        }
    )


def _reverse(item: Any, where: str) -> Reverse:
    keys = _keys(item, where, required=("loss",))
    return Reverse(loss=_number(keys["loss"], f"{where}.loss", at_least=0.0001, at_most=10.0))


def _keys(item: Any, where: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> dict[str, Any]:
    found = dict(_entries(item, where))
    known = (*required, *optional)
    for key in found:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; known keys are {', '.join(known)}")
    for key in required:
        if key not in found:
            raise ConfigError(f"{where}: missing key {key!r}; add it")
    return found


def _entries(item: Any, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(item, Mapping) or not all(isinstance(key, str) for key in item):
        raise ConfigError(f"{where}: expected a mapping, got {item!r}")
    yield from item.items()


def _number(value: Any, where: str, *, at_least: float, at_most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not at_least <= value <= at_most:
        raise ConfigError(f"{where}: expected a number from {at_least:g} to {at_most:g}, got {value!r}")
    return float(value)


def _midnight_ns(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000_000
