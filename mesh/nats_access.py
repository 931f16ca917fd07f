"""Who may do what on the event log: a user for each service and client, with the subjects that the topology gives it.

Everybody speaks TLS with the run's authority and has a password of their own, new at each start of the system. The
supervisor's user declares streams and may do everything.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from python_services.kit import subjects

from .identity import AUTHORITY_DAYS, Authority, write_secret
from .ports import LOOPBACK
from .topology import Client, Service, Topology

ADMINISTRATOR = "alphamesh"
IDENTITY = "nats"
_PASSWORD_BYTES = 24
_LOGIN_S = 5


@dataclass(frozen=True, kw_only=True)
class User:
    """What a user publishes to, and its password. `publish` None: everything, and it hears everything."""

    name: str
    password: str
    publish: Sequence[str] | None = None

    def settings(self) -> dict[str, Any]:
        """As nats-server's configuration has it. Answers come to an inbox that is the user's own."""
        login = {"user": self.name, "password": self.password}
        if self.publish is None:
            return login
        # An empty list of what is allowed would allow everything.
        publish = {"allow": list(self.publish)} if self.publish else {"deny": [">"]}
        return {
            **login,
            "permissions": {"publish": publish, "subscribe": {"allow": [f"{subjects.inbox(self.name)}.>"]}},
        }


@dataclass(frozen=True, kw_only=True)
class Access:
    """The users of one run's event log, and the certificate of its servers."""

    users: Mapping[str, User]
    folder: Path

    @property
    def tls(self) -> dict[str, Any]:
        """For clients, and between the servers of a cluster."""
        return {
            "cert_file": str(self.folder / "server.pem"),
            "key_file": str(self.folder / "server.key"),
            "ca_file": str(self._authority),
            "min_version": "1.3",
            "timeout": _LOGIN_S,
        }

    def authorization(self, *names: str) -> dict[str, Any]:
        """The users called `names`; all without any."""
        users = [self.users[name] for name in names] or self.users.values()
        return {"users": [user.settings() for user in users], "timeout": _LOGIN_S}

    def address(self, name: str, ports: Sequence[int]) -> str:
        """Where `name` connects, as kit/connections.connect wants it. With its password: never for a log."""
        login = f"{name}:{self.users[name].password}"
        servers = ",".join(f"tls://{login}@{LOOPBACK}:{port}" for port in ports)
        return f"{servers}?authority={quote(str(self._authority))}"

    @property
    def _authority(self) -> Path:
        return self.folder / "authority.pem"


def administrator(folder: Path, authority: Authority) -> Access:
    """The supervisor's user only; the servers' certificate is made in `folder`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # As long as the authority: nats-server would have to be told of another one.
    own = authority.issue(IDENTITY, timedelta(days=AUTHORITY_DAYS), address=LOOPBACK)
    write_secret(folder / "server.pem", own.certificate)
    write_secret(folder / "server.key", own.key)
    write_secret(folder / "authority.pem", authority.trust)
    return Access(users={ADMINISTRATOR: User(name=ADMINISTRATOR, password=_password())}, folder=folder)


def of_topology(folder: Path, authority: Authority, topology: Topology) -> Access:
    """A user for every service, and for every client that reads a stream."""
    streams = topology.event_log.streams
    owners: list[Service | Client] = [*topology.processes, *(client for client in topology.clients if client.reads)]
    users = {
        owner.name: User(name=owner.name, password=_password(), publish=_publish(owner.name, owner.reads, streams))
        for owner in owners
    }
    own = administrator(folder, authority)
    return Access(users={**own.users, **users}, folder=folder)


def _publish(name: str, reads: Sequence[str], streams: Mapping[str, object]) -> list[str]:
    written = subjects.to_write(name) if name in streams else []
    return sorted({*written, *(subject for stream in reads for subject in subjects.to_read(stream))})


def _password() -> str:
    return secrets.token_urlsafe(_PASSWORD_BYTES)
