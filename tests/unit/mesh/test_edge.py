"""The edge of a topology: what is read, what is refused, and what is rendered from it."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mesh import topology
from mesh.envoy import discovery, edge, parts, sidecar
from mesh.identity import Authority
from mesh.instances import Group
from mesh.methods import streamed
from mesh.sidecars import find_program
from mesh.tokens import Tokens
from mesh.topology import TopologyError

GOOD = """\
version: 1
services:
  risk: {}
  execution: {}
edge:
  listen: "[::1]:8443"
  names: [mesh.example, 127.0.0.1]
  requests_per_s: 5
  roles:
    viewer:
      calls:
        risk: [alphamesh.risk.v1.RiskService/GetLimits]
    trader:
      includes: [viewer]
      calls:
        execution: [alphamesh.execution.v1.ExecutionService/*]
    chief:
      includes: [trader]
      calls:
        risk: [alphamesh.risk.v1.RiskService/GetLimits, alphamesh.risk.v1.RiskService/SetLimits]
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_text(text: str) -> Path:
        path = tmp_path / "topology.yaml"
        path.write_text(text)
        return path

    return write_text


def test_what_is_written_is_read(write):
    mesh = topology.load(write(GOOD))
    assert (mesh.edge.host, mesh.edge.port, mesh.edge.requests_per_s) == ("::1", 8443, 5)
    risk, execution = "alphamesh.risk.v1.RiskService", "alphamesh.execution.v1.ExecutionService"
    assert mesh.edge.roles["viewer"].methods == (f"{risk}/GetLimits",)
    assert set(mesh.edge.roles["trader"].methods) == {f"{risk}/GetLimits", f"{execution}/*"}
    assert set(mesh.edge.roles["chief"].methods) == {f"{risk}/GetLimits", f"{risk}/SetLimits", f"{execution}/*"}
    assert mesh.edge.owners == {risk: "risk", execution: "execution"}
    assert {call.service: call.methods for call in mesh.front.calls} == {
        "risk": (f"{risk}/GetLimits", f"{risk}/SetLimits"),
        "execution": (f"{execution}/*",),
    }
    assert [process.name for process in mesh.processes] == ["risk", "execution", "edge"]
    assert mesh.without_sidecars().front is None


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('"[::1]:8443"', "8443", 6, "edge.listen cannot be 8443"),
        ('"[::1]:8443"', '":8443"', 6, "edge.listen is no address"),
        ('"[::1]:8443"', '"localhost:99999"', 6, "edge.listen is no address"),
        ("[mesh.example, 127.0.0.1]", "[]", 7, "edge.names is empty"),
        ("requests_per_s: 5", "requests_per_s: 0", 8, "edge.requests_per_s must be more than 0"),
        ("requests_per_s: 5", "request_per_s: 5", 8, "unknown key 'request_per_s'"),
        ("includes: [viewer]", "includes: [viewers]", 14, "role trader includes 'viewers', which is no role"),
        ("includes: [viewer]", "includes: viewer", 14, "includes is no list"),
        ("includes: [viewer]", "includes: [chief]", 14, "roles include each other in a circle: trader -> chief"),
        ("RiskService/GetLimits]\n    trader", "RiskService/GetLimit]\n    trader", 12, "has no method 'GetLimit'"),
        ("        execution: [", "        executions: [", 16, "role trader calls 'executions', which is no service"),
        ("execution.v1.ExecutionService/*", "risk.v1.RiskService/*", 16, "is reached at risk and at execution"),
        ("  risk: {}", "  edge: {}", 3, "'edge' is the name of the edge"),
    ],
)
def test_each_mistake_is_refused_with_file_and_line(write, old, new, line, says):
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(TopologyError) as refused:
        topology.load(path)
    assert says in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert "; " in str(refused.value), "a remedy follows"


def test_an_edge_without_roles_is_refused(write):
    with pytest.raises(TopologyError, match=r":6: edge has no roles"):
        topology.load(write(GOOD[: GOOD.index("  roles:")]))


def test_orders_are_the_traders_and_the_kill_ladder_is_the_risk_officers():
    roles = topology.load().edge.roles
    changes = {"SubmitOrders", "CancelOrder", "ReplaceOrder", "ReserveExposure", "CreateSession"}
    ladder = {"SetTradingState", "SetLimits", "ApplyRiskPolicy"}
    named = {name: {method.partition("/")[2] for method in role.methods} for name, role in roles.items()}
    assert not named["viewer"] & (changes | ladder)
    assert named["trader"] > named["viewer"] | changes
    assert not named["trader"] & ladder
    assert named["risk"] > named["viewer"] | ladder
    assert not named["risk"] & changes


def test_envoy_takes_what_is_rendered_without_a_warning(tmp_path, write):
    mesh = topology.load(write(GOOD))
    own = tmp_path / "own.json"
    authority = Authority(tmp_path / "authority")
    discovery.write_identity(own, authority.issue_server(mesh.edge.names, timedelta(hours=1)))
    streams = streamed(method for role in mesh.edge.roles.values() for method in role.methods)
    assert streams == ["alphamesh.execution.v1.ExecutionService/ReserveExposure"]
    listener = edge.listener(
        *("127.0.0.1", 8443, mesh.edge),
        server=own,
        jwks=Tokens(tmp_path / "tokens").jwks,
        owners=mesh.edge.owners,
        streams=streams,
        log=tmp_path / "denied.jsonl",
    )

    def upstream(owner):
        where = sidecar.fixed(f"edge.{owner}", tmp_path / owner)
        return sidecar.upstream(f"edge.{owner}", Group(service=mesh.service(owner)), own, authority.path, where)

    upstreams = [upstream(owner) for owner in mesh.edge.owners.values()]
    content = parts.bootstrap(
        "edge",
        "edge",
        tmp_path / "admin",
        [listener],
        [sidecar.app(tmp_path / "app"), edge.inside(tmp_path / "egress"), *upstreams],
        most=10,
    )
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(content))
    command = [find_program(), "--mode", "validate", "--config-path", str(path), "--log-level", "warning"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert "deprecated" not in checked.stderr.lower()


def test_a_server_s_certificate_has_the_names_and_no_identity(tmp_path):
    issued = Authority(tmp_path).issue_server(("mesh.example", "10.0.0.1", "::1"), timedelta(hours=1))
    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mesh.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    assert not names.get_values_for_type(x509.UniformResourceIdentifier)


def test_the_key_stays_when_it_is_there_and_the_set_has_its_public_half_only(tmp_path):
    tokens = Tokens(tmp_path)
    assert Tokens(tmp_path).jwks == tokens.jwks
    (key,) = json.loads(tokens.jwks)["keys"]
    assert (key["kty"], key["crv"], key["alg"]) == ("EC", "P-256", "ES256")
    assert "d" not in key


def test_a_viewer_sees_the_agents_and_a_trader_pauses_them():
    roles, decisions = topology.load().edge.roles, "alphamesh.decision.v1.DecisionService"
    reads, changes = (
        {f"{decisions}/{name}" for name in names}
        for names in (("ListAgents", "GetAgent"), ("PauseAgent", "ResumeAgent"))
    )
    for name, role in roles.items():
        assert reads <= set(role.methods)
        assert changes & set(role.methods) == (changes if name == "trader" else set())
