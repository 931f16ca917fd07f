"""The command line as a user meets it: real processes, exit codes, one clear message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from mesh.commands.app import app
from mesh.rundir import RunDir

from ..conftest import TOPOLOGY, alive, alphamesh

PATIENCE_S = 30


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="am-") as path:
        yield Path(path)


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def invoke(*arguments: str | Path):
    """A command in this process: quicker, and the same code."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def start(folder: Path) -> subprocess.Popen[str]:
    """`alphamesh up` in the foreground, as in a terminal."""
    command = [sys.executable, "-m", "mesh.cli", "up", "--data-dir", str(folder / "run"), "--topology", str(TOPOLOGY)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def processes(folder: Path) -> dict[str, int]:
    facts = RunDir(folder / "run").state().get("processes", {})
    return {name: values["pid"] for name, values in facts.items() if values["pid"]}


def test_up_status_logs_and_down(folder):
    run = folder / "run"
    started = alphamesh("up", "--detach", "--data-dir", run, "--topology", TOPOLOGY)
    assert (started.returncode, started.stderr) == (0, "")
    assert started.stdout.startswith("ready in ")

    status = invoke("status", "--data-dir", run, "--json")
    facts = orjson.loads(status.stdout)
    assert status.exit_code == 0
    assert facts["serving"]
    assert {name: values["state"] for name, values in facts["processes"].items()} == {
        "nats": "SERVING", "ledger": "SERVING", "reader": "SERVING",
        "ledger-envoy": "SERVING", "reader-envoy": "SERVING", "outside": "SERVING",
    }  # fmt: skip
    assert "SERVING" in invoke("status", "--data-dir", run).stdout

    lines = invoke("logs", "ledger", "--data-dir", run, "--json").stdout.splitlines()
    assert [orjson.loads(line)["event"] for line in lines] == ["serving"]
    unknown = invoke("logs", "nobody", "--data-dir", run)
    assert unknown.exit_code == 1
    assert "there is no log of 'nobody'" in unknown.stderr

    again = invoke("up", "--data-dir", run, "--topology", TOPOLOGY)
    assert again.exit_code == 1
    assert again.stderr.startswith(f"alphamesh: {run} is in use by process {facts['supervisor_pid']}; stop that system")

    pids = processes(folder)
    assert alphamesh("down", "--data-dir", run).returncode == 0
    assert not any(alive(pid) for pid in pids.values())
    assert invoke("status", "--data-dir", run).exit_code == 1
    assert "nothing is up" in invoke("down", "--data-dir", run).stdout


@pytest.mark.parametrize("moment", ["early", "starting", "running"])
def test_ctrl_c_ends_every_process_at_any_moment(folder, moment):
    child = start(folder)
    if moment == "starting":
        until(lambda: "reader" in processes(folder))
    elif moment == "running":
        until(lambda: RunDir(folder / "run").state().get("state") == "RUNNING")
    else:
        time.sleep(0.4)
    pids = processes(folder)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=PATIENCE_S)
    # The interpreter itself may not have reached our code yet; a shell calls that 130, too.
    assert child.returncode in ((130, -signal.SIGINT) if moment == "early" else (130,)), errors
    assert "Traceback" not in errors
    assert not any(alive(pid) for pid in {**pids, **processes(folder)}.values())


def test_no_child_outlives_a_killed_supervisor(folder):
    child = start(folder)
    until(lambda: RunDir(folder / "run").state().get("state") == "RUNNING")
    pids = processes(folder)
    assert len(pids) == 6
    child.kill()
    child.communicate()
    until(lambda: not any(alive(pid) for pid in pids.values()))
    assert alphamesh("status", "--data-dir", folder / "run").returncode == 1


def test_a_service_that_does_not_start_is_one_message(folder):
    bad = folder / "topology.yaml"
    bad.write_text(TOPOLOGY.read_text().replace("slow_s: 5.0", "colour: red"))
    for options in ((), ("--detach",)):
        done = alphamesh("up", *options, "--data-dir", folder / "run", "--topology", bad)
        assert done.returncode == 1
        assert "ledger cannot start; correct what its log says" in done.stderr
        assert "unknown key 'colour'" in done.stderr
        assert "Traceback" not in done.stderr
        assert not any(alive(pid) for pid in processes(folder).values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status",), "there is no run yet; start one with `alphamesh up`"),
        (("explain", "--last"), "there is no run yet"),
        (("explain",), "give a decision_id"),
        (("session",), "there is no run yet"),
        (("session", "--serve"), "--serve keeps a system up that this command started"),
        (("session", "--up", "--local"), "give one of them"),
        (("session", "--up", "--instruments", ","), "the universe is empty"),
        (("session", "--up", "--start", "2010-01-02", "--end", "2010-01-01"), "is before start"),
        (("session", "--up", "--cash", "a lot"), "cash: 'a lot' is no number"),
        (("session", "--up", "--report", "/nowhere/r.json"), "there is no folder /nowhere"),
        (("session", "--up", "--data", "none.csv"), "there is no such file"),
        (("session", "--data", "/dev/null"), "takes effect when services start"),
        (("up", "--topology", "none.yaml"), "none.yaml: cannot be read"),
        (("convert", "100", "USD", "EUR"), "there is no run yet"),
        (("trading-state", "HALTED", "--reason", "test"), "there is no run yet"),
    ],
)
def test_wrong_input_is_one_line_with_a_remedy_and_starts_nothing(folder, monkeypatch, arguments, says):
    monkeypatch.chdir(folder)
    done = invoke(*arguments)
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.startswith("alphamesh: ")
    assert done.stderr.count("\n") == 1
    assert not list(folder.iterdir())


def test_help_is_quick_and_has_examples(folder):
    begun = time.process_time(), os.times().children_user
    done = alphamesh("session", "--help")
    spent = os.times().children_user - begun[1]
    assert "alphamesh session --up --report report.json" in done.stdout
    assert spent < 1.0  # processor time, not wall time: 0.15 s on a machine at rest
    code = "import sys; sys.argv[1:] = ['--help']\nfrom mesh.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'grpc', 'numpy', 'nats', 'rich', 'yaml'} & set(sys.modules)))"
    quick = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert quick.stdout.splitlines()[-1] == "[]", "the help loads what only commands need"
