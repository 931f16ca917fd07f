"""`alphamesh log` and `alphamesh verify` on a finished session, whole and damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2

from .conftest import Run, alphamesh

ESCAPE = "\x1b"


def copy_of(run: Run, folder: Path) -> Path:
    """A run of our own to damage."""
    shutil.copytree(run.data_dir, folder / "run", symlinks=True)
    return folder / "run"


def frames_of(data_dir: Path, stream: str) -> list[event_pb2.EventFrame]:
    with closing(sqlite3.connect(data_dir / "data" / stream / "journal.db")) as database, database:
        rows = database.execute("SELECT body FROM frame ORDER BY first_seq").fetchall()
    return [event_pb2.EventFrame.FromString(body) for (body,) in rows]


def replace_frames(data_dir: Path, stream: str, frames: list[event_pb2.EventFrame]) -> None:
    with closing(sqlite3.connect(data_dir / "data" / stream / "journal.db")) as database, database:
        for frame in frames:
            row = (frame.SerializeToString(), frame.first_seq)
            database.execute("UPDATE frame SET body = ? WHERE first_seq = ?", row)


def richer(envelope: event_pb2.EventEnvelope) -> None:
    """Changes one fill: the price is a cent less."""
    filled = events_pb2.OrderFilled.FromString(envelope.payload)
    filled.fill.price_e9 -= 10_000_000
    envelope.payload = filled.SerializeToString(deterministic=True)


def first_fill(frames: list[event_pb2.EventFrame]) -> event_pb2.EventEnvelope:
    return next(e for frame in frames for e in frame.events if e.schema.endswith(".OrderFilled"))


def chain_again(frames: list[event_pb2.EventFrame]) -> None:
    """Makes every link good again, as somebody would who wants not to be noticed."""
    last_event = last_frame = bytes(32)
    for frame in frames:
        for envelope in frame.events:
            envelope.prev_hash = last_event
            envelope.ClearField("hash")
            last_event = envelope.hash = sha256(envelope)
        frame.prev_hash = last_frame
        frame.ClearField("sha256")
        last_frame = frame.sha256 = sha256(frame)


def sha256(message: Message) -> bytes:
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


def test_every_stream_of_a_finished_session_and_its_copy_are_intact(process_run: Run) -> None:
    done = alphamesh("log", "verify", "--json", "--data-dir", process_run.data_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    streams = {row["stream"]: row for row in json.loads(done.stdout)["streams"]}
    assert set(streams) == {
        "audit",
        "coordinator",
        "execution",
        "feature_store",
        "market_data",
        "model_registry",
        "portfolio",
        "risk",
        "training",
        "venue",
    }
    assert streams["audit"]["events"] == 0, "nobody was refused"
    assert {row["journal"] for row in streams.values()} == {"intact"}
    assert all(row["copy"] == "intact" or row["copy"].startswith("behind") for row in streams.values())
    assert streams["coordinator"]["last_hash"] == process_run.report["final_event_hash"]


def test_an_altered_journal_is_found(local_run: Run, tmp_path: Path) -> None:
    data_dir = copy_of(local_run, tmp_path)
    frames = frames_of(data_dir, "execution")
    fill = first_fill(frames)
    richer(fill)
    replace_frames(data_dir, "execution", frames)
    done = alphamesh("log", "verify", "--data-dir", data_dir)
    assert done.returncode == 1
    assert f"altered event at seq {fill.seq}" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_journal_that_was_rewritten_with_good_hashes_differs_from_its_copy(process_run: Run, tmp_path: Path) -> None:
    data_dir = copy_of(process_run, tmp_path)
    frames = frames_of(data_dir, "execution")
    fill = first_fill(frames)
    recorded = fill.hash.hex()
    richer(fill)
    chain_again(frames)
    replace_frames(data_dir, "execution", frames)
    done = alphamesh("log", "verify", "--stream", "execution", "--json", "--data-dir", data_dir)
    assert done.returncode == 1
    (row,) = json.loads(done.stdout)["streams"]
    assert row["journal"] == "intact"
    assert row["copy"] == f"differs at seq {fill.seq}"
    difference = row["difference"]
    assert difference["seq"] == {"journal": str(fill.seq), "copy": str(fill.seq)}
    assert difference["hash"] == {"journal": fill.hash.hex(), "copy": recorded}
    assert difference["hash computed"] == difference["hash"]
    assert difference["payload"]["journal"] != difference["payload"]["copy"]


def test_every_view_is_what_the_journals_say(process_run: Run) -> None:
    done = alphamesh("verify", "--json", "--data-dir", process_run.data_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    views = {(row["service"], row["view"]): row for row in answer["views"]}
    assert {("portfolio", "ledger"), ("risk", "ledger"), ("audit", "audit")} <= set(views)
    assert views["portfolio", "ledger"]["served_sha256"] == views["risk", "ledger"]["served_sha256"]
    events = sum(len(frame.events) for frame in frames_of(process_run.data_dir, "execution"))
    assert views["portfolio", "ledger"]["events"] == events > 0
    assert views["audit", "audit"]["events"] > events


def test_an_altered_view_is_found(process_run: Run, tmp_path: Path) -> None:
    """The audit log is the view that lives on disk: a record that was changed there is not what its event says."""
    data_dir = copy_of(process_run, tmp_path)
    with sqlite3.connect(data_dir / "data" / "audit" / "index.db") as database:
        database.execute("UPDATE record SET body = (SELECT body FROM record WHERE seq = 2) WHERE seq = 1")
    done = alphamesh("verify", "--data-dir", data_dir)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERENT" in done.stdout


def test_tail_shows_the_last_events_by_market_time(local_run: Run) -> None:
    # What trades has the market's time; what happens to models is not part of the session and has the machine's.
    streams = [option for name in ("coordinator", "execution", "risk") for option in ("--stream", name)]
    done = alphamesh("log", "tail", "-n", "5", *streams, "--json", "--data-dir", local_run.data_dir)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(events) == 5
    assert [event["ts_event_ns"] for event in events] == sorted(event["ts_event_ns"] for event in events)
    assert events[0]["ts_event"] == "2010-06-30T20:00:00Z"
    table = alphamesh("log", "tail", "-n", "5", *streams, "--data-dir", local_run.data_dir)
    assert table.returncode == 0
    assert ESCAPE not in table.stdout  # a pipe gets no colours
    assert all(event["schema"].rpartition(".")[2] in table.stdout for event in events)


def test_filters_choose_streams_types_positions_and_decisions(local_run: Run) -> None:
    def events(*options: str) -> list[dict[str, object]]:
        done = alphamesh("log", "tail", "-n", "100000", "--json", *options, "--data-dir", local_run.data_dir)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    trade = local_run.report["trades"][0]
    fills = events("--type", "OrderFilled")
    assert len(fills) == local_run.report["fills"]
    of_decision = events("--decision", trade["decision_id"])
    assert {event["correlation_id"] for event in of_decision} == {trade["decision_id"]}
    assert {"coordinator", "portfolio", "risk", "execution"} <= {event["stream"] for event in of_decision}
    assert of_decision == events("--correlation", trade["decision_id"])
    late = events("--stream", "coordinator", "--from-seq", "250")
    assert late[0]["seq"] == 250


def test_grep_finds_what_an_event_says(local_run: Run) -> None:
    trade = local_run.report["trades"][0]
    done = alphamesh(
        "log", "grep", trade["trade_id"] + chr(34), "-t", "OrderFilled", "--json", "--data-dir", local_run.data_dir
    )
    assert done.returncode == 0, done.stderr
    (event,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert event["payload"]["fill"]["client_order_id"] == trade["client_order_id"]
    assert alphamesh("log", "grep", "no such thing", "--data-dir", local_run.data_dir).returncode == 1


def test_export_writes_json_lines_and_parquet_with_the_same_events(local_run: Run, tmp_path: Path) -> None:
    lines, table = tmp_path / "events.jsonl", tmp_path / "events.parquet"
    for target in (lines, table):
        done = alphamesh("log", "export", target, "--stream", "execution", "--data-dir", local_run.data_dir)
        assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in lines.read_text().splitlines()]
    rows = pq.read_table(table).to_pylist()
    assert [event["hash"] for event in events] == [row["hash"].hex() for row in rows]
    assert [event["payload"] for event in events] == [json.loads(row["payload"]) for row in rows]
    journal = [envelope for frame in frames_of(local_run.data_dir, "execution") for envelope in frame.events]
    assert sorted(row["payload_bytes"] for row in rows) == sorted(envelope.payload for envelope in journal)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["tail", "--stream", "nonsense"], "nonsense"),
        (["tail", "--type", "Nonsense"], "OrderFilled"),
        (["tail", "--from-seq", "5"], "--stream"),
        (["grep", "("], "regular expression"),
        (["export", "events.xml"], ".parquet"),
        (["tail", "--follow"], "--follow"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_clear_message(local_run: Run, arguments: list[str], named: str) -> None:
    done = alphamesh("log", *arguments, "--data-dir", local_run.data_dir)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
