"""Who saw the records of a person, and of those whom the person looks after: the trail in plain words (`server.work.access_history`)."""

import re
from dataclasses import replace
from typing import Any, Final

from starlette.responses import Response

from profiles.audit_event import REST_OPERATION, Agent, AuditedEntity
from server.access import rights
from server.access.people import accounts
from server.edges.context import request_id
from server.edges.pages.browser import Visit
from server.edges.pages.showing import translated as _
from server.languages import marked
from server.records import belonging
from server.store.db import micros
from server.work.access_history import PATIENT, AccessRow, Place, rows
from server.work.choosing import choices

_COUNT: Final = 25
_PLACE: Final = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,9})")
_ASKED: Final = AuditedEntity(query=b"Patient/$access-history")


def activity(visit: Visit) -> Response:
    """`GET /account/activity`; with `before` what was earlier. To look is in the trail itself before anything is shown."""
    with visit.node.database.read() as connection:
        reach, _until = accounts.reach(connection, visit.person.account, micros())
        if not reach:
            return visit.page("activity.html", groups=[], more="", names={}, nobody=True, earlier=False)
        reach = rights.whole_records(connection, visit.person.account, micros())
        before = place_of(visit.request.query_params.get("before", ""))
        found = rows(connection, reach, before, _COUNT + 1)
        records = accounts.own_patients(connection, visit.person.account.id)
        own = frozenset(same for each in records for same in belonging.same(connection, each))
        names = {each.id: each.name for each in choices(connection, reach).patients} if len(reach) > 1 else {}
    _note(visit, reach)
    shown, more = found[:_COUNT], "-".join(map(str, found[_COUNT - 1].place)) if len(found) > _COUNT else ""
    return visit.page(
        "activity.html", groups=_by_day(visit, shown, own), more=more, names=names, nobody=False, earlier=before is not None
    )


def _note(visit: Visit, patients: frozenset[str]) -> None:
    account, trail = visit.person.account, visit.node.trail
    browser = Agent(identifier="browser", address=visit.address)
    action = trail.action("query", REST_OPERATION, browser, rest=False, entities=(_ASKED,), request_id=request_id(visit.request))
    trail.write(replace(action, user=Agent(identifier=account.id, reference=account.fhir_user)), patients=sorted(patients))


def place_of(text: str) -> Place | None:
    """Where a list goes on, as its address says; None for what is none."""
    found = _PLACE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def _by_day(visit: Visit, found: tuple[AccessRow, ...], own: frozenset[str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The rows of each day (`20260712`), in the site's zone, in their order.

    What the reader did again and again on one day is one row, with the last time: so it does not hide what others did, of whom each row is shown.
    """
    days: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        who = marked("you") if each.who == PATIENT and each.patient in own else each.who
        at = each.when.astimezone(visit.settings.zone)
        of_day = days.setdefault(f"{at:%Y%m%d}", [])
        row = {
            "time": f"{at:%H:%M}", "what": each.phrase.said(_), "who": _(who) if who else "", "organization": each.organization,
            "app": _(each.app), "purpose": ", ".join(map(_, each.purposes)), "outcome": each.outcome, "patient": each.patient,
        }  # fmt: skip
        again = next((one for one in of_day if who == "you" and _same(one, row)), None)
        if again is None:
            of_day.append(row)
        else:
            again["times"] = again.get("times", 1) + 1
    return list(days.items())


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether but for the time they say the same."""
    return all(one.get(name) == other.get(name) for name in (one.keys() | other.keys()) - {"time", "times"})
