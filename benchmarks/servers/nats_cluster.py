"""Three nats-servers on loopback that form a JetStream cluster and sync every write."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import nats

from mesh.nats import find_program

_NODES = 3


class NatsCluster:
    """The nodes can be killed and started again one by one."""

    def __init__(self) -> None:
        """Returns when the cluster has a leader. Raises RuntimeError when it has none after 30 s."""
        self._keep = tempfile.TemporaryDirectory(prefix="am-nats-", ignore_cleanup_errors=True)
        self._folder = Path(self._keep.name)
        self._ports = [_free_ports(3) for _ in range(_NODES)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * _NODES
        for number in range(_NODES):
            self.start(number)
        self.wait()

    @property
    def url(self) -> str:
        """All nodes, as the client wants them."""
        return ",".join(f"nats://127.0.0.1:{ports[0]}" for ports in self._ports)

    def start(self, number: int) -> None:
        """Starts one node on its old store."""
        client, route, monitor = self._ports[number]
        store = self._folder / f"node{number}"
        store.mkdir(exist_ok=True)
        config = {
            "server_name": f"node{number}",
            "host": "127.0.0.1",
            "port": client,
            "http": f"127.0.0.1:{monitor}",
            "max_payload": 8 * 2**20,
            "jetstream": {"store_dir": str(store), "sync_interval": "always"},
            "cluster": {
                "name": "alphamesh",
                "listen": f"127.0.0.1:{route}",
                "routes": [f"nats://127.0.0.1:{ports[1]}" for ports in self._ports],
            },
        }
        path = self._folder / f"node{number}.conf"
        path.write_text(json.dumps(config))
        with (self._folder / f"node{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen([find_program(), "-c", path], stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """kill -9 for one node."""
        process = self._processes[number]
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self._processes[number] = None

    async def leader(self, stream: str) -> int:
        """Number of the node that leads a stream."""
        client = await nats.connect(self.url.split(","))
        try:
            facts = await client.jetstream().stream_info(stream)
        finally:
            await client.close()
        assert facts.cluster is not None
        assert facts.cluster.leader is not None
        return int(facts.cluster.leader.removeprefix("node"))

    def close(self) -> None:
        """Stops all nodes and removes their stores."""
        for number, process in enumerate(self._processes):
            if process is not None:
                self.kill(number)
        self._keep.cleanup()

    def wait(self) -> None:
        """Returns when all nodes serve, have a leader and have caught up. Raises RuntimeError after 30 s."""
        deadline = time.monotonic() + 30
        while not all(_healthy(ports[2]) for ports in self._ports):
            if time.monotonic() > deadline:
                log = (self._folder / "node0.log").read_text()[-2000:]
                self.close()
                raise RuntimeError(f"the NATS cluster does not get ready: {log}")
            time.sleep(0.1)


def _healthy(monitor: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/healthz", timeout=1) as answer:
            if answer.status != 200:
                return False
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=1) as answer:
            cluster = json.load(answer).get("meta_cluster", {})
        return bool(cluster.get("leader")) and cluster.get("cluster_size") == _NODES
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()
