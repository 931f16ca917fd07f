"""Names of methods, "package.Service/Method" or "package.Service/*", and the contracts that have them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable

from google.protobuf import descriptor_pool


def streamed(methods: Iterable[str]) -> list[str]:
    """Those of `methods`, and of the services that they name with *, whose request is a stream."""
    found = []
    for method in methods:
        service, _, name = method.partition("/")
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        found += [f"{service}/{m.name}" for m in descriptor.methods if m.client_streaming and name in ("*", m.name)]
    return list(dict.fromkeys(found))


def unknown_method(method: str) -> str:
    """Why `method` is none that a contract has; empty when it is one."""
    service, slash, name = method.partition("/")
    if not slash:
        return f"{method!r} is not of the form package.Service/Method"
    _import_contracts(service.rpartition(".")[0])
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return f"no contract has a service {service!r}"
    if name != "*" and name not in descriptor.methods_by_name:
        return f"{service} has no method {name!r}; it has {', '.join(sorted(descriptor.methods_by_name))}"
    return ""


@functools.cache
def _import_contracts(package: str) -> None:
    """Makes the generated messages of one proto package known to the descriptor pool."""
    if package != "inference" and not package.startswith(("alphamesh.", "grpc.")):
        return
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        return  # the caller names the service that does not exist
    for found in pkgutil.iter_modules(module.__path__):
        if found.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{found.name}")
