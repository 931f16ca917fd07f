"""The endpoint as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from .server import KEY

ROOT = Path(__file__).resolve().parents[3]
KEY_VARIABLE = "ALPHAMESH_TEST_LLM_KEY"


class LanguageModel:
    """Started on entry, gone on exit; `kill` and `start` between."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> LanguageModel:
        os.environ[KEY_VARIABLE] = KEY
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.kill()
        os.environ.pop(KEY_VARIABLE, None)

    def start(self) -> None:
        """On the port that it had before, if any."""
        command = [sys.executable, "-m", "tests.services.language_model", "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def switch(self, mode: str, calls: int = 1) -> None:
        """What the next calls meet."""
        self._http("/switch", {"mode": mode, "calls": calls})

    def asked(self) -> int:
        """Calls so far; every one of them was as it should be."""
        answer = self._http("/asked")
        assert answer["problems"] == []
        return int(answer["asked"])

    def config(self, **changes: Any) -> dict[str, Any]:
        """Of an llm_agent that asks it."""
        base = {"base_url": f"http://127.0.0.1:{self.port}/v1", "model": "thinker-1", "api_key_env": KEY_VARIABLE}
        return base | {"timeout_s": 20.0, "breaker_reset_s": 0.3} | changes

    def _http(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"content-type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            found: dict[str, Any] = json.loads(response.read())
        return found
