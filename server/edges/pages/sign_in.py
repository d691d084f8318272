"""Signing in by password, e-mailed code or passkey, signing out, and choosing a new password.

Whoever is signed in already may do so again (`again`): the same person's session becomes stronger, another's takes its place.
"""

from typing import Any, Final

from starlette.responses import JSONResponse, Response

from server.access.people.one_time_codes import MINUTES
from server.access.people.passwords import SHORTEST
from server.edges.pages.browser import HOME, Visit
from server.edges.pages.entering import credential, early_page, enter, sign_in_form
from server.edges.pages.showing import sentence, waiting
from server.edges.pages.showing import translated as _
from server.errors import AccessError, Refused, SignInRefused, TooManyAttempts
from server.languages import marked

AGAIN: Final = "yes"
BY_CODE: Final = "code"
_NO_EMAIL: Final = marked("Type your e-mail address, such as name@example.org.")
_NO_PASSWORD: Final = marked("Type your password.")
_MANY_CODES: Final = marked(
    "No more codes are sent for now. You can sign in another way, or have a new code sent in {minutes} minutes."
)
_NO_CODE: Final = marked("Type the code from the e-mail, eight digits.")
_NOT_KNOWN: Final = marked(
    "That did not work. Check what you typed. If you have tried several times, wait a few minutes before you try again."
)
_BAD_CODE: Final = marked("This code did not work. Check it, or ask for a new one: a code works once, and for ten minutes.")
_BAD_KEY: Final = marked("This passkey did not work. Try again, or sign in another way.")


def sign_in(visit: Visit) -> Response:
    """`GET /sign-in`. Who is signed in goes on at once, unless they have to do so again, in any way or by a code."""
    again = visit.request.query_params.get("again", "")
    if visit.session is not None and again not in (AGAIN, BY_CODE):
        return visit.redirect(visit.goes_to)
    if visit.session is not None and again == BY_CODE:
        return early_page(visit, "sign_in_by_code.html", 200, email=visit.session.account.email)
    return sign_in_form(visit)


def require_place(visit: Visit) -> None:
    """Who is turned away anyhow costs a flood more than us: no thread, no form, no database."""
    visit.node.people.sign_in.require_place(visit.address, visit.asking)


def with_password(visit: Visit) -> Response:
    """`POST /sign-in`"""
    email, password = visit.value("email").strip(), visit.value("password")
    faults = {**({} if email else {"email": _(_NO_EMAIL)}), **({} if password else {"password": _(_NO_PASSWORD)})}
    if faults:
        return sign_in_form(visit, 400, faults=faults)
    try:
        account = visit.node.people.sign_in.password(email, password, visit.address, visit.asking)
    except (SignInRefused, TooManyAttempts) as error:
        return _refused(visit, error, _NOT_KNOWN)
    return enter(visit, account, "password", 1)


def send_code(visit: Visit) -> Response:
    """`POST /sign-in/code`: sends one if there is such an account; what is shown is the same if there is none."""
    email = visit.value("email").strip()
    if not email:
        return sign_in_form(visit, 400, faults={"email": _(_NO_EMAIL)})
    try:
        visit.node.people.sign_in.send_code(email, visit.address, browser=visit.asking)
    except TooManyAttempts as error:
        return _later(sign_in_form(visit, error.http_status, fault=waiting(error, _(_MANY_CODES))), error)
    return _code_form(visit)


def with_code(visit: Visit) -> Response:
    """`POST /sign-in/with-code`"""
    email, code = visit.value("email").strip(), visit.value("code").strip()
    if not code:
        return _code_form(visit, 400, faults={"code": _(_NO_CODE)})
    try:
        account = visit.node.people.sign_in.code(email, code, visit.address, browser=visit.asking)
    except SignInRefused as error:
        return _code_form(visit, error.http_status, faults={"code": _(_BAD_CODE)})
    except TooManyAttempts as error:
        return _later(_code_form(visit, error.http_status, fault=waiting(error)), error)
    return enter(visit, account, "code", 1)


def passkey_options(visit: Visit) -> Response:
    """`POST /sign-in/passkey/options`: for `navigator.credentials.get`."""
    try:
        return JSONResponse(visit.node.people.sign_in.passkey_options(visit.browser, visit.address, visit.asking))
    except TooManyAttempts as error:
        return _later(JSONResponse({"detail": waiting(error)}, error.http_status), error)


def with_passkey(visit: Visit) -> Response:
    """`POST /sign-in/passkey`: what the browser's key said, as JSON in a field."""
    try:
        said = credential(visit.value("response"))
        account = visit.node.people.sign_in.passkey(said, visit.browser, visit.address, visit.asking)
    except (SignInRefused, TooManyAttempts) as error:
        return _refused(visit, error, _BAD_KEY)
    except Refused as error:
        return sign_in_form(visit, error.http_status, fault=_(_BAD_KEY))
    return enter(visit, account, "passkey", 2)


def sign_out(visit: Visit) -> Response:
    """`GET` and `POST /sign-out`"""
    if visit.request.method != "POST":
        return visit.page("sign_out.html")
    visit.node.people.sign_out(visit.person, visit.address)
    visit.leave()
    return visit.redirect("/signed-out", **({"next": visit.goes_to} if visit.goes_to != HOME else {}))


def signed_out(visit: Visit) -> Response:
    """`GET /signed-out`"""
    if visit.session is not None:
        return visit.redirect(HOME)
    return visit.page("signed_out.html", goes_to=visit.goes_to)


def recover(visit: Visit) -> Response:
    """`GET` and `POST /recover`: sends a code to choose a new password with."""
    if visit.request.method != "POST":
        return _recover_form(visit)
    email = visit.value("email").strip()
    if not email:
        return _recover_form(visit, 400, faults={"email": _(_NO_EMAIL)})
    try:
        visit.node.people.recovery.send(email, visit.address, visit.asking)
    except TooManyAttempts as error:
        return _later(_recover_form(visit, error.http_status, fault=waiting(error)), error)
    return _new_password_form(visit)


def recovered(visit: Visit) -> Response:
    """`POST /recover/password`: the code, and the password that holds from now on. Nobody is signed in by it."""
    email, code, password = visit.value("email").strip(), visit.value("code").strip(), visit.value("password")
    if not code:
        return _new_password_form(visit, 400, faults={"code": _(_NO_CODE)})
    try:
        visit.node.people.recovery.recover(email, code, password, visit.address, visit.asking)
    except SignInRefused as error:
        return _new_password_form(visit, error.http_status, faults={"code": _(_BAD_CODE)})
    except TooManyAttempts as error:
        return _later(_new_password_form(visit, error.http_status, fault=waiting(error)), error)
    except Refused as error:
        return _new_password_form(visit, error.http_status, faults={"password": sentence(error.detail)})
    if visit.session is not None:  # of whoever was signed in in this browser
        visit.node.people.sign_out(visit.session, visit.address)
    visit.leave()
    return visit.page("recovered.html", person=None)


def _refused(visit: Visit, error: AccessError, text: str) -> Response:
    if isinstance(error, TooManyAttempts):
        return _later(sign_in_form(visit, error.http_status, fault=waiting(error)), error)
    return sign_in_form(visit, error.http_status, fault=_(text))


def _later(response: Response, error: TooManyAttempts) -> Response:
    """RFC 6585 section 4."""
    response.headers["Retry-After"] = str(error.retry_after)
    return response


def _code_form(visit: Visit, status: int = 200, **values: Any) -> Response:
    return early_page(visit, "code.html", status, minutes=MINUTES, **values)


def _recover_form(visit: Visit, status: int = 200, **values: Any) -> Response:
    return early_page(visit, "recover.html", status, **values)


def _new_password_form(visit: Visit, status: int = 200, **values: Any) -> Response:
    return early_page(visit, "new_password.html", status, minutes=MINUTES, shortest=SHORTEST, **values)
