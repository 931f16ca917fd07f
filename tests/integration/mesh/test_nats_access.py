"""Who may do what on the event log, tried on real servers: every user, every stream, every subject."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import orjson
import pytest

from alphamesh.execution.v1 import events_pb2
from mesh import topology
from mesh.identity import Authority
from mesh.nats import NatsServers
from mesh.process import Process
from mesh.rundir import RunDir
from python_services.kit import subjects
from python_services.kit.connections import connect
from python_services.kit.eventlog import DeclaredReads, EventLogError, LocalEventLog
from python_services.kit.jetstream import NatsEventLog
from python_services.kit.journal import Event, Journal

MESH = topology.load()
STREAMS = sorted(MESH.event_log.streams)
USERS = [*MESH.services, *(client for client in MESH.clients if client.reads)]
PATIENCE_S = 30


@asynccontextmanager
async def running(run: RunDir, mesh: topology.Topology) -> AsyncIterator[NatsServers]:
    """The event log of a topology, without its services."""
    servers, processes = NatsServers(run, mesh), []
    try:
        for node in servers.nodes:
            process = await Process.start(node.name, node.command(), run.log(node.name), dict(os.environ))
            processes.append(process)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(node.ready() for node in servers.nodes))
            await servers.declare()
        yield servers
    finally:
        for process in processes:
            process.kill()
            await process.wait()


@pytest.fixture
async def servers(run: RunDir) -> AsyncIterator[NatsServers]:
    async with running(run, MESH) as started:
        yield started


def attempts() -> set[str]:
    """Subjects that somebody may want to publish to: what anybody is allowed, and what nobody is."""
    tried = {"alphamesh.events", "alphamesh.journal.execution", "elsewhere", "$JS.API.INFO", "$JS.API.STREAM.NAMES"}
    for stream in STREAMS:
        name = subjects.jetstream_name(stream)
        tried |= {subject.replace("*", "mine") for subject in (*subjects.to_write(stream), *subjects.to_read(stream))}
        tried |= {f"$JS.API.STREAM.{verb}.{name}" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE")}
        tried |= {f"$JS.API.STREAM.{verb}.{name}" for verb in ("SNAPSHOT", "RESTORE", "LEADER.STEPDOWN")}
        tried |= {f"$JS.API.CONSUMER.{verb}.{name}" for verb in ("LIST", "NAMES")}
        tried |= {f"$JS.API.CONSUMER.DURABLE.CREATE.{name}.mine", f"$JS.API.CONSUMER.CREATE.{name}.mine.subject"}
    return tried


def expected(user: topology.Service | topology.Client) -> set[str]:
    """What the topology gives a user: its own stream to write, and those that it reads."""
    allowed = set(subjects.to_write(user.name)) if user.name in STREAMS else set()
    for stream in user.reads:
        allowed |= {subject.replace("*", "mine") for subject in subjects.to_read(stream)}
    return allowed


def lower(names: set[str]) -> set[str]:
    """In lower case."""
    return {name.lower() for name in names}


async def refused(address: str, publish: set[str], subscribe: set[str]) -> tuple[set[str], set[str]]:
    """Which of these the servers refuse, in lower case: the client does not tell it otherwise."""
    said: list[str] = []

    async def note(error: Exception) -> None:
        said.append(str(error))

    client = await connect(address, "test", error_cb=note)
    try:
        for subject in sorted(publish):
            await client.publish(subject, b"{}")
        for subject in sorted(subscribe):
            await client.subscribe(subject)
        await client.flush()
        await client.flush()
    finally:
        await client.close()
    found = [re.search(r"(?i)permissions violation for (publish|subscription) to \"(\S+)\"", line) for line in said]
    assert all(found), said
    kinds: dict[str, set[str]] = {"publish": set(), "subscription": set()}
    for match in found:
        kinds[match[1].lower()].add(match[2])
    return kinds["publish"], kinds["subscription"]


async def test_a_user_publishes_and_hears_what_the_topology_gives_it_and_nothing_else(servers):
    for user in USERS:
        own = f"_INBOX.{user.name}.answer"
        heard = {own, ">", "_INBOX.>", "_INBOX.other.answer", "alphamesh.events.>", "$JS.API.>", "$SYS.>"}
        tried = attempts()
        publish, subscribe = await refused(servers.url_of(user.name), tried, heard)
        assert lower(tried) - publish == lower(expected(user)), user.name
        assert subscribe == lower(heard - {own}), user.name


async def test_what_is_allowed_is_enough_to_write_a_stream_and_to_read_one(servers, tmp_path):
    await write_and_read(servers, tmp_path)


async def test_a_cluster_asks_the_same(run, tmp_path):
    async with running(run, MESH.with_servers(3)) as servers:
        await write_and_read(servers, tmp_path)
        tried = attempts()
        publish, _ = await refused(servers.url_of("technical_agent"), tried, set())
        assert publish == lower(tried)


async def write_and_read(servers: NatsServers, folder: Path) -> None:
    """As the services do: execution writes, portfolio follows; technical_agent cannot even ask."""
    writer = NatsEventLog(servers.url_of("execution"), "execution")
    await writer.start()
    journal = Journal(folder / "journal.db", "execution", "1", print)
    writer.attach(journal)
    journal.add([Event(payload=events_pb2.AccountOpened(account_id="demo"), ts_event_ns=1, ts_init_ns=1)])
    await journal.commit()
    for name in ("portfolio", "audit", "operator"):
        reader = NatsEventLog(servers.url_of(name), name)
        await reader.start()
        frames = reader.subscribe("execution", 1)
        assert await asyncio.wait_for(anext(frames), PATIENCE_S) == next(iter(journal.read(1)))
        await frames.aclose()
        await reader.close()
    stranger = await connect(servers.url_of("technical_agent"), "technical_agent")
    with pytest.raises(nats.errors.TimeoutError):
        await stranger.jetstream(timeout=0.5).stream_info(subjects.jetstream_name("execution"))
    await stranger.close()
    await writer.close()
    journal.close()


async def test_a_wrong_password_no_password_and_another_authority_are_refused(servers, tmp_path):
    right = servers.url_of("execution")
    password = re.search(r"execution:([^@]+)@", right)[1]
    for wrong in (right.replace(password, "guessed"), right.replace(f"execution:{password}@", "")):
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation|no servers"):
            await connect(wrong, "test", max_reconnect_attempts=1, reconnect_time_wait=0.01)
    other, said = tmp_path / "other.pem", []
    other.write_text(Authority(tmp_path / "other").trust)

    async def note(error: Exception) -> None:
        said.append(repr(error))

    with pytest.raises((TimeoutError, nats.errors.Error)):  # it tries for ever
        async with asyncio.timeout(2):
            await connect(f"{right.partition('?')[0]}?authority={other}", "test", error_cb=note)
    assert any("CERTIFICATE_VERIFY_FAILED" in line for line in said)


async def test_it_speaks_no_plaintext(servers):
    def plain() -> bytes:
        with socket.create_connection(("127.0.0.1", servers.nodes[0].port), timeout=10) as connection:
            greeting = orjson.loads(connection.recv(65536).removeprefix(b"INFO "))
            assert greeting["tls_required"] is True
            login = re.search(r"//(\w+):([^@]+)@", servers.url_of("execution"))
            options = {"user": login[1], "pass": login[2], "verbose": True}
            connection.sendall(b"CONNECT " + orjson.dumps(options) + b"\r\nPING\r\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
            return answer

    answer = await asyncio.to_thread(plain)
    assert b"PONG" not in answer
    assert b"+OK" not in answer


async def test_a_stream_that_is_not_in_reads_is_an_error_with_a_remedy():
    log = DeclaredReads(LocalEventLog(), "portfolio", ["execution"])
    with pytest.raises(EventLogError, match="portfolio reads the stream 'venue', which the topology does not let it"):
        await log.open("venue", 1)
    with pytest.raises(EventLogError, match="add it under `reads` of portfolio"):
        log.subscribe("venue", 1)


def test_the_real_topology_gives_nobody_a_stream_for_nothing():
    reads = {user.name: set(user.reads) for user in USERS if user.reads}
    everything = set(STREAMS)
    assert reads == {
        "feature_store": {"market_data"},
        "portfolio": {"execution"},
        "risk": {"execution"},
        "sentiment_agent": {"market_data"},  # texts, to score them before they are asked about
        "audit": everything,
        "operator": everything,
    }
