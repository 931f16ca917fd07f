"""Which processes a service is: replicas, all alike, of one version or of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .topology import STABLE, Service


@dataclass(frozen=True, kw_only=True)
class Group:
    """The replicas of one version of a service: what a weight belongs to."""

    service: Service
    version: str = STABLE

    @property
    def name(self) -> str:
        """ "technical_agent", or "technical_agent@v2"."""
        return self.service.name if self.version == STABLE else f"{self.service.name}@{self.version}"

    @property
    def module(self) -> str:
        """What is executed."""
        return (self.service.versions[self.version].module if self._other else "") or self.service.module

    @property
    def config(self) -> Mapping[str, Any]:
        """The service's configuration; another version says what is different in its own."""
        return {**self.service.config, **(self.service.versions[self.version].config if self._other else {})}

    @property
    def replicas(self) -> int:
        """How many there are at the start."""
        return self.service.versions[self.version].replicas if self._other else self.service.replicas or 1

    @property
    def weight(self) -> int:
        """Its share of the service's calls at the start, in percent."""
        versions = self.service.versions
        return versions[self.version].weight if self._other else 100 - sum(v.weight for v in versions.values())

    @property
    def _other(self) -> bool:
        return self.version != STABLE

    def instance(self, number: int) -> Instance:
        """One of them, from 1."""
        return Instance(group=self, number=number)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One process of a service, with a socket, a log and a sidecar of its own. Its identity is the service's."""

    group: Group
    number: int = 1

    @property
    def name(self) -> str:
        """ "technical_agent", "technical_agent-2", "technical_agent@v2-2"."""
        return self.group.name if self.number == 1 else f"{self.group.name}-{self.number}"

    @property
    def service(self) -> Service:
        """What it is one of."""
        return self.group.service

    @property
    def config(self) -> Mapping[str, Any]:
        """What it is started with."""
        return self.group.config

    @property
    def reads(self) -> tuple[str, ...]:
        """Streams of the event log that it follows."""
        return self.service.reads

    @property
    def callees(self) -> tuple[str, ...]:
        """Services that it calls."""
        return self.service.callees


def groups(service: Service) -> tuple[Group, ...]:
    """The versions of a service, the stable one first."""
    return tuple(Group(service=service, version=version) for version in (STABLE, *service.versions))


def at_start(service: Service, *, sidecars: bool = True) -> tuple[Instance, ...]:
    """The processes that the topology asks for; without sidecars nobody would find more than one."""
    if not sidecars:
        return (Group(service=service).instance(1),)
    return tuple(group.instance(n) for group in groups(service) for n in range(1, group.replicas + 1))
