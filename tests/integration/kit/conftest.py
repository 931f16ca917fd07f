"""Real stores for the journal's tests: SQLite files, a throw-away PostgreSQL, a NATS cluster of three."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers import NatsCluster, PostgresServer, missing

from .journals import JetStreamPlace, Place, PostgresPlace, SqlitePlace

_numbers = itertools.count(1)
DRIVERS = ("sqlite", "postgres", "jetstream")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if reason := missing():
        pytest.skip(reason)
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[NatsCluster]:
    servers = NatsCluster()
    yield servers
    servers.close()


@pytest.fixture(params=DRIVERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A new stream on each driver in turn."""
    return new_place(request, request.param, tmp_path)


@pytest.fixture(params=[driver for driver in DRIVERS if driver != "jetstream"])
def open_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The same, on the drivers whose stored bytes can be changed from outside."""
    return new_place(request, request.param, tmp_path)


def new_place(request: pytest.FixtureRequest, driver: str, folder: Path) -> Place:
    stream = f"ledger{next(_numbers)}"
    if driver == "sqlite":
        return SqlitePlace("sqlite", folder, stream)
    if driver == "postgres":
        return PostgresPlace(request.getfixturevalue("postgres").dsn, folder, stream)
    return JetStreamPlace(request.getfixturevalue("cluster").url, folder, stream)
