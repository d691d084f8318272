"""Access codes: typed with a date of birth, the images are there; then an account, for who wants to keep them."""

import re
from typing import Any, Final

from starlette.responses import Response

from server.access.people import accounts
from server.edges.pages import looking
from server.edges.pages.browser import Visit
from server.edges.pages.showing import sentence, waiting
from server.edges.pages.showing import translated as _
from server.errors import Conflict, Forbidden, Refused, TooManyAttempts
from server.languages import marked
from server.work.portal.claiming import CodeTaken

IMAGES: Final = "/images"
_NO_CODE: Final = marked("Type the code from your letter, thirteen letters and digits.")
_NO_DATE: Final = marked("Type your date of birth, such as 12 7 1974.")


def claim(visit: Visit) -> Response:
    """`GET /claim`, and `POST` of the code and the date of birth."""
    if visit.request.method != "POST":
        return _form(visit)
    text, born = visit.value("code").strip(), born_of(visit)
    faults = {**({} if text else {"code": _(_NO_CODE)}), **({} if born else {"born": _(_NO_DATE)})}
    if faults:
        return _form(visit, 400, faults=faults)
    account = visit.session.account if visit.session is not None else None
    try:
        visit.node.claiming.claim(text, born, looking.asking(visit), account)
    except CodeTaken as error:
        return visit.page("code_taken.html", error.http_status, claimed=error.claimed, kept=error.kept)
    except TooManyAttempts as error:
        response = _form(visit, error.http_status, fault=waiting(error))
        response.headers["Retry-After"] = str(error.retry_after)
        return response
    except Forbidden as error:
        return _form(visit, error.http_status, fault=sentence(error.detail))
    return visit.done(IMAGES, "claimed")


def account(visit: Visit) -> Response:
    """`POST /claim/account`: an account for this e-mail address, if there is none, and a code to sign in with. What is shown tells nobody which it was."""
    email = visit.value("email").strip()
    with visit.node.database.read() as connection:
        held = visit.node.claiming.held(connection, visit.kept(looking.CLAIM))
    if not held:
        return visit.redirect("/claim")
    try:
        email = accounts.plain_email(email)
        visit.node.claiming.invite(email)
        visit.node.people.sign_in.send_code(email, visit.address, browser=visit.asking)
    except (Refused, Conflict) as error:
        return visit.page(
            "make_account.html", error.http_status, csrf=visit.early_csrf, email=email, fault=sentence(error.detail)
        )
    except TooManyAttempts as error:
        return visit.page("make_account.html", error.http_status, csrf=visit.early_csrf, email=email, fault=waiting(error))
    return visit.page(
        "code.html",
        person=None,
        csrf=visit.early_csrf,
        email=email,
        goes_to="/claim/keep",
        faults={},
        fault="",
        minutes=10,
        again=False,
    )


def make_account(visit: Visit) -> Response:
    """`GET /claim/account`"""
    return visit.page("make_account.html", csrf=visit.early_csrf, email="", fault="")


def keep(visit: Visit) -> Response:
    """`GET /claim/keep` asks who is signed in whether what the browser has claimed is to be in the account; `POST` does it."""
    if visit.request.method == "POST":
        kept = visit.node.claiming.keep(visit.person.account, looking.asking(visit))
        return visit.done(IMAGES, "kept") if kept else visit.redirect(IMAGES)
    with visit.node.database.read() as connection:
        held = visit.node.claiming.held(connection, visit.kept(looking.CLAIM))
    return visit.page("keep_images.html") if held else visit.redirect(IMAGES)


def forget(visit: Visit) -> Response:
    """`POST /claim/forget`: this browser shows nothing of it any more."""
    visit.node.claiming.leave(looking.asking(visit))
    visit.keep(looking.CLAIM, "")
    return visit.redirect("/claim")


def born_of(visit: Visit) -> str:
    """`YYYYMMDD` of the three fields of a date of birth; empty for what is no date."""
    day, month, year = (visit.value(name).strip() for name in ("day", "month", "year"))
    parts = [
        re.fullmatch(pattern, text, re.ASCII) for pattern, text in ((r"\d{1,2}", day), (r"\d{1,2}", month), (r"\d{4}", year))
    ]
    if not all(parts) or not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return ""
    return f"{year}{int(month):02}{int(day):02}"


def _form(visit: Visit, status: int = 200, **values: Any) -> Response:
    given = {name: visit.value(name) for name in ("code", "day", "month", "year")}
    return visit.page("claim.html", status, **{"csrf": visit.early_csrf, "faults": {}, "fault": "", "given": given, **values})
