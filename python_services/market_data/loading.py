"""From configured paths to a data set."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np

from python_services.kit import facts

from . import dataset, instruments, reading
from .config import Config
from .dataset import Dataset
from .facts import CompanyFacts
from .findings import DatasetError
from .reading import Rows


def load(config: Config) -> Dataset:
    """Reads and checks all files. Raises DatasetError or ConfigError; nothing is loaded then."""
    description = reading.read_bytes(config.instruments_path())
    specs, session = instruments.parse(description, str(config.instruments_path()))
    names = tuple(spec.instrument_id for spec in specs)
    where = tuple(str(path) for path in config.dataset_paths())
    digest, parts = hashlib.sha256(), []
    for number, path in enumerate(config.dataset_paths()):
        body = reading.read_bytes(path)
        digest.update(hashlib.sha256(body).digest())
        parts.append(reading.parse(body, where[number], names, number))
    digest.update(hashlib.sha256(description).digest())
    facts_path = config.facts_path()
    if facts_path is not None:
        digest.update(hashlib.sha256(reading.read_bytes(facts_path)).digest())
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)}
    return dataset.build(Rows(**columns), specs, session, sha256=digest.hexdigest(), where=where)


def load_facts(config: Config, held: Dataset) -> CompanyFacts | None:
    """The company facts of instruments that are listed; None without a file. Raises ConfigError naming file and line.

    Facts are in US dollars, and nothing converts them: those of an instrument in another currency are refused.
    """
    path = config.facts_path()
    if path is None:
        return None
    currency = {spec.instrument_id: spec.currency_code for spec in held.instruments}
    found = [fact for fact in facts.parse(facts.read_bytes(path), str(path)) if fact.instrument_id in currency]
    for name in sorted({fact.instrument_id for fact in found}):
        if currency[name] != facts.CURRENCY:
            problem = f"facts of {name} are in {facts.CURRENCY}, and it trades in {currency[name]}"
            raise DatasetError("FACTS_CURRENCY", str(path), problem, "leave its rows out")
    return CompanyFacts(found)
