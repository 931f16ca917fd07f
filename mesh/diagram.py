"""A topology as a picture: hand-written SVG, with the methods of an edge on hover, and as JSON for programs.

Bands from top to bottom: clients, services by sensitivity, the streams of the event log. Within a band callers stand
above those that they call, so that arrows point down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .topology import SENSITIVITIES, Call, Client, Service, Topology

WIDTH, BOX, HEIGHT, ROW, MARGIN = 1180, 150, 40, 92, 24
LABEL = 120  # of a band, at the left
_COLOURS = {"public": "#e7f5e9", "confidential": "#fff4dc", "restricted": "#fde4e4"}
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c2733 }
.small { font-size: 11px; fill: #5a6876 }
.band { font-weight: 600; fill: #5a6876 }
.box { fill: #ffffff; stroke: #44566c; stroke-width: 1.2 }
.client { fill: #eef3fb; stroke-dasharray: 4 3 }
.stream { fill: #eceaf6; stroke: #5b4c9a }
.edge { fill: none; stroke: #7488a0; stroke-width: 1.4; marker-end: url(#arrow) }
.edge:hover { stroke: #c2410c; stroke-width: 3 }
"""


@dataclass(frozen=True)
class _Box:
    x: float
    y: float

    def port(self, place: int, count: int) -> float:
        """Where the arrow number `place` of `count` meets the box, from the left."""
        return self.x + BOX * (place + 1) / (count + 1)


def data(topology: Topology) -> dict[str, Any]:
    """The topology as it was read: services, clients, streams and who may call or read what."""

    def calls(each: Iterable[Call]) -> dict[str, list[str]]:
        return {call.service: list(call.methods) for call in each}

    return {
        "topology": str(topology.path),
        "services": {
            service.name: {
                "sensitivity": service.sensitivity,
                "clearance": service.clearance,
                "module": service.module,
                "calls": calls(service.calls),
                "reads": list(service.reads),
                "limits": asdict(service.limits),
            }
            for service in topology.callees
        },
        "clients": {
            client.name: {"clearance": client.clearance, "calls": calls(client.calls), "reads": list(client.reads)}
            for client in topology.clients
        },
        "streams": {
            stream: {"writer": stream, "readers": readers(topology, stream)} for stream in topology.event_log.streams
        },
    }


def readers(topology: Topology, stream: str) -> list[str]:
    """Who reads a stream of the event log."""
    return sorted(owner.name for owner in _owners(topology) if stream in owner.reads)


def _owners(topology: Topology) -> list[Service | Client]:
    return [*topology.callees, *topology.clients]


def svg(topology: Topology) -> str:
    """The picture."""
    bands = _bands(topology)
    boxes: dict[str, _Box] = {}
    y, background = float(MARGIN), []
    for label, colour, rows in bands:
        height = ROW * len(rows) + 12
        background.append(
            f'<rect x="{MARGIN}" y="{y:.0f}" width="{WIDTH - 2 * MARGIN}" height="{height}" rx="8" fill="{colour}"/>'
            f'<text class="band" x="{MARGIN + 12}" y="{y + 22:.0f}">{escape(label)}</text>'
        )
        for number, row in enumerate(rows):
            boxes.update(_placed(row, y + 28 + ROW * number, shifted=number % 2 == 1))
        y += height + 12
    edges = [(owner.name, call) for owner in _owners(topology) for call in owner.calls]
    drawn = [
        *background,
        *_edges(edges, boxes),
        *(_box(name, box, topology) for name, box in boxes.items()),
        *_streams(topology, y),
    ]
    total = y + 28 + HEIGHT * 1.4 + MARGIN + 20
    marker = (
        '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#7488a0"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:.0f}" width="{WIDTH}">'
        f"<style>{_STYLE}</style><defs>{marker}</defs>"
        f'<rect width="{WIDTH}" height="{total:.0f}" fill="#ffffff"/>' + "\n".join(drawn) + "</svg>\n"
    )


def _bands(topology: Topology) -> list[tuple[str, str, list[list[str]]]]:
    """(label, colour, rows of names), from top to bottom; none is empty."""
    depth: dict[str, int] = {}
    for service in topology.callees:  # callees come first
        depth[service.name] = 1 + max((depth[callee] for callee in service.callees), default=-1)
    found: list[tuple[str, str, list[list[str]]]] = []
    if topology.clients:
        found.append(("clients", "#f3f4f6", [[client.name for client in topology.clients]]))
    for sensitivity in reversed(SENSITIVITIES):
        names = [service.name for service in topology.callees if service.sensitivity == sensitivity]
        levels = sorted({depth[name] for name in names}, reverse=True)
        if levels:
            rows = [[name for name in names if depth[name] == level] for level in levels]
            found.append((sensitivity, _COLOURS[sensitivity], rows))
    return found


def _placed(names: Sequence[str], y: float, *, shifted: bool) -> Mapping[str, _Box]:
    room = (WIDTH - 2 * MARGIN - LABEL) / len(names)
    aside = min(room - BOX, BOX * 0.9) / 2 if shifted else 0.0  # so that arrows from above pass between boxes
    return {
        name: _Box(MARGIN + LABEL + room * (n + 0.5) - BOX / 2 - aside * (1 if n % 2 else -1), y)
        for n, name in enumerate(names)
    }


def _edges(edges: Sequence[tuple[str, Call]], boxes: Mapping[str, _Box]) -> list[str]:
    def by_place(name: str) -> float:
        return boxes[name].x

    out = {name: sorted((call.service for caller, call in edges if caller == name), key=by_place) for name in boxes}
    into = {name: sorted((caller for caller, call in edges if call.service == name), key=by_place) for name in boxes}
    drawn = []
    for caller, call in edges:
        start, end = boxes[caller], boxes[call.service]
        x1 = start.port(out[caller].index(call.service), len(out[caller]))
        x2 = end.port(into[call.service].index(caller), len(into[call.service]))
        down = end.y > start.y
        y1, y2 = (start.y + HEIGHT, end.y) if down else (start.y, end.y + HEIGHT)
        bend = max(abs(y2 - y1) * 0.5, 30) * (1 if down else -1)
        title = "\n".join([f"{caller} calls {call.service}", *call.methods])
        drawn.append(
            f'<path class="edge" d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} '
            f'{x2:.0f} {y2:.0f}"><title>{escape(title)}</title></path>'
        )
    return drawn


def _box(name: str, box: _Box, topology: Topology) -> str:
    client = name in {each.name for each in topology.clients}
    owner = next(each for each in _owners(topology) if each.name == name)
    reads = f"\nreads the streams {', '.join(owner.reads)}" if owner.reads else ""
    title = f"{name}: clearance {owner.clearance}{reads}"
    return (
        f'<g><title>{escape(title)}</title><rect class={quoteattr("box client" if client else "box")} x="{box.x:.0f}" '
        f'y="{box.y:.0f}" width="{BOX}" height="{HEIGHT}" rx="6"/><text x="{box.x + BOX / 2:.0f}" '
        f'y="{box.y + 25:.0f}" text-anchor="middle">{escape(name)}</text></g>'
    )


def _streams(topology: Topology, y: float) -> list[str]:
    """The event log: one chip for each stream, with who reads it."""
    streams = sorted(topology.event_log.streams)
    label = f'<text class="band" x="{MARGIN + 12}" y="{y + 22:.0f}">event log</text>'
    if not streams:
        return [label]
    room = (WIDTH - 2 * MARGIN - LABEL) / len(streams)
    drawn = [label]
    for n, stream in enumerate(streams):
        x, names = MARGIN + LABEL + room * n, readers(topology, stream)
        title = f"written by {stream}; read by {', '.join(names) or 'nobody'}"
        drawn.append(
            f'<g><title>{escape(title)}</title><rect class="box stream" x="{x:.0f}" y="{y + 8:.0f}" '
            f'width="{room - 10:.0f}" height="{HEIGHT * 1.4:.0f}" rx="16"/>'
            f'<text x="{x + (room - 10) / 2:.0f}" y="{y + 30:.0f}" text-anchor="middle">{escape(stream)}</text>'
            f'<text class="small" x="{x + (room - 10) / 2:.0f}" y="{y + 48:.0f}" text-anchor="middle">'
            f"{len(names)} readers</text></g>"
        )
    return drawn
