"""``python -m python_services.training.worker JOB.json``: one job, in a process that answers nobody.

It says what it does in lines of JSON on its output: {"progress": [done, total, stage]}, {"fold": {...}}, and at the end
{"result": {...}} or {"failure": {"reason", "message"}}. Logs go to stderr. Everything it writes lies in the folder of
its job file. With ``--recipes`` it tells which models there are, and what is trained of each without options.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from . import artifacts, recipes
from .confinement import confine
from .errors import TrainingError
from .executors import open_executor

ARTIFACT = "artifact"  # folder inside the job's own, a model repository with one version
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Exit code 0 with a result, 1 with a failure."""
    parser = argparse.ArgumentParser(prog="python -m python_services.training.worker")
    parser.add_argument("job", type=Path, nargs="?", help="file with the job's specification")
    parser.add_argument("--nice", type=int, default=10, help="how much lower its priority is")
    parser.add_argument("--confine", action="store_true", help="write in the job's folder only, where that can be had")
    parser.add_argument("--recipes", action="store_true", help="print the recipes and end")
    arguments = parser.parse_args()
    _output()
    if arguments.recipes:
        found = [recipes.find(name) for name in recipes.names()]
        say({each.model_id: {"title": each.title, "reads": each.reads, "defaults": each.defaults()} for each in found})
        return 0
    if arguments.job is None:
        parser.error("give a job file")
    _step_aside(arguments.nice)
    if arguments.confine:
        _confine(arguments.job.resolve())
    try:
        say({"result": run(arguments.job.resolve())})
    except TrainingError as error:
        say({"failure": {"reason": error.reason, "message": error.message}})
        return 1
    except ImportError as error:
        message = f"{error.name or error} is not installed; run `make setup-train`"
        say({"failure": {"reason": "ENGINE_MISSING", "message": message}})
        return 1
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}; its log has the whole trace"
        say({"failure": {"reason": "TRAINING_CRASHED", "message": message}})
        return 1
    return 0


def run(job: Path) -> dict[str, Any]:
    """Trains what the file says, and writes the version beside it. Returns facts about it."""
    settings: Mapping[str, Any] = orjson.loads(job.read_bytes())
    recipe = recipes.find(settings["model_id"])
    parameters = settings.get("parameters", {})
    executor = open_executor(parameters.get("executor", "joblib"), int(parameters.get("workers", 1)))
    context = recipes.TrainContext(
        seed=int(settings["seed"]),
        folder=job.parent,
        executor=executor,
        progress=lambda done, total, stage: say({"progress": [done, total, stage]}),
        settings=settings,
        report_fold=lambda fold: say({"fold": fold}),
    )
    trained = recipe.train(context)
    card = trained.card
    card.feature_set_version = card.feature_set_version or settings.get("data", {}).get("feature_set_version", "")
    folder = artifacts.write(job.parent / ARTIFACT, trained, 1, replace=True)
    return {
        "artifact": str(folder.relative_to(job.parent)),
        "onnx_sha256": card.onnx_sha256,
        "metrics": dict(card.metrics),
        "trained_until_ns": card.trained_until_ns,
        "engine_version": card.engine_version,
        "commit": artifacts.commit(),
    }


def _confine(job: Path) -> None:
    """Not where other processes take part in the work: they share files elsewhere."""
    parameters = orjson.loads(job.read_bytes()).get("parameters", {})
    if parameters.get("executor", "joblib") != "joblib" or int(parameters.get("workers", 1)) != 1:
        return
    if not confine(job.parent, Path("/dev/null"), Path("/dev/shm")):
        print("this kernel has no Landlock: the worker is not confined to its folder", file=sys.stderr)


def say(message: Mapping[str, Any]) -> None:
    """One line, at once."""
    os.write(_output(), orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))


@cache
def _output() -> int:
    """What libraries print goes to the log from now on: the output is for `say` alone."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def _step_aside(niceness: int) -> None:
    """Trading comes first; the process ends with the one that started it; nothing is left but files of its owner."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before it could be asked for
            os._exit(1)
    os.nice(niceness)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
