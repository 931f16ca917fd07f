"""Connections to NATS servers: the one place that knows how an address is read."""

from __future__ import annotations

import logging
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import nats
from nats.aio.client import Client

from . import telemetry
from .subjects import inbox

# asyncio's own streams return True there; over TLS that has no effect, and every close of a connection would say so.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())


async def connect(address: str, name: str, **options: Any) -> Client:
    """A connection that is made again for ever. Raises what nats.connect raises when nobody answers.

    `address`: servers, separated by commas, each with the user and its password; "?authority=FILE" after the last names
    the authority whose certificates are believed. Answers come to an inbox that is the user's own.
    """
    listed, _, query = address.partition("?")
    servers = listed.split(",")
    settings: dict[str, Any] = {"error_cb": log_error, "max_reconnect_attempts": -1, "reconnect_time_wait": 0.25}
    if authority := parse_qs(query).get("authority"):
        settings["tls"] = ssl.create_default_context(cafile=authority[0])
    if user := urlsplit(servers[0]).username:
        settings["inbox_prefix"] = inbox(user)
    return await nats.connect(servers, name=name, **{**settings, **options})


async def log_error(error: Exception) -> None:
    """What the client cannot tell anybody else."""
    telemetry.logger().warning("event log connection", error=repr(error))
