"""What a person learns of the agents after a session, and which policies are refused before one."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from mesh import policy

from .conftest import Run, alphamesh, run_session

VETOED = "vetoes: [{name: doubts, who: TECHNICAL, forbids: LONG, minimum_confidence: 0.5}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three months under a policy with a veto, over the local transport."""
    folder = tmp_path_factory.mktemp("agents")
    mine = folder / "policy.yaml"
    mine.write_text(policy.DEFAULT_PATH.read_text().replace("vetoes: []", VETOED))
    return run_session(folder, "--local", "--start", "2009-07-01", "--end", "2009-09-30", "--policy", str(mine))


def test_agents_are_listed_and_shown_when_the_system_is_down(run: Run) -> None:
    listed = alphamesh("agents", "list", "--data-dir", run.data_dir, "--json")
    assert listed.returncode == 0, listed.stderr
    agents = {agent["agent_id"]: agent for agent in json.loads(listed.stdout)}
    assert agents["technical.trend"]["kind"] == "TECHNICAL"
    assert agents["learned.direction"]["kind"] == "LEARNED"
    assert {agent["state"] for agent in agents.values()} == {"ACTIVE"}
    assert agents["technical.volatility"]["records"] == [], "it forecasts no return"
    shown = alphamesh("agents", "show", "technical.trend", "--data-dir", run.data_dir)
    assert "Track record" in shown.stdout
    assert "Calibration" in shown.stdout
    nobody = alphamesh("agents", "show", "nobody", "--data-dir", run.data_dir)
    assert nobody.returncode == 1
    assert "'nobody' is not known; there are fundamental.accruals, " in nobody.stderr
    assert ", technical.mean_reversion, " in nobody.stderr
    paused = alphamesh("agents", "pause", "technical.trend", "--reason", "x", "--data-dir", run.data_dir)
    assert paused.returncode == 1, "the system is down"


def test_the_report_shares_out_the_whole_profit(run: Run) -> None:
    agents = run.report["agents"]
    rows = [*agents["by_agent"], agents["unattributed"]]
    for name in ("pnl", "traded_notional"):
        assert sum(Decimal(row[name]) for row in rows) == Decimal(run.report[name])
    earned = {row["agent_id"]: row for row in agents["by_agent"]}
    assert Decimal(earned["technical.trend"]["pnl"]) != 0
    assert earned["technical.trend"]["forecasts_scored"] > 50
    assert "unattributed" in run.output


def test_explain_shows_voices_regime_and_the_rules_that_applied(run: Run) -> None:
    for number in range(run.report["cycles"], 0, -1):
        identifier = f"{run.report['session']['session_id']}-{number:04d}"
        explained = json.loads(alphamesh("explain", identifier, "--data-dir", run.data_dir, "--json").stdout)
        if explained["rules"]:
            break
    (rule,) = explained["rules"]
    assert (rule["rule"], rule["kind"], rule["agents"]) == ("doubts", "VETO", ["technical.mean_reversion"])
    names = {line["instrument_id"]: line for line in explained["portfolio"]["targets"]}
    for order in explained["planned_orders"]:
        assert order["side"] == "SELL" or order["instrument_id"] not in rule["instruments"]
    assert set(rule["instruments"]) <= set(names)
    assert explained["regime"]["label"] in ("CALM", "NORMAL", "TURBULENT")
    text = alphamesh("explain", identifier, "--data-dir", run.data_dir).stdout
    assert "Voices" in text
    assert "rule doubts (VETO)" in text


def test_a_policy_with_a_mistake_starts_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("quorums: []\n")
    refused = alphamesh("session", "--local", "--policy", mine, "--data-dir", tmp_path / "run")
    assert refused.returncode == 1
    assert f"{mine}:1: the policy has an unknown key 'quorums'" in refused.stderr
    assert not (tmp_path / "run").exists()
