"""One service alone, without mesh, journal and event log: to try an agent out, and to test it for conformance.

    python -m python_services.kit.standalone MODULE --listen 127.0.0.1:7001 --callee market_data=127.0.0.1:7002

MODULE is what `module:` names in the topology. Addresses are gRPC's: HOST:PORT, or unix:PATH. Without TLS: only for
one machine.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
import uvloop

from . import config as configuration
from . import telemetry
from .client import connect, declared_edge
from .context import Context, ServiceDefinition
from .errors import ServiceError
from .eventlog import LocalEventLog
from .server import MISCONFIGURED, crash, make_server, until_stopped


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m python_services.kit.standalone")
    parser.add_argument("module", help="package of the service, for example python_services.technical_agent")
    parser.add_argument("--listen", required=True, help="HOST:PORT or unix:PATH")
    parser.add_argument("--callee", action="append", default=[], metavar="SERVICE=ADDRESS", help="may be repeated")
    parser.add_argument("--config", default="{}", metavar="JSON", help="the service's configuration")
    arguments = parser.parse_args()
    callees = dict(text.split("=", 1) if "=" in text else parser.error(f"--callee {text}") for text in arguments.callee)
    try:
        definition = importlib.import_module(f"{arguments.module}.service").DEFINITION
    except ModuleNotFoundError as error:
        parser.error(f"no module {error.name}; MODULE is a package with a service.py that has a DEFINITION")
    telemetry.configure(definition.name, definition.version)
    try:
        uvloop.run(_run(definition, arguments.listen, callees, orjson.loads(arguments.config)))
    except (configuration.ConfigError, ServiceError, orjson.JSONDecodeError) as error:
        print(f"{definition.name}: {error}", file=sys.stderr, flush=True)
        sys.exit(MISCONFIGURED)


async def _run(definition: ServiceDefinition[Any], listen: str, callees: dict[str, str], settings: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="alphamesh-") as folder:
        context = Context(
            name=definition.name,
            version=definition.version,
            config=configuration.load(definition.config, settings, where=definition.name),
            data_dir=Path(folder),
            events=LocalEventLog(),
            connect=lambda name: connect(definition.name, name, callees[declared_edge(definition.name, name, callees)]),
            fail=crash,
        )
        await definition.build(context)
        server, status = make_server(context)
        server.add_insecure_port(listen)
        await server.start()
        await until_stopped(context, server, status)


if __name__ == "__main__":
    main()
