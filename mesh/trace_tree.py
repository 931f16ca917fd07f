"""One trace as a tree with a bar for each span, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc

from alphamesh.audit.v1 import trace_pb2

from . import tables

BAR = 32  # characters
Kind = trace_pb2.Span.Kind
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_TYPES = "alphamesh.event.types"


@dataclass
class Node:
    """A span with what it led to. `server` is the other end of a call, when that is all there is below it."""

    span: trace_pb2.Span
    children: list[Node] = field(default_factory=list)
    server: trace_pb2.Span | None = None


def build(spans: Sequence[trace_pb2.Span]) -> list[Node]:
    """The roots, by start: the first span, and each whose parent was not kept."""
    nodes = {span.span_id: Node(span) for span in spans}
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.span.parent_span_id)
        (roots if parent is None else parent.children).append(node)
    return roots


def joined(nodes: Sequence[Node]) -> list[Node]:
    """The same tree where both ends of a call are one node."""
    made = []
    for node in nodes:
        span, children, server = node.span, node.children, None
        if span.kind == Kind.KIND_CLIENT and len(children) == 1:
            other = children[0].span
            if other.kind == Kind.KIND_SERVER and other.name == span.name:
                server, children = other, children[0].children
        made.append(Node(span, joined(children), server))
    return made


def walk(nodes: Sequence[Node], depth: int = 0) -> Iterator[tuple[int, Node]]:
    """(depth, node), parents before their children, by start."""
    for node in sorted(nodes, key=lambda node: node.span.start_ns):
        yield depth, node
        yield from walk(node.children, depth + 1)


def content(answer: trace_pb2.GetTraceResponse) -> dict[str, Any]:
    """All of it for `--json`; spans in the order of the tree, times in milliseconds from the first."""
    begin = min(span.start_ns for span in answer.spans)
    return {
        "trace_id": answer.trace.trace_id,
        "decision_id": answer.trace.decision_id or None,
        "start": _iso(begin),
        "failed_spans": answer.trace.failed_spans,
        "dropped_spans": answer.trace.dropped_spans,
        "spans": [
            {
                "depth": depth,
                "span_id": node.span.span_id,
                "parent_span_id": node.span.parent_span_id or None,
                "service": node.span.service,
                "name": node.span.name,
                "kind": Kind.Name(node.span.kind).removeprefix("KIND_"),
                "start_ms": _ms(node.span.start_ns - begin),
                "duration_ms": _ms(node.span.duration_ns),
                "status": _status(node.span) or None,
                "failed": node.span.failed,
                "error": node.span.error or None,
                "attributes": dict(sorted(node.span.attributes.items())),
            }
            for depth, node in walk(build(answer.spans))
        ],
    }


def show(answer: trace_pb2.GetTraceResponse) -> None:
    """Prints the tree. Readers of the event log that come later than everything else stand at the right edge."""
    spans = answer.spans
    begin = min(span.start_ns for span in spans)
    ends = [s.start_ns + s.duration_ns for s in spans if s.kind != Kind.KIND_CONSUMER]
    width = max(max(ends, default=begin + 1) - begin, 1)
    about = f"decision {answer.trace.decision_id}, " if answer.trace.decision_id else ""
    title = f"Trace {answer.trace.trace_id}: {about}{_iso(begin)}, {len(spans)} spans"
    shown = tables.table(title, "at ms", "ms", "", "span", "service", "status", numbers=frozenset({"at ms", "ms"}))
    for depth, node in walk(joined(build(spans))):
        span = node.span
        status = _status(span) + (f": {span.error}" if span.failed and span.error else "")
        shown.add_row(
            f"{_ms(span.start_ns - begin):.2f}",
            f"{_ms(span.duration_ns):.2f}",
            bar(span.start_ns - begin, span.duration_ns, width),
            "  " * depth + _label(span),
            f"{span.service} > {node.server.service}" if node.server is not None else span.service,
            f"[red]{status}[/red]" if span.failed else status,
        )
    tables.console.print(shown)
    if answer.trace.dropped_spans:
        tables.console.print(f"{answer.trace.dropped_spans} more spans were over the limit and not kept")


def show_list(traces: Sequence[trace_pb2.TraceSummary]) -> None:
    """Prints what traces there are."""
    numbers = frozenset({"spans", "failed"})
    shown = tables.table("Traces, newest first", "trace", "decision", "start", "spans", "failed", numbers=numbers)
    for trace in traces:
        failed = f"[red]{trace.failed_spans}[/red]" if trace.failed_spans else ""
        shown.add_row(trace.trace_id, trace.decision_id, _iso(trace.start_ns), str(trace.spans), failed)
    tables.console.print(shown)


def bar(start: int, length: int, width: int) -> str:
    """Where in `width` a span lies; at least one character; what is past the end is an arrow at the edge."""
    first = start * BAR // width
    if first >= BAR:
        return " " * (BAR - 1) + "»"
    last = min(max(-(-(start + length) * BAR // width), first + 1), BAR)
    return " " * first + "█" * (last - first) + " " * (BAR - last)


def _label(span: trace_pb2.Span) -> str:
    if span.kind in (Kind.KIND_CLIENT, Kind.KIND_SERVER):
        return span.name.rpartition("/")[2]
    types = span.attributes.get(_TYPES, "")
    return f"{span.name}: {types}" if types else span.name


def _status(span: trace_pb2.Span) -> str:
    if span.HasField("status_code"):
        return _CODES.get(span.status_code, str(span.status_code))
    return "failed" if span.failed else ""


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
