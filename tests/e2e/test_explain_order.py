"""`alphamesh explain <client_order_id>`: why for an order of the demo session, from a stopped system."""

from __future__ import annotations

import json

from .conftest import Run, alphamesh


def test_an_order_is_explained_from_the_decision_to_the_fill(local_run: Run) -> None:
    trade = local_run.report["trades"][-1]
    done = alphamesh("explain", trade["client_order_id"], "--data-dir", local_run.data_dir, "--json")
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    assert story["order"]["client_order_id"] == trade["client_order_id"]
    assert story["decision"]["decision_id"] == trade["decision_id"]
    assert {line["agent_id"] for line in story["decision"]["signals"]} >= {"technical.trend", "technical.momentum"}
    assert any(sentence.startswith("target: weight ") for sentence in story["why"])
    assert any(sentence.startswith("risk: ") for sentence in story["why"])
    fills = [event for event in story["events"] if event["event"] == "OrderFilled"]
    assert sum(trade["trade_id"] in event["what"] for event in fills) == 1
    shown = alphamesh("explain", trade["client_order_id"], "--data-dir", local_run.data_dir)
    assert shown.returncode == 0
    for text in ("Why: decision", "What happened", trade["price"].rstrip("0"), "the whole decision: alphamesh explain"):
        assert text in shown.stdout, text


def test_what_is_neither_decision_nor_order_is_said(local_run: Run) -> None:
    done = alphamesh("explain", "2009-AAPL", "--data-dir", local_run.data_dir)
    assert done.returncode == 1
    assert "no decision and no order '2009-AAPL'" in done.stderr
