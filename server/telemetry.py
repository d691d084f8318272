"""Structured logs (structlog) and metrics (prometheus_client). No patient data: keys come from an allow-list.

A key that is not listed is dropped, and its name is listed under `dropped`, so that a slip shows in the log but its value
does not. Lines of other libraries carry their logger's name and level only: what they say may quote datasets.
"""

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

KEYS = frozenset(
    {
        "event", "level", "timestamp", "role", "pid", "request_id", "door", "method", "route", "status", "error", "error_type",
        "where", "duration_ms", "bytes", "count", "instances", "job", "attempts", "port", "address", "ae_title", "client",
        "logger", "version", "study_pk", "retry_in", "signal", "dropped", "reason_number", "seal",
    }
)  # fmt: skip

REGISTRY = CollectorRegistry()
REQUESTS = Counter("imageshare_http_requests", "HTTP requests by route and status", ["route", "status"], registry=REGISTRY)
SECONDS = Histogram("imageshare_http_seconds", "Time to the first byte of the answer", ["route"], registry=REGISTRY)
AUDIT_WAITING = Gauge(
    "imageshare_audit_waiting",
    "Events that were not sent to the audit repository yet",
    ["repository"],  # with a label, it is made when it is first set: `share` has been called by then
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
AUDIT_OLDEST = Gauge(
    "imageshare_audit_oldest_seconds",
    "Age of the oldest of them",
    ["repository"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
MANIFESTS = Gauge(
    "imageshare_partner_manifests",
    "Manifests of studies that partners have, or are to have",
    ["partner", "state"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def share(folder: str) -> None:
    """Keeps the metrics of this process in files of `folder`, where others keep theirs; before the first of them is counted."""
    os.environ[_FOLDER] = folder
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def metrics() -> bytes:
    """Prometheus text format: of all processes that share a folder together."""
    registry = REGISTRY
    if folder := os.environ.get(_FOLDER):
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _only_listed(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    dropped = sorted(key for key in event if key not in KEYS)
    for key in dropped:
        del event[key]
    if dropped:
        event["dropped"] = dropped
    return event


class _Foreign(logging.Handler):
    """Lines of other libraries: who and how grave, not what."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL),
            "library",
            logger=record.name,
            **failure(record.exc_info[1] if record.exc_info else None),
        )


def configure(role: str, level: str = "INFO") -> None:
    """One JSON object per line on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _only_listed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(role=role)
    logging.basicConfig(level=logging.WARNING, handlers=[_Foreign()], force=True)


def failure(error: BaseException | None) -> dict[str, object]:
    """What may be logged of an exception: its type, its number, and the innermost place; never its text."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    told: dict[str, object] = {"error_type": type(error).__name__}
    if frames:
        told["where"] = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}"
    if number := getattr(error, "number", None):
        told["error"] = number
    return told


def log() -> structlog.typing.FilteringBoundLogger:
    """The logger. `log().info("published", study_pk=7)`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
