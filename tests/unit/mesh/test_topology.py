import re
from pathlib import Path

import pytest
import yaml

from mesh import topology
from mesh.topology import TopologyError
from mesh.topology_reader import ASKED, FETCHED

GOOD = """\
version: 1
services:
  caller:
    calls:
      callee:
        - alphamesh.risk.v1.RiskService/GetLimits
        - alphamesh.venue.v1.VenueService/*
  callee:
    module: somewhere.else
    sensitivity: public
    config:
      folder: $ROOT/data
clients:
  operator:
    calls:
      callee: [alphamesh.risk.v1.RiskService/*]
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_text(text: str) -> Path:
        path = tmp_path / "topology.yaml"
        path.write_text(text)
        return path

    return write_text


def test_the_real_topology_is_sound_and_starts_callees_first():
    mesh = topology.load()
    names = [service.name for service in mesh.services]
    assert set(names) >= {"market_data", "technical_agent", "venue", "execution", "portfolio", "risk", "coordinator"}
    for position, service in enumerate(mesh.services):
        assert set(service.callees) <= {"triton", *names[:position]}
    assert names[-2:] == ["coordinator", "audit"]


def test_what_is_written_is_read(write):
    mesh = topology.load(write(GOOD))
    callee, caller = mesh.services
    assert (callee.name, callee.module, callee.sensitivity) == ("callee", "somewhere.else", "public")
    assert callee.config == {"folder": f"{topology.ROOT}/data"}
    assert caller.module == "python_services.caller"
    assert caller.calls[0].methods[1] == "alphamesh.venue.v1.VenueService/*"
    assert mesh.clients[0].calls[0].service == "callee"
    assert mesh.with_config("callee", {"folder": "x"}).service("callee").config == {"folder": "x"}


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("version: 1", "version: 2", 1, "version must be 1"),
        ("version: 1", "version: 1\ntracing: {collector: jaeger}", 2, "no service and no address"),
        ("version: 1", "version: 1\ntracing: {rate: 1.5}", 2, "use a share from 0 to 1"),
        ("    module: somewhere", "    modul: somewhere", 9, "unknown key 'modul'"),
        ("sensitivity: public", "sensitivity: secret", 10, "unknown sensitivity 'secret'"),
        ("      callee:\n        - alpha", "      calee:\n        - alpha", 6, "calls 'calee', which is no service"),
        ("RiskService/GetLimits", "RiskService/GetLimit", 6, "has no method 'GetLimit'"),
        ("venue.v1.VenueService", "venue.v1.VenuService", 7, "no contract has a service"),
        ("alphamesh.venue.v1.VenueService/*", "VenueService", 7, "not of the form"),
        ("  callee:\n    module", "  caller:\n    module", 8, "has 'caller' twice"),
        ("  callee:\n    module", "  Callee:\n    module", 9, "bad name 'Callee'"),
        ("    config:\n      folder: $ROOT/data", "    config: [1]", 11, "config of callee is no mapping"),
        (
            "  callee:\n    mod",
            "  callee:\n    clearance: confidential\n    calls: {caller: [RISK/*]}\n    mod",
            3,
            "in a circle",
        ),
        ("  callee:\n    mod", "  callee:\n    calls: {callee: [RISK/*]}\n    mod", 9, "calls itself"),
        ("clients:", "event_log: {store: memory}\nclients:", 13, "unknown store 'memory'"),
        ("clients:", "event_log: {servers: 2}\nclients:", 13, "2 servers make no quorum"),
        ("clients:", "event_log: {streams: {nobody: {}}}\nclients:", 13, "stream 'nobody' belongs to no service"),
        ("clients:", "event_log: {streams: {callee: {maximum_mb: -1}}}\nclients:", 13, "maximum_mb cannot be -1"),
        ("clients:", "supervision: {drain_s: soon}\nclients:", 13, "drain_s cannot be 'soon'"),
        ("clients:", "supervision: {drain_s: -1}\nclients:", 13, "drain_s cannot be -1"),
        ("clients:", "clients: }\nx:", 13, "not YAML"),
        ("  operator:\n", "  callee:\n", 15, "'callee' is a service and a client; an identity has one owner"),
        ("  callee:\n    module", "  outside:\n    module", 9, "'outside' is a name of the mesh itself"),
        (
            "    module: somewhere.else",
            "    module: python_services.caller",
            9,
            "caller and callee both run",
        ),
        (
            "sensitivity: public",
            "sensitivity: restricted",
            6,
            "caller calls callee, which is restricted",
        ),
        ("  caller:\n", "  caller:\n    clearance: secret\n", 4, "unknown clearance 'secret'"),
        ("  caller:\n", "  caller:\n    clearance: public\n", 4, "is confidential itself and has the clearance public"),
        ("  operator:\n", "  operator:\n    reads: [callee]\n", 15, "operator reads 'callee', which is no stream"),
    ],
)
def test_each_mistake_is_refused_with_file_and_line(write, old, new, line, says):
    assert old in GOOD
    path = write(GOOD.replace(old, new.replace("RISK", "alphamesh.risk.v1.RiskService"), 1))
    with pytest.raises(TopologyError) as refused:
        topology.load(path)
    assert says in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert "; " in str(refused.value), "a remedy follows"


LABELS = """\
version: 1
event_log: {{streams: {{vault: {{}}}}}}
services:
  vault: {{sensitivity: {sensitivity}}}
clients:
  reader:
    clearance: {clearance}
    {uses}
"""
USES = ("calls: {vault: [alphamesh.risk.v1.RiskService/GetLimits]}", "reads: [vault]")
ORDER = ("public", "confidential", "restricted")


@pytest.mark.parametrize("uses", USES)
@pytest.mark.parametrize("clearance", ORDER)
@pytest.mark.parametrize("sensitivity", ORDER)
def test_nobody_calls_or_reads_what_is_above_its_clearance(write, uses, clearance, sensitivity):
    path = write(LABELS.format(sensitivity=sensitivity, clearance=clearance, uses=uses))
    if ORDER.index(clearance) >= ORDER.index(sensitivity):
        assert topology.load(path).clients[0].clearance == clearance
        return
    with pytest.raises(TopologyError) as refused:
        topology.load(path)
    assert str(refused.value).startswith(f"{path}:8: reader ")
    assert f"vault, which is {sensitivity}, with the clearance {clearance}; remove the edge" in str(refused.value)


def test_a_service_is_cleared_for_its_own_sensitivity_unless_it_says_more(write):
    text = GOOD.replace("  caller:\n", "  caller:\n    sensitivity: public\n    clearance: restricted\n")
    callee, caller = topology.load(write(text)).services
    assert (caller.sensitivity, caller.clearance, callee.clearance) == ("public", "restricted", "public")


@pytest.mark.parametrize("text", ["", "version: 1", "version: 1\nservices: {}", "[]", "version: 1\nservices: 3"])
def test_a_topology_without_services_is_refused(write, text):
    with pytest.raises(TopologyError):
        topology.load(write(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TopologyError, match=r"missing\.yaml: cannot be read"):
        topology.load(tmp_path / "missing.yaml")


def test_the_tests_own_topology_is_sound():
    path = topology.ROOT / "tests" / "services" / "topology.yaml"
    assert [service.name for service in topology.load(path).services] == ["ledger", "reader"]
    assert yaml.safe_load(path.read_text())["version"] == 1


def test_a_cluster_is_asked_for_by_number():
    mesh = topology.load()
    assert (mesh.event_log.servers, mesh.event_log.replicas) == (1, 1)
    cluster = mesh.with_servers(3)
    assert (cluster.event_log.servers, cluster.event_log.replicas) == (3, 3)
    assert cluster.event_log.streams == mesh.event_log.streams
    with pytest.raises(TopologyError, match="4 servers make no quorum; use 1, 3 or 5"):
        mesh.with_servers(4)


def test_every_stream_of_the_real_topology_has_its_event_types():
    from python_services.kit.schemas import CONTRACTS

    assert set(topology.load().event_log.streams) == set(CONTRACTS)


SEVERAL = """\
version: 1
event_log:
  streams:
    keeper: {}
services:
  keeper: {}
  answerer:
    config: {a: 1, b: 2}
    replicas: 2
    versions:
      v2:
        module: somewhere.else
        config: {b: 3}
        weight: 10
"""


def test_versions_differ_in_what_they_say_and_share_the_rest(write):
    from mesh.instances import at_start, groups

    answerer = topology.load(write(SEVERAL)).service("answerer")
    stable, v2 = groups(answerer)
    assert [(g.name, g.weight, g.replicas) for g in (stable, v2)] == [("answerer", 90, 2), ("answerer@v2", 10, 1)]
    assert (stable.module, v2.module) == ("python_services.answerer", "somewhere.else")
    assert (stable.config, v2.config) == ({"a": 1, "b": 2}, {"a": 1, "b": 3})
    assert [instance.name for instance in at_start(answerer)] == ["answerer", "answerer-2", "answerer@v2"]
    assert [instance.name for instance in at_start(answerer, sidecars=False)] == ["answerer"]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            "  keeper: {}\n  answerer",
            "  keeper: {replicas: 2}\n  answerer",
            6,
            "keeper cannot have replicas: it writes a",
        ),
        ("replicas: 2", "replicas: 0", 9, "answerer: replicas cannot be 0; use 1 to 32"),
        ("replicas: 2", "replicas: many", 9, "replicas cannot be 'many'"),
        ("    replicas: 2\n", "", 10, "answerer has versions and no replicas; write `replicas: 1` too"),
        ("weight: 10", "weight: 101", 11, "weights of answerer exceed 100; stable gets the rest"),
        ("v2:", "stable:", 12, "bad name 'stable'; use at most 8 characters"),
        ("v2:", "much_too_long:", 12, "bad name 'much_too_long'"),
        (
            "replicas: 2",
            "replicas: 2\n    sharded_by: Account ID",
            10,
            "sharded_by of answerer is no header: 'Account ID'",
        ),
    ],
)
def test_replicas_that_cannot_be_are_refused_with_file_and_line(write, old, new, line, says):
    assert old in SEVERAL
    path = write(SEVERAL.replace(old, new, 1))
    with pytest.raises(TopologyError) as refused:
        topology.load(path)
    assert f"{path}:{line}: " in str(refused.value)
    assert says in str(refused.value)


MODELS = """\
version: 1
triton:
  models: served
services:
  caller:
    calls:
      triton:
        - inference.GRPCInferenceService/ModelInfer
  other: {}
"""


def test_triton_is_called_like_a_service_and_is_none(write):
    path = write(MODELS)
    (path.parent / "served").mkdir()
    mesh = topology.load(path)
    assert mesh.triton.models == str(path.parent / "served")
    assert sorted(service.name for service in mesh.services) == ["caller", "other"]
    assert [service.name for service in mesh.started] == ["triton", *(service.name for service in mesh.services)]
    assert mesh.service("triton").sensitivity == "confidential"
    off = mesh.without_triton()
    assert off.started == mesh.services
    assert off.service("caller").callees == ("triton",)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("  models: served\n", "  models: elsewhere\n", 3, "there is no folder"),
        ("  models: served\n", "  models: served\n  probe_s: 0\n", 4, "must be more than 0"),
        ("  models: served\n", "  model: served\n", 3, "unknown key 'model'"),
        ("  models: served\n", "  sensitivity: restricted\n  models: served\n", 9, "which is restricted"),
        ("ModelInfer", "Infer", 8, "has no method 'Infer'"),
        ("  other: {}", "  triton: {}", 9, "a name of the mesh itself"),
        ("triton:\n  models: served\n", "", 6, "which is no service"),
    ],
)
def test_a_mistake_about_triton_is_refused_with_its_line(write, old, new, line, says):
    path = write(MODELS.replace(old, new, 1))
    (path.parent / "served").mkdir()
    with pytest.raises(TopologyError) as caught:
        topology.load(path)
    assert f"topology.yaml:{line}:" in str(caught.value)
    assert says in str(caught.value)


AGENTS = """\
version: 1
services:
  market_data: {sensitivity: public}
  coordinator:
    calls:
      market_data: [alphamesh.marketdata.v1.MarketDataService/*]
  mine:
    agent: true
    sensitivity: public
"""


def test_one_entry_makes_an_agent(write):
    mesh = topology.load(write(AGENTS))
    mine, coordinator = mesh.service("mine"), mesh.service("coordinator")
    assert mine.calls == (topology.Call(service="market_data", methods=(FETCHED,)),)
    assert topology.Call(service="mine", methods=(ASKED,)) in coordinator.calls
    assert coordinator.config["agents"] == ["mine"]
    assert [service.name for service in mesh.services] == ["market_data", "mine", "coordinator"]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("agent: true", "agent: perhaps", 8, "write true, or leave it out"),
        ("  coordinator:\n", "  coordinator:\n    config: {agents: [mine]}\n", 5, "remove config.agents"),
        ("  coordinator:\n", "  other:\n", 8, "mine is an agent, and there is no coordinator"),
        ("sensitivity: public\n", "sensitivity: restricted\n", 8, "coordinator calls mine, which is restricted"),
        ("market_data: {sensitivity: public}", "market_data: {sensitivity: confidential}", 8, "mine calls market_data"),
    ],
)
def test_agents_that_cannot_be_asked_are_refused(write, old, new, line, says):
    text = new.join(AGENTS.rsplit(old, 1))
    path = write(text)
    with pytest.raises(topology.TopologyError, match=re.escape(says)) as caught:
        topology.load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_topology_adds_to_another(write, tmp_path):
    mine = topology.load(write("version: 1\nextends: default\nservices:\n  mine: {agent: true, sensitivity: public}\n"))
    default = topology.load()
    assert {service.name for service in mine.services} == {*(s.name for s in default.services), "mine"}
    assert mine.service("coordinator").config["agents"] == [*default.service("coordinator").config["agents"], "mine"]
    assert mine.event_log == default.event_log
    assert mine.triton == default.triton
    replaced = topology.load(
        write("version: 1\nextends: default\ntracing: {}\nservices:\n  technical_agent: {agent: true, module: other}\n")
    )
    assert (replaced.service("technical_agent").module, replaced.tracing.collector) == ("other", "")


def test_a_mistake_is_named_where_it_stands(write, tmp_path):
    (tmp_path / "base.yaml").write_text("version: 1\nservices:\n  one: {sensitivity: secret}\n")
    path = write("version: 1\nextends: base.yaml\n")
    with pytest.raises(TopologyError, match=re.escape(f"{tmp_path / 'base.yaml'}:3: unknown sensitivity 'secret'")):
        topology.load(path)
    with pytest.raises(TopologyError, match=re.escape(f"{path}:2: topologies extend each other in a circle")):
        topology.load(write("version: 1\nextends: topology.yaml\n"))
    with pytest.raises(TopologyError, match="cannot be read"):
        topology.load(write("version: 1\nextends: nowhere.yaml\n"))
