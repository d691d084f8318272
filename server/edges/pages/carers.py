"""Who acts for whom: carers whom a patient names herself, and those whose records somebody looks after."""

from typing import Any

from starlette.responses import Response

from server.access.people import accounts, proxies
from server.access.people.proxying import DAYS, OWN_TO_END
from server.edges.pages.account import acting_for
from server.edges.pages.browser import Visit
from server.edges.pages.showing import sentence
from server.edges.pages.showing import translated as _
from server.errors import Refused
from server.store.db import micros
from server.work.portal import desk


def overview(visit: Visit) -> Response:
    """`GET /account/people`"""
    return _overview(visit)


def name(visit: Visit) -> Response:
    """`POST /account/people`: a carer by e-mail address. The page is the same whether or not there is an account with it."""
    days = visit.value("days")
    faults = {}
    try:
        email = accounts.plain_email(visit.value("email"))
        if accounts.fold(email) == accounts.fold(visit.person.account.email):
            raise Refused("this is your own address: name somebody else's")
    except Refused as error:
        faults["email"] = sentence(error.detail)
    if not days.isdecimal() or int(days) not in DAYS:
        faults["days"] = _("Choose for how long.")
    if faults:
        return _overview(visit, 400, faults=faults)
    visit.node.people.proxying.name_carer(visit.person, email, visit.value("carer-name").strip()[:80], int(days), visit.address)
    return visit.done("/account/people", "named")


def end(visit: Visit) -> Response:
    """`POST /account/people/end`: a carer of one's own, or what one does for somebody else."""
    visit.node.people.proxying.end_own(visit.person, visit.value("proxy"), visit.address)
    return visit.done("/account/people", "ended")


def _overview(visit: Visit, status: int = 200, faults: dict[str, str] | None = None) -> Response:
    now = micros()
    with visit.node.database.read() as connection:
        own = accounts.own_patients(connection, visit.person.account.id)
        acting = [
            {**told, "id": each.id, "may_end": each.relation in OWN_TO_END} for each, told in acting_for(visit, connection, own)
        ]
        held = [
            each for each in proxies.of_account(connection, visit.person.account.id)
            if each.begins <= now < each.over(proxies.birth_date(connection, each.patient) if each.until_age else None)
        ]  # fmt: skip
        names = desk.names(connection, {each.patient for each in held})
    mine: list[dict[str, Any]] = [{"id": each.id, "name": names.get(each.patient, ""), "ends": each.ends} for each in held]
    given = {each: visit.value(each) for each in ("email", "carer-name", "days")}
    return visit.page(
        "carers.html",
        status,
        acting=acting,
        mine=mine,
        has_records=bool(own),
        days=DAYS,
        faults=faults or {},
        given=given,
        done=visit.take_done(),
    )
