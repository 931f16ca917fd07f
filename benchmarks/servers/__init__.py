"""Throw-away servers for benchmarks and tests: PostgreSQL, and a NATS cluster of three."""

from .nats_cluster import NatsCluster
from .postgres import PostgresServer, missing

__all__ = ["NatsCluster", "PostgresServer", "missing"]
