"""The trail for administrators: who saw, changed or was refused what, by patient, person and days; on the page and as a table to take along.

To look is in the trail itself before anything is shown. Events are written in plain words (`server.work.access_history`); the whole of each is an AuditEvent of
the FHIR server.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection
from starlette.responses import Response

from profiles.audit_event import REST_SEARCH, AuditedEntity
from profiles.person_name import spoken
from server.access.people.accounts import Account
from server.access.people.administering import require_administrator
from server.edges import context
from server.edges.pages.activity import place_of
from server.edges.pages.browser import Visit
from server.edges.pages.showing import translated as _
from server.store.db import micros
from server.work.access_history import AccessRow, Asked, Place, search
from server.work.portal import desk

_COUNT: Final = 50
_MOST_FILED: Final = 10_000
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_ASKED: Final = AuditedEntity(query=b"AuditEvent")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is looked for, as the form has it, and as the trail is asked. `nobody`: no patient is found by the words."""

    patient: str
    account: Account | None
    start: str
    end: str
    refused: bool
    asked: Asked
    names: dict[str, str]
    nobody: bool

    @property
    def query(self) -> dict[str, str]:
        given = {
            "patient": self.patient, "account": self.account.id if self.account else "", "from": self.start, "to": self.end,
            "refused": "yes" if self.refused else "",
        }  # fmt: skip
        return {name: value for name, value in given.items() if value}


def overview(visit: Visit) -> Response:
    """`GET /staff/audit`, with `patient` (words), `account` (id), `from`, `to`, `refused` and `before`."""
    require_administrator(visit.person.account)
    before = place_of(visit.request.query_params.get("before", ""))
    with visit.node.database.read() as connection:
        wish = _wish(visit, connection)
        found, more = ((), None) if wish.nobody else search(connection, wish.asked, before, _COUNT)
        names = wish.names | desk.names(connection, {each.patient for each in found} - wish.names.keys() - {""})
    _told(visit, wish)
    rows = [_row(visit, each, names) for each in found]
    further = visit.url("/staff/audit", **wish.query, before="-".join(map(str, more))) if more else ""
    return visit.page(
        "staff_audit.html",
        rows=rows,
        more=further,
        earlier=before is not None,
        wish=wish,
        table=visit.url("/staff/audit/table", **wish.query),
    )


def table(visit: Visit) -> Response:
    """`GET /staff/audit/table`: the same as RFC 4180 text, up to 10,000 rows."""
    require_administrator(visit.person.account)
    with visit.node.database.read() as connection:
        wish = _wish(visit, connection)
        found = [] if wish.nobody else list(_all(connection, wish.asked))
        names = wish.names | desk.names(connection, {each.patient for each in found} - wish.names.keys() - {""})
    _told(visit, wish)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_("When"), _("Who"), _("With"), _("What"), _("Patient"), _("Outcome"), "AuditEvent"])
    for each in found:
        row = _row(visit, each, names)
        writer.writerow(
            map(_cell, (each.when.isoformat(), row["who"], row["app"], row["what"], row["patient"], row["outcome"], each.event))
        )
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"', "Cache-Control": "no-store"}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _all(connection: Connection, asked: Asked) -> Iterator[AccessRow]:
    place: Place | None = None
    left = _MOST_FILED
    while left > 0:
        found, place = search(connection, asked, place, min(500, left))
        yield from found
        left -= max(len(found), 1)
        if place is None:
            return


def _wish(visit: Visit, connection: Connection) -> _Wish:
    query = visit.request.query_params
    words, start, end = query.get("patient", "").strip()[:100], _day(query.get("from", "")), _day(query.get("to", ""))
    names = desk.patients(connection, words) if words else {}
    account = visit.node.people.account(query.get("account", "")) if query.get("account") else None
    zone = visit.settings.zone
    asked = Asked(
        frozenset(names) if words else None, account.id if account else "", query.get("refused") == "yes",
        micros(datetime.combine(start, datetime.min.time(), zone)) if start else None,
        micros(datetime.combine(end + timedelta(days=1), datetime.min.time(), zone)) if end else None,
    )  # fmt: skip
    return _Wish(words, account, str(start or ""), str(end or ""), asked.refused, asked, names, bool(words) and not names)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) and text < "9999-12-31" else None
    except ValueError:
        return None


def _told(visit: Visit, wish: _Wish) -> None:
    with visit.node.database.read() as connection:
        visit.decided(connection)
    context.told(visit.request, "query", REST_SEARCH, patients=set(wish.names), entities=(_ASKED,), rest=False)


def _row(visit: Visit, each: AccessRow, names: dict[str, str]) -> dict[str, Any]:
    at = each.when.astimezone(visit.settings.zone)
    return {
        "day": f"{at:%Y%m%d}", "time": f"{at:%H:%M:%S}", "who": _(each.who) if each.who else _(each.app), "app": _(each.app) if each.who else "",
        "what": each.phrase.said(_), "patient": spoken(names.get(each.patient, "")) if each.patient else "", "outcome": "" if each.outcome == "allowed" else _(each.outcome),
    }  # fmt: skip


def _cell(text: str) -> str:
    """A value that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
