"""Configuration of the audit service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is read, and how gently.

    streams    streams of the event log, by the service that writes them
    pause_s    between two looks for new events; a read that names a position does not wait for it
    batch      frames of one stream that are applied before other work of the process has its turn
    trace_mb   room for spans; the oldest traces are removed when it is full
    trace_spans  spans of one trace; further ones are counted and not kept
    """

    streams: tuple[str, ...]
    pause_s: float = 1.0
    batch: int = 8
    trace_mb: int = 64
    trace_spans: int = 1000

    def __post_init__(self) -> None:
        if not self.streams or len(set(self.streams)) != len(self.streams):
            raise ValueError("streams is empty or names one twice; list each stream once")
        if not 0.0 < self.pause_s <= 60.0:
            raise ValueError(f"pause_s is {self.pause_s}; use more than 0 and at most 60 seconds")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; use 1 or more")
        if self.trace_mb < 1 or self.trace_spans < 1:
            raise ValueError("trace_mb and trace_spans must be at least 1; raise them")
