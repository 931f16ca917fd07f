"""The descriptors of contracts, for reflection: a caller learns from them what it can call, without any file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from google.protobuf import descriptor_pool

from python_services.kit.config import ConfigError


def load(contracts: Iterable[str]) -> None:
    """Makes `contracts`, full names of services, known to the descriptor pool. Raises ConfigError."""
    for contract in contracts:
        package = contract.rpartition(".")[0]
        try:
            module = importlib.import_module(package)
            for found in pkgutil.iter_modules(module.__path__):
                if found.name.endswith("_pb2"):
                    importlib.import_module(f"{package}.{found.name}")
            descriptor_pool.Default().FindServiceByName(contract)
        except (ImportError, KeyError) as error:
            raise ConfigError(f"served: no contract has a service {contract!r}; see protos/ for what exists") from error
