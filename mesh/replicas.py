"""What an operator changes in a running system: replicas, weights, certificates. One change at a time.

Errors are ServiceError: they cross the control channel, and say what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from python_services.kit.errors import invalid, not_found, precondition

from .errors import MeshError
from .instances import Group, Instance, groups
from .sidecars import Sidecars
from .supervisor import Status, Supervisor
from .topology import Service, Topology


class Replicas:
    """Changes the system that `supervisor` runs."""

    def __init__(self, supervisor: Supervisor, topology: Topology) -> None:
        self._supervisor = supervisor
        self._topology = topology
        self._changing = asyncio.Lock()

    async def scale(self, name: str, count: int) -> dict[str, tuple[Instance, Status]]:
        """Starts or stops replicas of a group until `count` are there; all replicas of the service are returned."""
        self._sidecars()
        service, _, version = name.partition("@")
        group = self._group(self._scalable(service), version)
        async with self._changing:
            present = {
                i.number: (i, status) for i, status in self._present(service).values() if i.group.name == group.name
            }
            for number, (instance, status) in list(present.items()):
                if status.state == "FAILED":  # what is asked for is one that works
                    await self._supervisor.retire(instance)
                    del present[number]
            for number in sorted(present)[count:]:
                await self._supervisor.retire(present[number][0])
            free = (number for number in range(1, count + len(present) + 1) if number not in present)
            for number in [next(free) for _ in range(count - len(present))]:
                await self._launch(group.instance(number))
            return self._present(service)

    async def drain(self, name: str) -> dict[str, tuple[Instance, Status]]:
        """Stops one replica; those that are left are returned."""
        self._sidecars()
        async with self._changing:
            service = self._scalable(name.partition("@")[0].partition("-")[0])
            present = self._present(service.name)
            if name not in present:
                raise not_found("replica", name, f"{service.name} has {', '.join(present)}")
            instance = present[name][0]
            alike = {n: s for n, (i, s) in present.items() if i.group.name == instance.group.name and n != name}
            if not any(status.state == "SERVING" for status in alike.values()):
                raise precondition(
                    "LAST_REPLICA",
                    f"{name} is the last replica of {instance.group.name} that serves; first start another with "
                    f"`alphamesh scale {instance.group.name} 2`",
                )
            await self._supervisor.retire(instance)
            return self._present(service.name)

    async def shift(self, name: str, weights: Mapping[str, int]) -> dict[str, int]:
        """Divides the calls of a service: percent by version."""
        sidecars = self._sidecars()
        service = self._scalable(name)
        for version in weights:
            self._group(service, version)
        if sum(weights.values()) != 100:
            text = " + ".join(str(percent) for percent in weights.values())
            raise invalid("weights", f"{text} is {sum(weights.values())}", "they sum to 100")
        async with self._changing:
            serving = {i.group.name for i, status in self._present(name).values() if status.state == "SERVING"}
            shares = {group.name: weights.get(group.version, 0) for group in groups(service)}
            for group, percent in shares.items():
                if percent and group not in serving:
                    raise precondition(
                        "NO_REPLICA_SERVES",
                        f"no replica of {group} serves; see `alphamesh status`, and start one with "
                        f"`alphamesh scale {group} 1`",
                    )
            await asyncio.to_thread(sidecars.shift, name, shares)
            self._supervisor.save()
            return {group.version: shares[group.name] for group in groups(service)}

    async def rotate(self, identity: str) -> dict[str, datetime]:
        """New certificates for one identity, or for all when it is empty; when they expire, by holder."""
        sidecars = self._sidecars()
        known = [*(s.name for s in self._topology.started), *(c.name for c in self._topology.clients)]
        if identity and identity not in known:
            raise not_found("identity", identity, f"there are {', '.join(known)}")
        async with self._changing:
            return await asyncio.to_thread(sidecars.certify, identity or None)

    async def _launch(self, instance: Instance) -> None:
        try:
            await self._supervisor.launch(instance)
        except MeshError as error:
            raise precondition("REPLICA_NOT_STARTED", str(error), replica=instance.name) from error

    def _present(self, service: str) -> dict[str, tuple[Instance, Status]]:
        return self._supervisor.replicas(service)

    def _sidecars(self) -> Sidecars:
        if self._supervisor.sidecars is None:
            problem = "this system has no sidecars, and only they can find several replicas"
            raise precondition("NO_SIDECARS", f"{problem}; write `mesh: {{sidecars: true}}` in {self._topology.path}")
        return self._supervisor.sidecars

    def _scalable(self, name: str) -> Service:
        several = [service.name for service in self._topology.services if service.replicas]
        try:
            service = self._topology.service(name)
        except KeyError:
            raise not_found("service", name, f"those that can have replicas: {', '.join(several) or 'none'}") from None
        if service.replicas is None:
            stream = name in self._topology.event_log.streams
            why = "it writes a stream of the event log, which has one writer" if stream else "it declares none"
            remedy = "nothing else can" if stream else f"write `replicas: 1` under it in {self._topology.path}"
            remedy = f"these can: {', '.join(several) or 'none'}" if stream else remedy
            raise precondition("NO_REPLICAS", f"{name} cannot have replicas: {why}; {remedy}")
        return service

    def _group(self, service: Service, version: str) -> Group:
        found = {group.version: group for group in groups(service)}
        if version and version not in found:
            raise not_found("version", version, f"{service.name} has {', '.join(found)}")
        return found[version] if version else next(iter(found.values()))
