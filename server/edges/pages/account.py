"""What a person can see and change of their own account: how they sign in, where they are signed in, their apps, who saw their records."""

from typing import Any, Final

from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from profiles.smart.words import wish
from server.access.people import accounts, passkeys, profile
from server.access.people.acting import Acting, who_act_for
from server.access.people.one_time_codes import MINUTES
from server.access.people.passwords import SHORTEST
from server.access.people.proxying import OWN_TO_END
from server.edges.context import request_id
from server.edges.pages import logo
from server.edges.pages.browser import SIGN_IN, Visit
from server.edges.pages.entering import credential
from server.edges.pages.showing import sentence
from server.edges.pages.showing import translated as _
from server.edges.pages.wording import day, host_of, ways
from server.errors import Conflict, Forbidden, Refused, SignInRefused, StepUpNeeded
from server.languages import LANGUAGES, listed, marked
from server.store.db import micros, moment
from server.work.connected import Connected

_RELATIONS: Final = marked({"parent": "your parent", "carer": "your carer", "guardian": "your guardian"})
_WRONG_CODE = marked("This is not the code, or it is too old. Check it, or have a new one sent.")
_WRONG_PASSWORD = marked("This is not your password so far. Check it and type it again.")


def account(visit: Visit) -> Response:
    """`GET /account`"""
    return _account(visit)


def rename(visit: Visit) -> Response:
    """`POST /account/name`"""
    try:
        visit.node.people.profile.rename(visit.person, visit.value("full-name"), visit.address)
    except (Refused, Forbidden) as error:
        return _account(visit, error.http_status, faults={"full-name": sentence(error.detail)})
    return visit.done("/account", "name")


def choose_language(visit: Visit) -> Response:
    """`POST /account/language`: of the account page, or by the switch on any page, which one comes back to (`next`)."""
    language = visit.value("language")
    if language not in (*LANGUAGES, ""):
        raise Refused("there is no such language here")
    visit.node.people.profile.choose_language(visit.person, language)
    return visit.redirect(visit.goes_to) if visit.value("next") else visit.done("/account", "language")


def new_email(visit: Visit) -> Response:
    """`POST /account/email`: a code goes to the new address. The page is the same whether or not another account has it."""
    try:
        email = visit.node.people.profile.ask(visit.person, visit.value("email"), visit.address)
    except Refused as error:
        return _account(visit, error.http_status, faults={"email": sentence(error.detail)})
    return visit.page("new_email.html", email=email, minutes=MINUTES, fault="")


def confirm_email(visit: Visit) -> Response:
    """`POST /account/email/confirm`: from now on it is the address to sign in with."""
    email = visit.value("email")
    try:
        visit.node.people.profile.confirm(visit.person, email, visit.value("code"), visit.address)
    except SignInRefused as error:
        return visit.page("new_email.html", error.http_status, email=email, minutes=MINUTES, fault=_(_WRONG_CODE))
    except (Refused, Conflict) as error:
        return _account(visit, error.http_status, faults={"email": sentence(error.detail)})
    return visit.done("/account", "email")


def password(visit: Visit) -> Response:
    """`POST /account/password`: all other browsers are signed out, and apps have to be allowed anew."""
    try:
        visit.node.people.recovery.change(visit.person, visit.value("current"), visit.value("password"), visit.address)
    except SignInRefused as error:
        return _account(visit, error.http_status, faults={"current": _(_WRONG_PASSWORD)})
    except Refused as error:
        return _account(visit, error.http_status, faults={"password": sentence(error.detail)})
    return visit.done("/account", "password")


def passkey_options(visit: Visit) -> Response:
    """`POST /account/passkeys/options`: for `navigator.credentials.create`, or where to sign in first."""
    try:
        return JSONResponse(visit.node.people.passkeys.begin(visit.person))
    except StepUpNeeded as error:
        return JSONResponse({"location": visit.url(SIGN_IN, next="/account", again=error.by or "yes")}, 403)


def add_passkey(visit: Visit) -> Response:
    """`POST /account/passkeys`"""
    try:
        said = credential(visit.value("response"))
        visit.node.people.passkeys.finish(visit.person, said, visit.value("name"), visit.address)
    except Refused as error:
        return _account(visit, error.http_status, faults={"passkey": sentence(error.detail)})
    return visit.done("/account", "passkey")


def remove_passkey(visit: Visit) -> Response:
    """`POST /account/passkeys/remove`"""
    visit.node.people.passkeys.remove(visit.person, visit.value("passkey"), visit.address)
    return visit.done("/account", "removed")


def close_session(visit: Visit) -> Response:
    """`POST /account/sessions/close`: one other browser, or all of them."""
    which = visit.value("session")
    visit.node.people.sign_out_elsewhere(visit.person, "" if which == "others" else which, visit.address)
    return visit.done("/account", "sessions")


def apps(visit: Visit) -> Response:
    """`GET /account/apps`"""
    connected = visit.node.authorizing.connected(visit.person.account)
    return visit.page("apps.html", apps=[_app(visit, each) for each in connected], done=visit.take_done())


def disconnect(visit: Visit) -> Response:
    """`POST /account/apps/disconnect`: from the next request on the app sees nothing."""
    trace = request_id(visit.request)
    visit.node.authorizing.disconnect(visit.person.account, visit.value("grant"), address=visit.address, trace=trace)
    return visit.done("/account/apps", "disconnected")


def _account(visit: Visit, status: int = 200, **values: Any) -> Response:
    people, person = visit.node.people, visit.person
    with visit.node.database.read() as connection:
        keys = passkeys.of(connection, person.account.id)
        may_rename = profile.may_rename(connection, person.account)
        own = accounts.own_patients(connection, person.account.id)
        acting = [told for _each, told in acting_for(visit, connection, own)]
    known = {
        "faults": {}, "done": visit.take_done(), "keys": keys, "shortest": SHORTEST,
        "needs_current": people.passwords.has_one(person.account.id) and "passkey" not in person.methods,
        "passkeys_at": people.passkeys.page("/account"), "has_password": people.passwords.has_one(person.account.id),
        "sessions": [
            {"id": each.id, "began": each.began, "ways": ways(each.methods), "here": each.id == person.id}
            for each in people.sessions.of(person.account.id)
        ],
        "hospitals": visit.node.hospital.providers,
        "may_rename": may_rename, "has_records": bool(own), "proxies": acting,
        "linked": [(*each, host_of(each[0])) for each in visit.node.hospital.linked(person.account.id)],
    }  # fmt: skip
    return visit.page("account.html", status, **{**known, **values})


def acting_for(visit: Visit, connection: Connection, own: frozenset[str]) -> list[tuple[Acting, dict[str, Any]]]:
    """Who may act for these patients, and how pages say it."""
    return [(each, _acting(visit, each)) for each in who_act_for(connection, own, micros())]


def _acting(visit: Visit, each: Acting) -> dict[str, Any]:
    days = {"begins": each.begins, "ends": each.ends}
    said = {name: day(f"{moment(at).astimezone(visit.settings.zone):%Y%m%d}") if at else "" for name, at in days.items()}
    name = (
        each.email if each.relation in OWN_TO_END else each.name
    )  # whom she named by an address: what they are called is theirs to say
    return {"name": name, "relation": _(_RELATIONS.get(each.relation, "")), "is_to_come": each.begins > micros(), **said}


def _app(visit: Visit, each: Connected) -> dict[str, Any]:
    told = [wish(word) for word in each.scopes if not word.startswith("launch") and not word.endswith("_access")]
    return {
        "grant": each.grant, "name": each.client.name, "logo": logo.address(visit, each.client), "since": each.since, "expires": each.expires, "stays": each.stays, "used": each.used,
        "whose": each.whose, "is_own": each.is_own, "patient": each.patient, "of_all": each.of_all, "studies": each.studies,
        "host": listed([*dict.fromkeys(map(host_of, each.client.redirect_uris))]),
        "wishes": [one.sentence.said(_) for one in told],
    }  # fmt: skip
