"""From configured paths to a data set."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np

from . import dataset, instruments, reading
from .config import Config
from .dataset import Dataset
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
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)}
    return dataset.build(Rows(**columns), specs, session, sha256=digest.hexdigest(), where=where)
