"""A PostgreSQL server for the time of a test run: that of the benchmarks, without their durability."""

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.bench import postgresql
from conformance.bench.postgresql import NoPostgresql, programs

__all__ = ["NoPostgresql", "programs", "running"]


@contextmanager
def running() -> Iterator[str]:
    """As `conformance.bench.postgresql.running`: a power cut may cost a test its database."""
    with postgresql.running(durable=False) as url:
        yield url
