"""The edge of a real system: real Envoys, real services, callers with real tokens, and everything that is refused."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import pkgutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import alphamesh
from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.type.v1 import trading_pb2
from mesh import topology
from mesh.rundir import RunDir
from mesh.session import Wish, spec
from mesh.tokens import AUDIENCE, ISSUER, Tokens

from ..conftest import alphamesh as command

Code = grpc.StatusCode
RATE, LARGEST = 20, 65_536
PATIENCE_S = 30
BUF = Path(sys.executable).with_name("buf")


class Outside:
    """What somebody outside has: an address, the authority's certificate, and perhaps a token."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        edge = run.state()["edge"]
        self.address, self.authority = edge["address"], Path(edge["authority"])
        self.tokens = Tokens.of_run(run.path)

    def token(self, role: str, subject: str | None = None) -> str:
        """A subject of its own has a rate of its own."""
        return self.tokens.issue(subject or f"test-{uuid.uuid4()}", role, timedelta(minutes=10))

    def channel(self, token: str | None = None, **headers: str) -> grpc.aio.Channel:
        trust = grpc.ssl_channel_credentials(self.authority.read_bytes())
        metadata = [*headers.items(), *([("authorization", f"Bearer {token}")] if token else [])]
        interceptors = [_Unary(metadata), _Stream(metadata), _Duplex(metadata)]
        options = [("grpc.enable_retries", 0)]
        return grpc.aio.secure_channel(self.address, trust, interceptors=interceptors, options=options)

    def refusals(self, service: str = "edge") -> list[dict[str, str]]:
        """What the log of refused calls holds; Envoy flushes it every 100 ms."""
        time.sleep(0.3)
        return [json.loads(line) for line in self.run.log(f"{service}.denied").read_text().splitlines()]


class _Sends:
    def __init__(self, metadata: list[tuple[str, str]]) -> None:
        self._metadata = metadata

    def _with(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *((k.replace("_", "-"), v) for k, v in self._metadata))
        return details._replace(metadata=metadata)


class _Unary(_Sends, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(self._with(details), request)


class _Stream(_Sends, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(self._with(details), request)


class _Duplex(_Sends, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation, details, requests):
        return await continuation(self._with(details), requests)


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    """The real system, with a rate and a size that a test can exceed."""
    text = topology.DEFAULT_PATH.read_text()
    for key, value in (("requests_per_s", RATE), ("max_request_bytes", LARGEST)):
        old = getattr(topology.load().edge, key)
        assert f"  {key}: {old}" in text
        text = text.replace(f"  {key}: {old}", f"  {key}: {value}")
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        path, file = Path(folder) / "run", Path(folder) / "topology.yaml"
        file.write_text(text)
        started = command("up", "--detach", "--data-dir", path, "--topology", file, timeout=200)
        assert started.returncode == 0, started.stderr
        edge = RunDir(path).state()["edge"]
        assert f"edge: {edge['address']}, authority {edge['authority']}; `alphamesh token`" in started.stdout
        yield Outside(RunDir(path))
        stopped = command("down", "--data-dir", path)
        assert stopped.returncode == 0, stopped.stderr


def contracts() -> list[MethodDescriptor]:
    """Every method of every contract."""
    found = []
    for module in pkgutil.walk_packages(alphamesh.__path__, "alphamesh."):
        if not module.name.endswith("_pb2"):
            continue
        services = importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()
        found += [method for service in services for method in service.methods]
    assert len(found) > 70
    return found


async def outcome(channel: grpc.aio.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    """How an empty request ends. A stream that is not refused at once was let through.

    A refusal that comes while gRPC still writes is INTERNAL ("Internal error from Core", "RST_STREAM"), which says
    nothing of the refusal: the call is made again.
    """
    for _ in range(20):
        code = await _outcome(channel, method)
        if not (code is Code.INTERNAL and method.client_streaming):
            break
    return code


async def _outcome(channel: grpc.aio.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            call = channel.stream_stream(path)(iter([b""]), timeout=PATIENCE_S)
        elif method.server_streaming:
            call = channel.unary_stream(path)(b"", timeout=PATIENCE_S)
        else:
            await channel.unary_unary(path)(b"", timeout=PATIENCE_S)
            return Code.OK
        answers = call.__aiter__()
        try:
            async with asyncio.timeout(3):
                await anext(answers, None)
        except TimeoutError:
            pass
        call.cancel()
        return Code.OK
    except grpc.aio.AioRpcError as error:
        return error.code()


def name_of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def allows(methods: tuple[str, ...], method: str) -> bool:
    return method in methods or f"{method.partition('/')[0]}/*" in methods


@pytest.mark.parametrize("role", ["viewer", "trader", "risk"])
async def test_a_role_may_call_what_the_topology_says_and_nothing_else(outside: Outside, role: str) -> None:
    known = topology.load().edge.roles[role].methods
    let_through, refused = set(), set()
    for method in contracts():
        async with outside.channel(outside.token(role)) as channel:
            code = await outcome(channel, method)
        assert code not in (Code.UNAUTHENTICATED, Code.DEADLINE_EXCEEDED), name_of(method)
        (refused if code is Code.PERMISSION_DENIED else let_through).add(name_of(method))
    assert let_through == {name_of(method) for method in contracts() if allows(known, name_of(method))}
    assert refused, "nothing was refused"
    # Said once more by hand, so that a slip in the topology is seen.
    execution = "alphamesh.execution.v1.ExecutionService"
    assert (f"{execution}/SubmitOrders" in let_through) == (role == "trader")
    assert (f"{execution}/CancelOrder" in let_through) == (role == "trader")
    assert (f"{execution}/SetTradingState" in let_through) == (role == "risk")
    assert (f"{execution}/ApplyRiskPolicy" in let_through) == (role == "risk")
    assert ("alphamesh.risk.v1.RiskService/SetTradingState" in let_through) == (role == "risk")
    assert f"{execution}/ListOrders" in let_through
    assert not any("StateService" in name or "Training" in name for name in let_through)


async def test_a_role_that_no_topology_knows_may_call_nothing(outside: Outside) -> None:
    async with outside.channel(outside.token("superuser")) as channel:
        for method in (contracts()[0], health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]):
            assert await outcome(channel, method) is Code.PERMISSION_DENIED


async def test_the_identity_of_the_edge_may_call_what_the_roles_may_and_nothing_else(outside: Outside) -> None:
    """Past the listener: whoever had taken the edge over."""
    mesh = topology.load()
    allowed = {call.service: call.methods for call in mesh.edge.calls}
    path = outside.run.egress("edge")
    for callee, methods in allowed.items():
        options = [("grpc.default_authority", f"{callee}.mesh"), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
            for method in contracts():
                if not allows(methods, name_of(method)):
                    assert await outcome(channel, method) is Code.PERMISSION_DENIED, (callee, name_of(method))
    assert outside.refusals()[-1]["caller"] == "spiffe://alphamesh.local/edge"
    for callee in {service.name for service in mesh.services} - set(allowed):  # an edge that does not exist
        async with grpc.aio.insecure_channel(
            f"unix:{path}", options=[("grpc.default_authority", f"{callee}.mesh")]
        ) as channel:
            assert await outcome(channel, contracts()[0]) is Code.PERMISSION_DENIED


def claims(**changes: object) -> dict[str, object]:
    now = datetime.now(UTC)
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "role": "risk", "iat": now, "exp": now + timedelta(hours=1)}
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def forged(outside: Outside, kind: str) -> str | None:
    key = outside.tokens._key
    past = datetime.now(UTC) - timedelta(minutes=5)
    sign = {
        "another key": lambda: jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        "another run": lambda: Tokens(Path(tempfile.mkdtemp())).issue("eve", "risk", timedelta(hours=1)),
        "expired": lambda: jwt.encode(claims(exp=past), key, algorithm="ES256"),
        "too long": lambda: jwt.encode(claims(exp=past + timedelta(days=8)), key, algorithm="ES256"),
        "no end": lambda: jwt.encode(claims(exp=None), key, algorithm="ES256"),
        "another audience": lambda: jwt.encode(claims(aud="somewhere"), key, algorithm="ES256"),
        "no audience": lambda: jwt.encode(claims(aud=None), key, algorithm="ES256"),
        "another issuer": lambda: jwt.encode(claims(iss="eve"), key, algorithm="ES256"),
        "unsigned": lambda: jwt.encode(claims(), None, algorithm="none"),
        "public key as secret": lambda: jwt.encode(claims(), outside.tokens.jwks.encode().hex(), algorithm="HS256"),
        "garbage": lambda: "not.a.token",
    }
    return None if kind == "nothing" else sign[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "nothing", "another key", "another run", "expired", "too long", "no end", "another audience", "no audience",
        "another issuer", "unsigned", "public key as secret", "garbage",
    ],
)  # fmt: skip
async def test_without_a_good_token_nothing_is_answered(outside: Outside, kind: str) -> None:
    async with outside.channel(forged(outside, kind), x_alphamesh_user="alice", x_alphamesh_role="risk") as channel:
        for name in ("ListOrders", "SetTradingState"):
            method = execution_pb2.DESCRIPTOR.services_by_name["ExecutionService"].methods_by_name[name]
            assert await outcome(channel, method) is Code.UNAUTHENTICATED
        check = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]
        assert await outcome(channel, check) is Code.UNAUTHENTICATED
    line = outside.refusals()[-1]
    assert line["method"] == "/grpc.health.v1.Health/Check"
    assert line["status"] == "Unauthenticated"
    assert line["user"] is None, "a header that the caller made up"


async def test_nobody_can_say_that_he_is_somebody_else(outside: Outside) -> None:
    made_up = {"x_alphamesh_user": "mallory", "x_alphamesh_role": "risk", "x_alphamesh_caller": "coordinator"}
    method = execution_pb2.DESCRIPTOR.services_by_name["ExecutionService"].methods_by_name["SetTradingState"]
    async with outside.channel(outside.token("viewer", "alice"), **made_up) as channel:
        assert await outcome(channel, method) is Code.PERMISSION_DENIED
    line = outside.refusals()[-1]
    assert (line["user"], line["role"]) == ("alice", "viewer")
    # A member of the mesh speaks for nobody either: only the edge does.
    egress = outside.run.egress("operator")
    options = [("grpc.default_authority", "coordinator.mesh")]
    async with grpc.aio.insecure_channel(f"unix:{egress}", options=options) as channel:
        stub = decision_pb2_grpc.DecisionServiceStub(channel)
        assert await stub.ListSessions(decision_pb2.ListSessionsRequest(), timeout=PATIENCE_S) is not None
        for header in ("x-alphamesh-user", "x-alphamesh-role"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ListSessions(
                    decision_pb2.ListSessionsRequest(), metadata=[(header, "alice")], timeout=PATIENCE_S
                )
            assert refused.value.code() is Code.PERMISSION_DENIED
    assert outside.refusals("coordinator")[-1]["caller"] == "spiffe://alphamesh.local/operator"


async def test_a_client_that_is_too_fast_is_slowed_and_nobody_else(outside: Outside) -> None:
    method = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]
    async with (
        outside.channel(outside.token("viewer", "hasty")) as hasty,
        outside.channel(outside.token("viewer", "calm")) as calm,
    ):
        codes = await asyncio.gather(*(outcome(hasty, method) for _ in range(10 * RATE)))
        assert await outcome(calm, method) is Code.OK
        assert set(codes) == {Code.OK, Code.RESOURCE_EXHAUSTED}
        assert codes.count(Code.OK) >= RATE
        await asyncio.sleep(1.5)
        assert await outcome(hasty, method) is Code.OK


async def test_a_request_that_is_too_large_is_refused_and_a_long_stream_is_not(outside: Outside) -> None:
    async with outside.channel(outside.token("trader")) as channel:
        stub = execution_pb2_grpc.ExecutionServiceStub(channel)
        for size, code in ((LARGEST // 2, Code.INVALID_ARGUMENT), (2 * LARGEST, Code.RESOURCE_EXHAUSTED)):
            large = execution_pb2.GetOrderRequest(client_order_id="x" * size)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetOrder(large, timeout=PATIENCE_S)
            assert refused.value.code() in (code, Code.NOT_FOUND if size < LARGEST else code)
        assert refused.value.details() == f"the request is larger than {LARGEST} bytes; send it in parts"

        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(file_by_filename="x" * 2_000) for _ in range(100)]
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter(asked), timeout=PATIENCE_S)]
        assert len(answers) == len(asked)
        assert sum(request.ByteSize() for request in asked) > 2 * LARGEST

        batches = iter([execution_pb2.ReserveExposureRequest(account_id="x" * 2 * LARGEST)])
        with pytest.raises(grpc.aio.AioRpcError) as answered:
            async for _ in stub.ReserveExposure(batches, timeout=PATIENCE_S):
                pass
        assert answered.value.code() in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)


async def test_health_is_that_of_the_service_asked_for(outside: Outside) -> None:
    async with outside.channel(outside.token("viewer")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *topology.load().edge.owners):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.Check(health_pb2.HealthCheckRequest(service="alphamesh.training.v1.TrainingService"))
        assert unknown.value.code() is Code.NOT_FOUND


def curl(outside: Outside, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        *(BUF, "curl", "--protocol", "grpc", "--cacert", outside.authority),
        *("--reflect-header", "*", "-H", f"Authorization: Bearer {token}", *arguments),
    ]
    with tempfile.TemporaryDirectory() as elsewhere:  # no contract at hand: everything is learnt by reflection
        return subprocess.run(
            [*map(str, command)], cwd=elsewhere, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )


def test_buf_curl_needs_no_more_than_the_address_the_authority_and_a_token(outside: Outside) -> None:
    issued = command("token", "--role", "viewer", "--subject", "bob", "--hours", "1", "--data-dir", outside.run.path)
    assert issued.returncode == 0, issued.stderr
    token = issued.stdout.strip()
    url = f"https://{outside.address}"
    listed = curl(outside, token, "--list-services", url)
    assert listed.returncode == 0, listed.stderr
    assert set(listed.stdout.split()) == {*topology.load().edge.owners, "grpc.health.v1.Health"}
    called = curl(outside, token, f"{url}/alphamesh.marketdata.v1.MarketDataService/ListInstruments")
    assert called.returncode == 0, called.stderr
    assert {"AAPL", "MSFT"} <= {item["instrumentId"] for item in json.loads(called.stdout)["instruments"]}
    refused = curl(outside, token, "-d", "{}", f"{url}/alphamesh.execution.v1.ExecutionService/SubmitOrders")
    assert refused.returncode != 0
    assert "permission_denied" in refused.stderr
    for log in (outside.run.path / "logs").iterdir():
        assert token not in log.read_text(), log
    assert token not in (outside.run.path / "supervisor.json").read_text()


async def test_the_kill_ladder_from_outside(outside: Outside) -> None:
    wish = Wish(
        start=date(2010, 1, 4), end=date(2010, 1, 6), instruments=("AAPL", "IBM"), account="demo", cash="100000",
        currency="USD", method="MEAN_VARIANCE", lookback=63, risk_aversion=5.0, maximum_weight=0.35,
        maximum_turnover=0.25, short_allowed=False, seed=7,
    )  # fmt: skip
    async with outside.channel(outside.token("trader", "tom")) as channel:
        decisions = decision_pb2_grpc.DecisionServiceStub(channel)
        request = decision_pb2.CreateSessionRequest(request_id=str(uuid.uuid4()), spec=spec(wish))
        created = await decisions.CreateSession(request, timeout=PATIENCE_S)
        watch = decision_pb2.WatchSessionRequest(session_id=created.session.session_id, from_seq=1)
        ended = [answer async for answer in decisions.WatchSession(watch, timeout=2 * PATIENCE_S)][-1]
        assert ended.session.state == decision_pb2.Session.STATE_SUCCEEDED, ended.session.reason

    step = execution_pb2.SetTradingStateRequest(
        request_id=str(uuid.uuid4()), account_id="demo", trading_state=trading_pb2.TRADING_STATE_HALTED, reason="drill"
    )
    async with outside.channel(outside.token("viewer", "vera")) as channel:
        stub = execution_pb2_grpc.ExecutionServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SetTradingState(step, timeout=PATIENCE_S)
        assert refused.value.code() is Code.PERMISSION_DENIED
        line = outside.refusals()[-1]
        assert (line["user"], line["role"], line["method"]) == (
            "vera", "viewer", "/alphamesh.execution.v1.ExecutionService/SetTradingState"
        )  # fmt: skip
        assert await state(stub) == trading_pb2.TRADING_STATE_ACTIVE
        async with outside.channel(outside.token("risk", "rita"), x_alphamesh_user="mallory") as other:
            await execution_pb2_grpc.ExecutionServiceStub(other).SetTradingState(step, timeout=PATIENCE_S)
        assert await state(stub) == trading_pb2.TRADING_STATE_HALTED
    logged = [json.loads(line) for line in outside.run.log("execution").read_text().splitlines()]
    asked = [line for line in logged if line["event"] == "asked from outside"]
    assert [(line["user"], line["caller"], line["method"]) for line in asked][-1:] == [
        ("rita", "edge", "/alphamesh.execution.v1.ExecutionService/SetTradingState")
    ]


async def state(stub: execution_pb2_grpc.ExecutionServiceStub) -> int:
    answer = await stub.GetAccount(execution_pb2.GetAccountRequest(account_id="demo"), timeout=PATIENCE_S)
    return answer.account.trading_state


def test_the_certificate_names_the_host_and_only_our_authority_vouches_for_it(outside: Outside) -> None:
    host, _, port = outside.address.rpartition(":")
    for name in (host, "localhost"):
        context = ssl.create_default_context(cafile=outside.authority)
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(_connect(host, int(port)), server_hostname=name) as connection:
            assert (connection.version(), connection.selected_alpn_protocol()) == ("TLSv1.3", "h2")
            assert not any(kind == "URI" for kind, _ in connection.getpeercert()["subjectAltName"])
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        ssl.create_default_context(cafile=outside.authority).wrap_socket(
            _connect(host, int(port)), server_hostname="elsewhere.example"
        )
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(_connect(host, int(port)), server_hostname="localhost")


def _connect(host: str, port: int):
    import socket

    return socket.create_connection((host, port), timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--role", "king", "--subject", "a"), "--role king: the edge has no such role; it has viewer, trader, risk"),
        (("--role", "risk", "--subject", "a b"), "--subject 'a b': use 1 to 64 letters"),
        (("--role", "risk", "--subject", "a", "--hours", "1000"), "a token is valid for at most 168 hours here"),
        (("--role", "risk", "--subject", "a", "--hours", "0"), "--hours must be more than 0"),
    ],
)
def test_a_token_that_cannot_be_given_is_refused(outside: Outside, arguments: tuple[str, ...], says: str) -> None:
    refused = command("token", *arguments, "--data-dir", outside.run.path)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert not refused.stdout


def test_keys_are_their_owner_s_only(outside: Outside) -> None:
    for name in ("tokens/tokens.key", "authority/authority.key", "identities/edge-server.json"):
        assert (outside.run.path / "mesh" / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("process", ["edge", "edge-envoy"])
async def test_the_edge_comes_back_at_the_same_address(outside: Outside, process: str) -> None:
    os.kill(outside.run.state()["processes"][process]["pid"], signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        while outside.run.state()["processes"][process]["restarts"] == 0:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
        while True:
            async with outside.channel(outside.token("viewer")) as channel:
                try:
                    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                        raise
                    await asyncio.sleep(0.2)
                else:
                    break
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
