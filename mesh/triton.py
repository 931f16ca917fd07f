"""The inference server: the real Triton (of PyPI's nvidia-pytriton) on Unix sockets, private to one run.

    sock/triton.sock          KServe v2 and grpc.health.v1
    sock/triton.metrics.sock  Prometheus
    triton/models/            the model repository: triton_models.py
    triton/backends/          Triton's python backend, and ours (triton_backends/), which is based on it

That it says it is ready proves nothing: a model whose process has died is ready too, and is not replaced. So it counts
as ready when every version has answered its golden rows; these are asked again while it runs, and a version that does
not answer is loaded again, or the server started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import sys
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

import grpc

from inference import grpc_service_pb2_grpc
from python_services.kit import health
from python_services.kit.client import Channel, authority, socket_address
from python_services.kit.context import ModelServer
from python_services.kit.inference import InferenceClient, InferenceError, Reason
from python_services.kit.inference_admin import MODEL, READY, InferenceAdmin, Loaded, check_golden
from python_services.kit.observability import metrics_socket

from . import triton_models
from .errors import MeshError
from .rundir import RunDir
from .topology import ROOT
from .triton_section import NAME, Triton

SERVER = ROOT / ".tools" / "triton"
PYTHON = ROOT / ".tools" / "triton-py"
BACKENDS = ROOT / "triton_backends"
_SHARED_MEMORY = Path("/dev/shm")
_EXIT_S = 3
# Nobody else may do these; the first is needed to see what is loaded.
_RESTRICTED = "model-repository,shared-memory,trace,logging"
_NO_ANSWER = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE})
_NEVER = 1 << 30  # failures: the probe has no use for a breaker


class TritonError(MeshError):
    """The inference server cannot be started here."""


class TritonServer:
    """How it is started, when it is ready, and when it has to be started again."""

    def __init__(self, run: RunDir, triton: Triton) -> None:
        self.name = NAME
        self.version = ""
        self._run = run
        self._triton = triton
        self._folder = run.path / NAME
        self._socket = run.sockets / f"{NAME}.sock:1"  # Triton appends a port, even to a path
        self._prefix = shared_memory_prefix(run.path)
        self._key = secrets.token_urlsafe(24)
        self._wrong: set[tuple[str, int]] = set()
        self._late: Counter[tuple[str, int]] = Counter()

    @property
    def administration(self) -> dict[str, str]:
        """What a service gets that may load models."""
        return {"models": str(self._folder / "models"), "admin_key": self._key}

    def prepare(self) -> None:
        """Fills the model repository and the backends. Raises MeshError; blocks."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        find_program()
        triton_models.fill(self._folder / "models", Path(self._triton.models))
        backends = self._folder / "backends"
        shutil.rmtree(backends, ignore_errors=True)
        # Triton refuses a backend's library outside of its folder, so no links.
        shutil.copytree(SERVER / "pytriton" / "tritonserver" / "backends" / "python", backends / "python")
        shutil.copy2(_stub(), backends / "python")
        for backend in BACKENDS.iterdir():
            if (backend / "model.py").is_file():
                shutil.copytree(backend, backends / backend.name, ignore=shutil.ignore_patterns("__pycache__"))

    def command(self) -> list[str]:
        """The command line, after what a killed server left behind has been removed. Raises TritonError."""
        self.clean()
        (self._run.socket(NAME)).symlink_to(self._socket.name)
        return [
            str(find_program()),
            f"--id={NAME}",
            f"--model-repository={self._folder / 'models'}",
            f"--backend-directory={self._folder / 'backends'}",
            "--model-control-mode=explicit",
            "--disable-auto-complete-config",
            "--exit-on-error=false",
            "--strict-readiness=false",
            f"--exit-timeout-secs={_EXIT_S}",
            "--allow-http=false",
            f"--grpc-address=unix:{self._run.sockets / NAME}.sock",
            "--grpc-port=1",
            f"--grpc-restricted-protocol={_RESTRICTED}:admin-key={self._key}",
            f"--metrics-address=unix:{metrics_socket(self._run.sockets, NAME)}",
            "--metrics-port=1",
            "--allow-gpu-metrics=false",
            "--allow-cpu-metrics=false",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--log-format=ISO8601",
        ]

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Of the server and its models: their Python is the first on PATH, and needs its shared library."""
        libraries = [str(SERVER / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
        kept = {name: value for name, value in given.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        return {
            **kept,
            "PATH": os.pathsep.join([str(PYTHON / "bin"), given.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [given.get("LD_LIBRARY_PATH")])]),
        }

    async def ready(self) -> None:
        """Returns when every version that can be served has answered its golden rows; the caller bounds the wait.

        A version that Triton refuses, or that answers otherwise than recorded, is put aside, and the log says why.
        """
        await health.wait_serving(self._run.socket(NAME))
        self._wrong.clear()
        async with self._connected() as (client, admin):
            try:
                await asyncio.gather(*(self._load(client, admin, name) for name in triton_models.names(admin.models)))
                self.version = await admin.server_version()
            except InferenceError as error:
                raise TritonError(f"{NAME}: {error.message}") from error

    async def watch(self) -> str:
        """Returns why it has to be started again, when it no longer answers."""
        failures = 0
        async with self._connected() as (client, admin):
            while True:
                await asyncio.sleep(self._triton.probe_s)
                problem = await self._probe(client, admin)
                failures = failures + 1 if problem else 0
                if failures >= self._triton.probe_failures:
                    return f"{problem}, {failures} times in a row"

    def clean(self) -> None:
        """Removes what a server that has ended left: sockets, and the shared memory of its models' processes."""
        for path in (self._socket, self._run.socket(NAME), metrics_socket(self._run.sockets, NAME)):
            path.unlink(missing_ok=True)
        for region in _SHARED_MEMORY.glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)

    async def _load(self, client: InferenceClient, admin: InferenceAdmin, model: str) -> None:
        """Again and again without what is refused, until the rest serves."""
        while versions := triton_models.versions(admin.models / model):
            refused = await self._refused(client, admin, model, versions)
            for version, reason in refused.items():
                aside = triton_models.put_aside(admin.models, model, version)
                self._run.note(NAME, f"{model}/{version} is refused, and put aside in {aside}: {reason}")
            if not refused:
                return

    async def _refused(
        self, client: InferenceClient, admin: InferenceAdmin, model: str, versions: list[int]
    ) -> dict[int, str]:
        """Loads a model; the versions that cannot be served, and why."""
        found: dict[int, str] = {}
        try:
            await admin.load(model)
        except InferenceError as error:
            if error.reason in _NO_ANSWER:
                raise
            for one in await admin.index():
                if one.model == model and one.version in versions and one.state == "UNAVAILABLE" and one.reason:
                    found[one.version] = one.reason
            if not found:  # not a version but its config.pbtxt
                self._run.note(NAME, f"{model} is not served: {error.message}")
            return found
        for version in versions:
            try:
                await self._golden(client, admin, model, version)
            except InferenceError as error:
                if error.reason in _NO_ANSWER:
                    self._run.note(NAME, error.message)
                else:
                    found[version] = error.message
        return found

    async def _probe(self, client: InferenceClient, admin: InferenceAdmin) -> str:
        """What is wrong with it; empty when all is well, was mended, or would not be better after another start."""
        try:
            loaded = [one for one in await admin.index(self._triton.probe_timeout_s) if one.state == READY]
        except InferenceError as error:
            return error.message
        problem = ""
        for one in loaded:
            key = (one.model, one.version)
            try:
                await self._golden(client, admin, *key)
                self._late[key] = 0
            except InferenceError as error:
                self._late[key] = self._late[key] + 1 if error.reason == Reason.DEADLINE else 0
                if error.reason == Reason.UNAVAILABLE or self._late[key] >= self._triton.probe_failures:
                    self._late[key] = 0
                    problem = await self._mend(admin, one, error.message)
                elif error.reason != Reason.DEADLINE and key not in self._wrong:
                    self._wrong.add(key)
                    self._run.note(NAME, error.message)
        return problem

    async def _mend(self, admin: InferenceAdmin, one: Loaded, problem: str) -> str:
        """Loads a version again whose process has died: Triton does not. The other versions are left alone.

        What is still wrong; empty when it is mended.
        """
        self._run.note(NAME, f"{problem}; it is loaded again")
        try:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                os.utime(admin.models / one.model / str(one.version) / MODEL)  # so Triton sees a new one
            await admin.load(one.model)
        except InferenceError as error:
            return error.message
        return ""

    async def _golden(self, client: InferenceClient, admin: InferenceAdmin, model: str, version: int) -> None:
        folder = admin.models / model / str(version)
        with contextlib.suppress(FileNotFoundError):  # unloaded meanwhile
            await check_golden(client, model, version, folder, self._triton.probe_timeout_s)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[InferenceClient, InferenceAdmin]]:
        # A pool of its own: gRPC would share the pauses of a connection to the server that was there before.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", authority(NAME))]
        wrapped = grpc.aio.insecure_channel(socket_address(self._run.socket(NAME)), options=options)
        channel = Channel("supervisor", wrapped, NAME)
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(cast(grpc.aio.Channel, channel))
        server = ModelServer(models=self._folder / "models", admin_key=self._key)
        try:
            yield InferenceClient(stub, failures=_NEVER), InferenceAdmin(stub, server)
        finally:
            await channel.close()


def shared_memory_prefix(run: Path) -> str:
    """Of the regions in /dev/shm that belong to a run."""
    return f"alphamesh-{hashlib.sha256(os.fsencode(run.absolute())).hexdigest()[:12]}-"


def find_program() -> Path:
    """tritonserver, where the Makefile installs it. Raises TritonError."""
    program = SERVER / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    if not program.is_file() or not (PYTHON / "bin" / "python3").exists():
        raise TritonError(
            f"Triton is not installed in {SERVER} and {PYTHON}; run `make setup-triton`, or write "
            "`triton: {enabled: false}` in the topology to go on without models"
        )
    return program


def _stub() -> Path:
    """What runs a model's process, for this Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = SERVER / "pytriton" / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise TritonError(f"Triton's package has nothing for Python {version}; use 3.11, 3.12 or 3.13")
    return stub
