"""HTTP with the shape of an OpenAI-compatible endpoint, and switches for what goes wrong with one.

POST /v1/chat/completions: as the field knows it. POST /switch {"mode": ..., "calls": n}: what the next n calls meet.
GET /asked: how many calls came, and whether any lacked the key or something that the caller should send.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .thinking import answer

KEY = "sk-local-0123456789abcdef"
MODES = ("well", "slow", "rate_limited", "broken", "malformed", "violation", "missing_row", "prose", "empty")
SLOW_S = 3.0


class State:
    """What the switches say, and what was asked."""

    def __init__(self) -> None:
        self.mode, self.calls, self.asked, self.problems = "well", 0, 0, list[str]()

    def next_mode(self) -> str:
        """Of a call that comes in."""
        self.asked += 1
        if self.calls <= 0:
            return "well"
        self.calls -= 1
        return self.mode


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    state: State

    def do_GET(self) -> None:
        """GET /asked."""
        self._send(200, {"asked": self.state.asked, "problems": self.state.problems})

    def do_POST(self) -> None:
        """A question, or a switch."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/switch":
            assert body["mode"] in MODES, body
            self.state.mode, self.state.calls = body["mode"], body.get("calls", 1)
            self._send(200, {})
            return
        mode = self.state.next_mode()
        if self.headers.get("authorization") != f"Bearer {KEY}":
            # As some endpoints do: the message quotes what was sent.
            self._send(401, {"error": {"message": f"Incorrect key: {self.headers.get('authorization')}"}})
            return
        self._complete(body, mode)

    def _complete(self, body: dict[str, Any], mode: str) -> None:
        self.state.problems += _problems(body)
        if mode == "rate_limited":
            self._send(429, {"error": {"message": "slow down"}}, {"retry-after": "0"})
        elif mode == "broken":
            self._send(500, {"error": {"message": "something broke"}})
        elif mode == "malformed":
            self._raw(200, b'{"choices": [')
        else:
            if mode == "slow":
                time.sleep(SLOW_S)
            content = _spoiled(answer(body["messages"], body["response_format"]["json_schema"]["name"]), mode)
            prompt = sum(len(message["content"]) for message in body["messages"])
            self._send(
                200,
                {
                    "id": "chatcmpl-1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [
                        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
                    ],
                    "usage": {
                        "prompt_tokens": prompt // 4,
                        "completion_tokens": len(content) // 4,
                        "total_tokens": prompt // 4 + len(content) // 4,
                    },
                },
            )

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._raw(status, json.dumps(body).encode(), headers)

    def _raw(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the caller has given up
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's word
        """Nothing: the tests ask."""


def _problems(body: dict[str, Any]) -> list[str]:
    """What a careful caller sends, and this one did not."""
    form = body.get("response_format", {})
    found = []
    if form.get("type") != "json_schema" or form.get("json_schema", {}).get("strict") is not True:
        found.append("no strict schema")
    if body.get("temperature") != 0 or "seed" not in body or "max_completion_tokens" not in body:
        found.append("no temperature 0, seed or limit")
    return found


def _spoiled(content: str, mode: str) -> str:
    value = json.loads(content)
    if mode == "prose":
        return f"Certainly! Here is my analysis: {content}"
    if mode == "empty":
        return ""
    if mode == "violation":
        if "views" in value:
            value["views"][0]["probability_up"] = 1.7
        else:
            value["mood"] = "good"
    if mode == "missing_row" and "views" in value:
        value["views"].pop()
    return json.dumps(value)


def main() -> None:
    """Serves on a free port, or a given one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    Handler.state = State()
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
