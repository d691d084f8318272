"""How the server is, for the staff of a site: what waits, how much room there is, what has arrived lately. Nothing of a patient is on it."""

from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from server.edges.pages.browser import Visit
from server.edges.pages.showing import translated as _
from server.edges.pages.wording import day
from server.languages import marked
from server.store.db import micros
from server.work.portal import health
from server.work.portal.desk import require_staff
from server.work.portal.health import Day

_KINDS: Final = marked(
    {
        "publish": "Studies that become visible", "metadata": "Answers that are made ready", "index": "Searches that are made ready", "bring-in": "Images that somebody brings in",
        "housekeeping": "Daily tidying up", "retention": "Studies whose time is over", "fetch": "Images that are fetched from others", "commit": "Storage commitments to devices",
    }
)  # fmt: skip
"""What people call them; others by their own names."""
_LATE: Final = 600
"""Seconds after which something that is due is late."""
_HEIGHT: Final = 120


def overview(visit: Visit) -> Response:
    """`GET /staff/health`"""
    require_staff(visit.person.account)
    settings, now = visit.settings, micros()
    with visit.node.database.read() as connection:
        waiting = health.waiting(connection, now)
        days = health.arrived(connection, datetime.now(UTC), settings.zone)
    room = health.storage(settings.blob_folder if settings.blob_folder.is_dir() else settings.data, settings.min_free_bytes)
    rows = [
        {"name": _(_KINDS.get(each.kind, each.kind)), "it": each, "is_late": each.due > 0 and each.since > _LATE}
        for each in waiting
    ]
    gigabytes = {
        "free": f"{room.free / 1e9:,.0f}",
        "total": f"{room.total / 1e9:,.0f}",
        "share": round(100 * (1 - room.free / max(room.total, 1))),
    }
    return visit.page(
        "health.html",
        rows=rows,
        room=room,
        gigabytes=gigabytes,
        bars=_bars(days),
        most=max(each.studies for each in days),
        days=days,
    )


def _bars(days: tuple[Day, ...]) -> list[dict[str, Any]]:
    """A column for each day, as high as the most is 120."""
    most = max(1, *(each.studies for each in days))
    heights = [round(_HEIGHT * each.studies / most) for each in days]
    return [
        {"x": 20 * place, "y": _HEIGHT - height, "height": height, "said": f"{day(each.date)}: {each.studies}"}
        for place, (each, height) in enumerate(zip(days, heights, strict=True))
    ]
