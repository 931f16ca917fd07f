"""`alphamesh replay`: the same session again, event for event, or the first difference, or a clear refusal."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.decision.v1 import decision_pb2
from alphamesh.decision.v1 import events_pb2 as decisions
from alphamesh.execution.v1 import events_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh import session as sessions
from mesh import topology
from mesh.rundir import RunDir
from python_services.kit.journal import event_hash
from python_services.local import LocalSystem
from tests.chaos.session import interrupted

from .conftest import ALPHAMESH, Run, alphamesh, run_session

RANGE = ("--start", "2009-07-01", "--end", "2009-08-14")
E9 = 10**9
HOUR_NS = 3_600 * E9
Envelope = event_pb2.EventEnvelope


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short session over the local transport."""
    return run_session(tmp_path_factory.mktemp("recorded"), "--local", *RANGE)


def replay(path: Path) -> tuple[int, dict[str, Any]]:
    """(exit code, what --json prints)."""
    done = alphamesh("replay", path, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def altered(recorded: Run, folder: Path, stream: str, change: Callable[[list[Envelope]], list[Envelope]]) -> Path:
    """A copy of a run in which the events of one stream are others; one frame for each."""
    copy = folder / "run"
    shutil.copytree(recorded.data_dir, copy, symlinks=True)
    database = sqlite3.connect(copy / "data" / stream / "journal.db")
    rows = database.execute("SELECT body FROM frame ORDER BY first_seq").fetchall()
    events = [event for (body,) in rows for event in event_pb2.EventFrame.FromString(body).events]
    database.execute("DELETE FROM frame")
    for event in change(events):
        frame = event_pb2.EventFrame(stream=stream, first_seq=event.seq, count=1, events=[event])
        frame.prev_hash, frame.sha256 = event.prev_hash, event.hash
        database.execute("INSERT INTO frame VALUES (?, 1, ?)", (event.seq, frame.SerializeToString()))
    database.commit()
    database.close()
    return copy


def relinked(events: list[Envelope]) -> list[Envelope]:
    """A chain that holds again: whoever altered it knew how."""
    for before, event in zip([None, *events], events, strict=False):
        event.prev_hash = before.hash if before is not None else bytes(32)
        event.hash = event_hash(event)
    return events


def better_price(events: list[Envelope]) -> list[Envelope]:
    """The first fill is a cent better."""
    first = next(event for event in events if event.schema.endswith("OrderFilled"))
    filled = events_pb2.OrderFilled.FromString(first.payload)
    filled.fill.price_e9 -= 10_000_000
    first.payload = filled.SerializeToString(deterministic=True)
    return events


def test_a_session_comes_out_the_same_event_for_event(recorded: Run) -> None:
    before = {path: path.read_bytes() for path in recorded.data_dir.rglob("journal.db")}
    code, content = replay(recorded.data_dir)
    assert (code, content["equal"], content["difference"]) == (0, True, None)
    assert content["streams"].keys() >= {"market_data", "venue", "execution", "portfolio", "risk", "coordinator"}
    for counts in content["streams"].values():
        assert counts["recorded"] == counts["replayed"] == counts["equal"] > 0
    assert content["session_id"] == recorded.report["session"]["session_id"]
    assert {path: path.read_bytes() for path in recorded.data_dir.rglob("journal.db")} == before
    shown = alphamesh("replay", recorded.data_dir)
    assert shown.returncode == 0
    assert "came out the same, hash for hash" in shown.stdout
    assert "cycle 32/32" in shown.stdout  # how far it is


def test_a_session_of_processes_that_was_killed_replays_too(tmp_path: Path) -> None:
    """All that was durable before it was told is the same; assessments that were not are named as lost."""
    found = interrupted(tmp_path, seed=5, arguments=RANGE, cycles=32)
    code, content = replay(found.data_dir)
    for name, counts in content["streams"].items():
        if name in ("portfolio", "risk"):
            assert content["lost"].get(name, 0) is not None
        else:
            assert counts["equal"] == counts["recorded"] == counts["replayed"], name
    assert code == (1 if content["lost"] else 0)


@pytest.mark.parametrize("hide", [lambda events: events, relinked], ids=["hash as it was", "hashes made again"])
def test_a_tampered_event_is_the_first_difference_with_both_sides(
    recorded: Run, tmp_path: Path, hide: Callable[[list[Envelope]], list[Envelope]]
) -> None:
    path = altered(recorded, tmp_path, "execution", lambda events: hide(better_price(events)))
    code, content = replay(path)
    assert (code, content["equal"]) == (1, False)
    difference = content["difference"]
    fill = recorded.report["trades"][0]
    assert (difference["stream"], difference["recorded"]["schema"].rpartition(".")[2]) == ("execution", "OrderFilled")
    assert difference["recorded"]["payload.fill.client_order_id"] == fill["client_order_id"]
    changed = {line["field"]: (line["recorded"], line["replayed"]) for line in difference["fields"]}
    told, true = changed["payload.fill.price_e9"]
    assert true - told == 10_000_000
    assert set(changed) == {"payload.fill.price_e9", "hash"}
    assert content["lost"] == {"execution": None}
    equal = content["streams"].pop("execution")
    assert difference["seq"] - 1 <= equal["equal"] < equal["recorded"]
    assert all(counts["equal"] == counts["recorded"] for counts in content["streams"].values())
    shown = alphamesh("replay", path)
    assert shown.returncode == 1
    for text in (f"first difference: execution seq {difference['seq']}", "payload.fill.price_e9", str(told), str(true)):
        assert text in shown.stdout, text


def test_an_event_that_was_taken_away_is_missed(recorded: Run, tmp_path: Path) -> None:
    code, content = replay(altered(recorded, tmp_path, "risk", lambda events: events[:-1]))
    assert code == 1
    assert (content["difference"]["stream"], content["difference"]["recorded"]) == ("risk", None)
    assert content["difference"]["replayed"]["seq"] == content["difference"]["seq"]
    counts = content["streams"]["risk"]
    assert counts["equal"] == counts["recorded"] == counts["replayed"] - 1
    assert content["lost"] == {"risk": 1}


def test_other_versions_are_refused_by_name(recorded: Run, tmp_path: Path) -> None:
    def older(events: list[Envelope]) -> list[Envelope]:
        for event in events:
            event.producer_version = "0.0.1"
        return events

    done = alphamesh("replay", altered(recorded, tmp_path, "portfolio", older))
    assert (done.returncode, done.stdout) == (1, "")
    assert "portfolio 0.0.1 (here " in done.stderr
    assert "risk" not in done.stderr


def test_other_data_is_refused_by_name(tmp_path: Path) -> None:
    bars, facts = tmp_path / "bars.csv", tmp_path / "instruments.yaml"
    days = [f"2009-{month:02}-{day:02}" for month in (6, 7) for day in range(1, 29)]
    rows = [f"A,{day},10,11,9,{9 + i % 3},1000,{9 + i % 3}" for i, day in enumerate(days)]
    bars.write_text("\n".join(["instrument_id,date,open,high,low,close,volume,adj_close", *rows, ""]))
    facts.write_text("instruments: [{instrument_id: A, currency_code: USD, price_increment: 1, size_increment: 1}]")
    asked = ("--data", bars, "--instruments-file", facts, "--instruments", "A", "--lookback", "20")
    run = run_session(tmp_path, "--local", *map(str, asked), "--start", "2009-07-01", "--end", "2009-07-28")
    assert replay(run.data_dir)[0] == 0
    bars.write_text(bars.read_text().replace("2009-06-01,10,11", "2009-06-01,10,12"))
    done = alphamesh("replay", run.data_dir)
    assert done.returncode == 1
    assert str(bars) in done.stderr
    assert "the data differs from the recording" in done.stderr
    bars.unlink()
    gone = alphamesh("replay", run.data_dir)
    assert gone.returncode == 1
    assert str(bars) in gone.stderr
    assert "Traceback" not in done.stderr + gone.stderr


def test_a_run_that_is_at_work_is_refused_and_an_unfinished_one_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    data_dir, log = tmp_path / "run", tmp_path / "log"
    with log.open("w") as output:
        command = [ALPHAMESH, "session", "--local", "--data-dir", str(data_dir)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    give_up = time.monotonic() + 60
    while "cycle" not in log.read_text():
        assert time.monotonic() < give_up
        time.sleep(0.02)
    refused = alphamesh("replay", data_dir)
    process.kill()
    process.wait(timeout=10)
    assert refused.returncode == 1
    assert str(process.pid) in refused.stderr
    code, content = replay(data_dir)
    assert (code, content["finished"], content["equal"]) == (0, False, True)
    counts = content["streams"]["coordinator"]
    # Each decision, each agent when it was first heard, the start and the end.
    assert 25 < counts["recorded"] == counts["equal"] < counts["replayed"] == 252 + 22 + 2


def test_a_recording_in_one_file_replays_without_the_run(recorded: Run, tmp_path: Path) -> None:
    file = tmp_path / "session.tar.gz"
    done = alphamesh("archive", file, "--data-dir", recorded.data_dir)
    assert done.returncode == 0, done.stderr
    assert replay(file)[0] == 0
    (tmp_path / "half.tar.gz").write_bytes(file.read_bytes()[:2000])
    for path, named in ((tmp_path / "half.tar.gz", "is no recording"), (tmp_path / "nothing", "holds no run")):
        refused = alphamesh("replay", path)
        assert refused.returncode == 1
        assert named in refused.stderr
        assert "Traceback" not in refused.stderr


def correction(closes: list[int], known_at_ns: int, cents: int) -> marketdata_pb2.IngestBarsRequest:
    """Other closes of AAPL for some days."""
    price = cents * E9 // 100
    request = marketdata_pb2.IngestBarsRequest(request_id=str(uuid.uuid4()), stream="vendor")
    for close in closes:
        request.bars.add(
            instrument_id="AAPL", ts_event_ns=close, ts_open_ns=close - 23_400 * E9, known_at_ns=known_at_ns,
            open_e9=price, high_e9=price, low_e9=price, close_e9=price, volume_e9=E9,
        )  # fmt: skip
    return request


def test_bars_that_came_in_before_and_during_a_session_come_in_again(recorded: Run, tmp_path: Path) -> None:
    closes = [point["ts_ns"] for point in recorded.report["equity_curve"]]
    spec = decision_pb2.SessionSpec()
    journal = sqlite3.connect(recorded.data_dir / "data" / "coordinator" / "journal.db")
    (body,) = journal.execute("SELECT body FROM frame ORDER BY first_seq LIMIT 1").fetchone()
    journal.close()
    first = event_pb2.EventFrame.FromString(body).events[0]
    spec.CopyFrom(decisions.SessionStarted.FromString(first.payload).session.spec)
    run, mesh = RunDir.create(tmp_path / "run"), topology.load()
    for service in mesh.services:
        run.write_config(service, "")
    run.write_state({"topology": str(mesh.path)})

    async def trade() -> int:
        async with LocalSystem(run.path, mesh) as system:
            stub = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
            await stub.IngestBars(correction(closes[:1], closes[3], 20_000))
            await stub.IngestBars(correction(closes[1:2], closes[20] + HOUR_NS, 9_000))
            late: list[asyncio.Task[Any]] = []

            def progress(cycle: decision_pb2.CycleProgress, _session: decision_pb2.Session) -> None:
                if cycle.seq == 10:
                    request = correction(closes[2:5], closes[25] + HOUR_NS, 19_000)
                    late.append(asyncio.ensure_future(stub.IngestBars(request)))

            await sessions.trade(system, spec, progress)
            return (await late[0]).accepted

    assert asyncio.run(trade()) == 3
    run.release()
    code, content = replay(run.path)
    assert (code, content["difference"]) == (0, None)
    assert content["streams"]["market_data"]["equal"] == 1 + 3 + 1 + 32  # loaded, ingested, named, cut
    untouched = alphamesh("decisions", "--data-dir", recorded.data_dir, "--json")
    restated = alphamesh("decisions", "--data-dir", run.path, "--json")
    assert untouched.stdout != restated.stdout  # the corrections were seen by the agents
