"""The trace of a decision of the demo year, as the command line shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mesh import topology
from python_services.kit.snapshots import folder_of
from python_services.kit.tracing import decision_ids

from .conftest import Run, alphamesh

STEPS = [
    "advance_market",
    "snapshot",
    "sync_market",
    "forecast",
    "score",
    "aggregate",
    "portfolio",
    "risk",
    "record",
    "submit",
]


@pytest.fixture(scope="module")
def traded(process_run: Run) -> dict[str, Any]:
    """The trace of the first decision with fills."""
    listed = json.loads(alphamesh("decisions", "--json", "--data-dir", process_run.data_dir).stdout)["decisions"]
    first = next(row["decision_id"] for row in listed if row["outcome"] == "TRADE")
    shown = alphamesh("trace", first, "--json", "--data-dir", process_run.data_dir)
    assert shown.returncode == 0, shown.stderr
    trace: dict[str, Any] = json.loads(shown.stdout)
    assert trace["decision_id"] == first
    assert trace["trace_id"] == decision_ids(first)[0]
    return trace


def heard(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the attempt that lost: on a busy machine an agent that is late is asked twice, and one is cancelled."""
    lost: set[str] = set()
    kept = []
    for span in sorted(spans, key=lambda span: int(span["depth"])):  # parents first
        given_up = span["status"] == "CANCELLED" and span["name"].endswith("/ComputeForecasts")
        if given_up or span["parent_span_id"] in lost:
            lost.add(span["span_id"])
        else:
            kept.append(span)
    return kept


def test_one_connected_tree_leads_from_the_snapshot_to_the_fills(traded):
    spans = traded["spans"]
    known = {span["span_id"] for span in spans}
    roots = [span for span in spans if span["parent_span_id"] not in known]
    assert [(root["service"], root["name"]) for root in roots] == [("coordinator", "decision")]
    assert roots[0]["attributes"]["alphamesh.outcome"] == "TRADE"
    below = [span["name"] for span in spans if span["parent_span_id"] == roots[0]["span_id"]]
    assert sorted(name for name in below if "publish" not in name) == sorted(STEPS)
    served = {(s["service"], s["name"].rpartition("/")[2]) for s in spans if s["kind"] == "SERVER"}
    assert served >= {
        ("market_data", "CutSnapshot"),
        ("technical_agent", "ComputeForecasts"),
        ("portfolio", "ProposeTargets"),
        ("risk", "AssessPortfolio"),
        ("execution", "ApplyRiskPolicy"),
        ("execution", "SubmitOrders"),
        ("venue", "SubmitOrders"),
    }
    asked = {("market_data", "GetSnapshot"), ("market_data", "GetTexts")} & served
    assert not asked or folder_of(Path()) is None, "on one host snapshots lie in shared memory"
    assert {span["status"] for span in heard(spans) if span["kind"] in ("SERVER", "CLIENT")} == {"OK"}
    published = {
        name: (span["service"], span["span_id"])
        for span in spans
        if span["kind"] == "PRODUCER"
        for name in span["attributes"]["alphamesh.event.types"].replace(" x2", "").split(", ")
    }
    assert published["DecisionMade"][0] == "coordinator"
    service, filled = published["OrderFilled"]
    assert service == "execution"
    readers = {span["service"] for span in spans if span["parent_span_id"] == filled}
    assert readers >= {"portfolio", "risk", "audit"}


def test_every_call_is_one_that_the_topology_lists(traded):
    edges = {
        (service.name, call.service, method)
        for service in topology.load().services
        for call in service.calls
        for method in call.methods
    }
    spans = heard(traded["spans"])
    servers = {span["parent_span_id"]: span for span in spans if span["kind"] == "SERVER"}
    calls = [span for span in spans if span["kind"] == "CLIENT"]
    assert len(calls) >= 8
    for call in calls:
        callee = call["attributes"]["peer.service"]
        if callee != "triton":  # which has spans of its own, elsewhere
            assert servers[call["span_id"]]["service"] == callee
        whole = call["name"].rpartition("/")[0] + "/*"
        assert {(call["service"], callee, call["name"]), (call["service"], callee, whole)} & edges
        assert call["attributes"]["alphamesh.decision_id"] == traded["decision_id"]


def test_the_tree_is_printed_and_every_decision_has_one(process_run):
    printed = alphamesh("trace", "--last", "--data-dir", process_run.data_dir)
    assert printed.returncode == 0, printed.stderr
    assert "coordinator > market_data" in printed.stdout
    assert "█" in printed.stdout
    listed = alphamesh("trace", "--list", "--json", "--data-dir", process_run.data_dir)
    newest = json.loads(listed.stdout)
    assert len(newest) == 20
    missing = alphamesh("trace", "no-such-decision", "--data-dir", process_run.data_dir)
    assert missing.returncode == 1
    assert "was not sampled" in missing.stderr


def test_tracing_changes_no_event(process_run, local_run):
    assert process_run.report["final_event_hash"] == local_run.report["final_event_hash"]
