"""Which traces are sampled, and what is counted."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from python_services.kit import telemetry, tracing
from python_services.kit.config import ConfigError
from python_services.kit.metrics import CLIENT, OTHER, SERVER, Figure, Registry
from python_services.kit.otlp import QUEUE, Exporter


def tracer(**settings: float) -> tuple[tracing.Tracer, list[tracing.Span]]:
    kept: list[tracing.Span] = []
    return tracing.Tracer(tracing.Settings(endpoint="", **settings), kept.append), kept


def test_a_decision_has_one_trace_and_all_services_sample_the_same():
    one, _ = tracer(decision_rate=0.1)
    other, _ = tracer(decision_rate=0.1)
    roots = [one.decision_root(f"session-{n:04d}") for n in range(5000)]
    assert roots == [other.decision_root(f"session-{n:04d}") for n in range(5000)]
    assert len({root[3:35] for root in roots}) == 5000
    assert 400 < sum(map(tracing.is_sampled, roots)) < 600
    more, _ = tracer(decision_rate=0.2)
    both = [(tracing.is_sampled(root), tracing.is_sampled(more.decision_root(f"session-{n:04d}")))
            for n, root in enumerate(roots)]  # fmt: skip
    assert (True, False) not in both, "a larger rate keeps what a smaller one keeps"


@pytest.mark.parametrize(("rate", "sampled"), [(0.0, 0), (1.0, 1000)])
def test_rates_nought_and_one_are_exact(rate, sampled):
    traced, _ = tracer(rate=rate)
    assert sum(tracing.is_sampled(traced.root()) for _ in range(1000)) == sampled


@pytest.mark.parametrize(
    "value",
    ["", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 32 + "-" + "0" * 16 + "-01", "01-x", "00-é"],
)
def test_a_malformed_context_starts_a_new_trace(value):
    context, parent = tracing.arriving(value)
    assert telemetry.well_formed(context)
    assert parent == ""


def test_what_is_kept():
    traced, kept = tracer(rate=0.0, slow_ms=1.0)
    context = traced.root()
    said = {"rpc.method": "M"}

    def finish(code, elapsed_ns=1, endless=False):
        traced.finish(context, "", "M", tracing.SERVER, elapsed_ns, lambda: said, code=code, endless=endless)
        return bool(kept) and kept.pop() is not None

    assert not finish(grpc.StatusCode.OK)
    assert not finish(grpc.StatusCode.NOT_FOUND)
    assert not finish(grpc.StatusCode.CANCELLED)
    assert finish(grpc.StatusCode.UNAVAILABLE)
    assert finish(grpc.StatusCode.OK, 2_000_000)
    assert not finish(grpc.StatusCode.OK, 2_000_000, endless=True)


def test_baggage_names_the_decision_and_nothing_else():
    assert telemetry.decision_in("a=b, decision_id=s-0001,c=d") == "s-0001"
    assert telemetry.decision_in("other_decision_id=s-0001") == ""
    assert telemetry.decision_in("decision_id=" + "x" * 500)[:1] == "x"
    assert telemetry.decision_in('decision_id="\n') == ""


async def test_a_full_queue_drops_and_counts_and_never_waits():
    exporter = Exporter("http://127.0.0.1:1", "test", "1")
    traced = tracing.Tracer(tracing.Settings(endpoint="", rate=1.0), exporter.keep)
    context = traced.root()
    for _ in range(QUEUE + 10):
        traced.finish(context, "", "M", tracing.SERVER, 1, dict, code=grpc.StatusCode.OK)
    assert (exporter.waiting, exporter.dropped) == (QUEUE, 10)
    running = asyncio.create_task(exporter.run())
    await asyncio.sleep(0.8)
    assert not running.done(), "nobody listens, and nothing happens"
    assert exporter.waiting == QUEUE
    running.cancel()
    await exporter.close()


def test_an_endpoint_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="use http://HOST:PORT"):
        Exporter("jaeger", "test", "1")


def test_metrics_in_both_formats():
    registry = Registry()
    for elapsed_ns in (50_000, 3_000_000, 60_000_000_000):
        registry.calls(SERVER, "/a.v1.S/M", 'we"ird').observe(grpc.StatusCode.OK, elapsed_ns, "ab" * 16)
    registry.calls(CLIENT, "/a.v1.S/M", "callee").observe(grpc.StatusCode.UNAVAILABLE, 1)
    registry.add(Figure(name="alphamesh_x_total", help="X.", read=lambda: 7))
    text = registry.render("svc")
    labels = 'service="svc",rpc_service="a.v1.S",rpc_method="M",caller="we\\"ird"'
    assert f'alphamesh_rpc_server_requests_total{{{labels},code="OK"}} 3' in text
    assert f'alphamesh_rpc_server_duration_seconds_bucket{{{labels},le="0.0001"}} 1' in text
    assert f'alphamesh_rpc_server_duration_seconds_bucket{{{labels},le="0.005"}} 2' in text
    assert f'alphamesh_rpc_server_duration_seconds_bucket{{{labels},le="10"}} 2' in text
    assert f'alphamesh_rpc_server_duration_seconds_bucket{{{labels},le="+Inf"}} 3' in text
    assert f"alphamesh_rpc_server_duration_seconds_sum{{{labels}}} 60.00305" in text
    assert 'rpc_method="M",callee="callee",code="UNAVAILABLE"} 1' in text
    assert "# TYPE alphamesh_x_total counter\nalphamesh_x_total{" in text
    assert "trace_id" not in text
    open_metrics = registry.render("svc", exemplars=True)
    assert f'le="0.0001"}} 1 # {{trace_id="{"ab" * 16}"}} 5e-05 ' in open_metrics
    assert "# TYPE alphamesh_x counter\nalphamesh_x_total{" in open_metrics
    assert open_metrics.endswith("# EOF\n")


def test_callers_that_name_themselves_cannot_make_labels_without_end():
    registry = Registry()
    for number in range(1000):
        registry.calls(SERVER, "/a.v1.S/M", f"caller-{number}").observe(grpc.StatusCode.OK, 1)
    assert registry.render("svc").count('code="OK"') < 100
    assert f'caller="{OTHER}"' in registry.render("svc")
