"""The tree of a trace, and where its bars lie."""

from __future__ import annotations

import pytest

from alphamesh.audit.v1 import trace_pb2
from mesh import trace_tree
from mesh.metrics import quantile
from mesh.trace_tree import BAR, bar, build, joined, walk

Span = trace_pb2.Span


def span(name: str, number: int, parent: int = 0, kind: int = Span.KIND_INTERNAL, service: str = "a") -> Span:
    return Span(
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else "",
        name=name,
        kind=kind,  # type: ignore[arg-type]
        service=service,
        start_ns=1_000 * number,
        duration_ns=500,
    )


def test_both_ends_of_a_call_are_one_line_and_an_orphan_is_a_root():
    spans = [
        span("decision", 1),
        span("p.S/Do", 2, 1, Span.KIND_CLIENT),
        span("p.S/Do", 3, 2, Span.KIND_SERVER, "b"),
        span("inside", 4, 3, service="b"),
        span("lost its parent", 5, 99),
    ]
    tree = [(depth, node.span.name, node.server and node.server.service) for depth, node in walk(joined(build(spans)))]
    assert tree == [(0, "decision", None), (1, "p.S/Do", "b"), (2, "inside", None), (0, "lost its parent", None)]
    whole = trace_tree.content(trace_pb2.GetTraceResponse(spans=spans))
    assert [(s["depth"], s["name"], s["start_ms"]) for s in whole["spans"]] == [
        (0, "decision", 0.0),
        (1, "p.S/Do", 0.001),
        (2, "p.S/Do", 0.002),
        (3, "inside", 0.003),
        (0, "lost its parent", 0.004),
    ]


def test_a_bar_lies_where_the_span_was():
    assert bar(0, 100, 100) == "█" * BAR
    assert bar(50, 50, 100) == " " * (BAR // 2) + "█" * (BAR // 2)
    assert bar(99, 0, 100).rstrip() == " " * (BAR - 1) + "█"
    assert bar(500, 10, 100) == " " * (BAR - 1) + "»"


def test_quantiles_are_interpolated_within_their_bucket():
    buckets = [(0.001, 50), (0.01, 100), (float("inf"), 100)]
    assert quantile(buckets, 0.25) == 0.0005
    assert quantile(buckets, 0.75) == pytest.approx(0.0055)
    assert quantile([(0.001, 0), (float("inf"), 3)], 0.5) is None
    assert quantile([], 0.5) is None
