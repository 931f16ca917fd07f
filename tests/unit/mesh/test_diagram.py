"""The drawn topology, read back as XML."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from typer.testing import CliRunner

from mesh import diagram, topology
from mesh.commands.app import app

SVG = "{http://www.w3.org/2000/svg}"


def drawn(mesh: topology.Topology) -> ElementTree.Element:
    return ElementTree.fromstring(diagram.svg(mesh))


def test_every_service_client_and_stream_is_there_and_every_edge_names_its_methods():
    mesh = topology.load()
    picture = drawn(mesh)
    texts = {text.text for text in picture.iter(f"{SVG}text")}
    owners = [*mesh.services, *mesh.clients]
    assert {owner.name for owner in owners} | set(mesh.event_log.streams) | {"event log"} <= texts
    edges = [path.findtext(f"{SVG}title") for path in picture.iter(f"{SVG}path") if path.get("class") == "edge"]
    expected = {
        "\n".join([f"{owner.name} calls {call.service}", *call.methods]) for owner in owners for call in owner.calls
    }
    assert set(edges) == expected
    assert len(edges) == len(expected)


def test_no_two_boxes_overlap_and_all_are_inside():
    picture = drawn(topology.load())
    width, height = map(float, picture.get("viewBox").split()[2:])
    boxes = [
        tuple(float(rect.get(key)) for key in ("x", "y", "width", "height"))
        for rect in picture.iter(f"{SVG}rect")
        if rect.get("class")
    ]
    for n, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert x + w <= width
        assert y + h <= height
        for x2, y2, w2, h2 in boxes[:n]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_it_is_the_same_every_time():
    assert diagram.svg(topology.load()) == diagram.svg(topology.load())


def test_the_command_draws_lists_and_refuses(tmp_path):
    file = tmp_path / "mesh.svg"
    shown = CliRunner().invoke(app, ["topology", "--svg", str(file)])
    assert shown.exit_code == 0, shown.output
    assert (
        "technical_agent (public, clearance public)\n  calls market_data: MarketDataService/GetSnapshot" in shown.stdout
    )
    assert f"drawn in {file}" in shown.stdout
    ElementTree.parse(file)
    facts = json.loads(CliRunner().invoke(app, ["topology", "--json"]).stdout)
    assert facts["streams"]["execution"] == {
        "writer": "execution", "readers": ["audit", "operator", "portfolio", "risk"],
    }  # fmt: skip
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nservices:\n  a: {calls: {b: []}}\n")
    refused = CliRunner().invoke(app, ["topology", "--topology", str(bad)])
    assert refused.exit_code == 1
    assert f"{bad}:3: a calls 'b', which is no service" in refused.stderr
    nowhere = CliRunner().invoke(app, ["topology", "--svg", str(tmp_path / "none" / "x.svg")])
    assert nowhere.exit_code == 1
    assert "give --svg another path" in nowhere.stderr
