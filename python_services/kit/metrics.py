"""RED per method and caller (requests, errors by code, duration) and a few gauges, as Prometheus reads them.

An own implementation because of what a call may cost: prometheus-client takes several microseconds for one counter
and one histogram with labels, this less than one. Exemplars name a sampled trace for each bucket; they exist in the
OpenMetrics form only. Formats: Prometheus exposition 0.0.4, OpenMetrics 1.0.0.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS_NS = tuple(int(bound * 1e9) for bound in BOUNDS_S)
_MOST_PEERS = 64  # per method: a caller names itself, and labels must stay few
OTHER = "other"
SERVER, CLIENT = "server", "client"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_HELP = {SERVER: "Calls that this service answered", CLIENT: "Calls that this service made"}


class Calls:
    """One method and one peer."""

    __slots__ = ("_buckets", "_exemplars", "_sum_ns", "codes")

    def __init__(self) -> None:
        self.codes: dict[grpc.StatusCode, int] = {}
        self._buckets = [0] * (len(_BOUNDS_NS) + 1)
        self._sum_ns = 0
        self._exemplars: dict[int, tuple[str, int, float]] = {}

    def observe(self, code: grpc.StatusCode, elapsed_ns: int, trace_id: str = "") -> None:
        """One call. trace_id: of a sampled one."""
        self.codes[code] = self.codes.get(code, 0) + 1
        bucket = bisect_left(_BOUNDS_NS, elapsed_ns)
        self._buckets[bucket] += 1
        self._sum_ns += elapsed_ns
        if trace_id:
            self._exemplars[bucket] = (trace_id, elapsed_ns, time.time())

    def histogram(self, name: str, labels: str, exemplars: bool) -> Iterator[str]:
        """The lines of the duration, in seconds."""
        total = 0
        for bucket, count in enumerate(self._buckets):
            total += count
            bound = f"{BOUNDS_S[bucket]:g}" if bucket < len(BOUNDS_S) else "+Inf"
            line = f'{name}_bucket{{{labels},le="{bound}"}} {total}'
            if exemplars and (seen := self._exemplars.get(bucket)) is not None:
                trace_id, elapsed_ns, when = seen
                line += f' # {{trace_id="{trace_id}"}} {elapsed_ns / 1e9:.9g} {when:.3f}'
            yield line
        yield f"{name}_sum{{{labels}}} {self._sum_ns / 1e9:.9g}"
        yield f"{name}_count{{{labels}}} {total}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number that is read when somebody looks. A counter only grows; its name ends in _total."""

    name: str
    help: str
    read: Callable[[], float]
    stream: str = ""

    @property
    def kind(self) -> str:
        """counter or gauge."""
        return "counter" if self.name.endswith("_total") else "gauge"


class Registry:
    """What one process counts."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, dict[str, Calls]]] = {SERVER: {}, CLIENT: {}}
        self._figures: dict[tuple[str, str], Figure] = {}

    def calls(self, side: str, method: str, peer: str) -> Calls:
        """The counts of a method ("/package.Service/Method") and a peer."""
        peers = self._calls[side].setdefault(method, {})
        found = peers.get(peer)
        if found is None:
            if len(peers) >= _MOST_PEERS:
                peer = OTHER
            found = peers.setdefault(peer, Calls())
        return found

    def add(self, figure: Figure) -> None:
        """Shows a number; the last one of a name and a stream counts."""
        self._figures[figure.name, figure.stream] = figure

    def render(self, service: str, *, exemplars: bool = False) -> str:
        """The text of all of it: OpenMetrics with `exemplars`, else Prometheus."""
        lines: list[str] = []
        for side, methods in self._calls.items():
            rows = [
                (_labels(service, side, method, peer), calls)
                for method, peers in sorted(methods.items())
                for peer, calls in sorted(peers.items())
            ]
            counted, timed = f"alphamesh_rpc_{side}_requests", f"alphamesh_rpc_{side}_duration_seconds"
            lines += _head(counted, "counter", f"{_HELP[side]}, by status code.", exemplars)
            for labels, calls in rows:
                for code, count in sorted(calls.codes.items(), key=lambda item: item[0].name):
                    lines.append(f'{counted}_total{{{labels},code="{code.name}"}} {count}')
            lines += _head(timed, "histogram", f"{_HELP[side]}: how long they took; streams to their end.", exemplars)
            for labels, calls in rows:
                lines += calls.histogram(timed, labels, exemplars)
        headed = ""
        for _, figure in sorted(self._figures.items()):
            if figure.name != headed:
                headed = figure.name
                lines += _head(headed.removesuffix("_total"), figure.kind, figure.help, exemplars)
            labels = f'service="{service}"' + (f',stream="{figure.stream}"' if figure.stream else "")
            lines.append(f"{figure.name}{{{labels}}} {figure.read():.15g}")
        if exemplars:
            lines.append("# EOF")
        return "\n".join(lines) + "\n"


# Of this process, set once by `serve`. A process of several services (the local transport) counts nothing.
registry: Registry | None = None


def start() -> Registry:
    """From now on this process counts."""
    global registry
    registry = Registry()
    return registry


def figure(name: str, help: str, read: Callable[[], float], stream: str = "") -> None:  # noqa: A002 - Prometheus' word
    """Shows a number of this process, if it counts at all."""
    if registry is not None:
        registry.add(Figure(name=name, help=help, read=read, stream=stream))


def _head(family: str, kind: str, text: str, open_metrics: bool) -> list[str]:
    name = f"{family}_total" if kind == "counter" and not open_metrics else family
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _labels(service: str, side: str, method: str, peer: str) -> str:
    package, _, name = method.lstrip("/").partition("/")
    other = "caller" if side == SERVER else "callee"
    return f'service="{service}",rpc_service="{package}",rpc_method="{name}",{other}="{_escape(peer)}"'


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
