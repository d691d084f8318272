"""One request of a person's browser: the session behind its cookie, what its form holds, and whether that form is ours.

Against forged requests (OWASP: Cross-Site Request Forgery) every form carries a token that only this browser's cookie answers to, and every
POST has to come from our own origin.
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from profiles.audit_event import REST_OPERATION, AuditedEntity
from server import languages
from server.access import rights
from server.access.decisions import Decision
from server.access.oauth.granting import Granted
from server.access.people import sessions
from server.access.people.browsers import Browser
from server.access.people.sessions import Session
from server.edges.context import address, node, refused, request_id, trusted
from server.edges.pages.showing import root, secured, sentence, shown, translated, waiting
from server.errors import (
    Forbidden,
    ImageShareError,
    Refused,
    StepUpNeeded,
    TooLarge,
    TooManyAttempts,
    Unauthenticated,
    UnsupportedMediaType,
)
from server.settings import is_local_name
from server.store.db import micros
from server.telemetry import failure, log

_MOST_BYTES: Final = 128 << 10
_MOST_FIELDS: Final = 500
_FORM: Final = "application/x-www-form-urlencoded"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OWN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.~-]*)+")
HOME: Final = "/account"
_DONE: Final = "done"
LANGUAGE: Final = "language"
"""The cookie with the language that somebody chose without being signed in."""
KNOWN: Final = "known"
"""The cookie of a browser in which somebody has signed in before."""
SIGN_IN: Final = "/sign-in"
Form = Mapping[str, tuple[str, ...]]


class Visit:
    """What a page's handler is given. `form` is empty but for a POST."""

    def __init__(self, request: Request, form: Form) -> None:
        self.request, self.form = request, form
        self.node = node(request)
        self.settings = self.node.settings
        self.address = address(request)
        self._cookies: dict[str, str] = {}
        self._lasting: dict[str, int | None] = {}
        self.may_be_framed = False
        """Whether its answer says itself who may frame it."""

    # --- who

    @cached_property
    def session(self) -> Session | None:
        """Who is signed in; None where nobody is."""
        return self.node.people.sessions.find(self.request.cookies.get(self._session_cookie, ""))

    @property
    def person(self) -> Session:
        """The same where a page is for people who are signed in."""
        assert self.session is not None
        return self.session

    def decided(self, connection: Connection) -> Decision:
        """What who is signed in may read by own right, in this view of the database; from here on the trail names them (`server.edges.context.told`)."""
        permits = self.settings.consent_default == "permit"
        return trusted(self.request, rights.of_person(connection, self.person.account, micros(), permits=permits))

    def holding(self, connection: Connection, granted: Granted) -> Decision:
        """The same of somebody who holds this grant: an access code's, or a share's. Raises `Unauthenticated` where it has ended."""
        claims = {"grant": granted.id, "client_id": granted.client, "scope": granted.scope}
        return trusted(self.request, rights.decision(connection, claims=claims, now=micros())[0])

    @cached_property
    def browser(self) -> str:
        """256 random bits that this browser is known by before anybody has signed in: what its first forms and challenges are bound to."""
        given = self.kept("form")
        if _KEY.fullmatch(given):
            return given
        self.keep("form", made := secrets.token_urlsafe(32))
        return made

    @property
    def asking(self) -> Browser:
        """The same as tries are counted by it, and codes are bound to it: with who signed in in it before."""
        return self.node.people.browsers.known(self.kept(KNOWN), self.kept("form"))

    @property
    def csrf(self) -> str:
        """What the forms carry of who is signed in."""
        return self.person.csrf

    @property
    def early_csrf(self) -> str:
        """What the forms carry by which somebody signs in, whoever was before."""
        key = hmac.digest(self.node.installation.cursor_key, b"forms", "sha256")
        return urlsafe_b64encode(hmac.digest(key, self.browser.encode(), "sha256")).decode().rstrip("=")

    # --- what

    @property
    def asked_language(self) -> str:
        """What this browser wants to read, whoever is signed in. Asks nothing of the database."""
        return languages.chosen("", self.kept(LANGUAGE), self.request.headers.get("accept-language", ""))

    @property
    def language(self) -> str:
        """What who is signed in has chosen, else the same."""
        return (self.session.account.language if self.session is not None else "") or self.asked_language

    def value(self, name: str) -> str:
        """The first value of a field; empty where there is none."""
        return self.form.get(name, ("",))[0]

    def values(self, name: str) -> tuple[str, ...]:
        return self.form.get(name, ())

    @property
    def goes_to(self) -> str:
        """Where the browser goes once somebody has signed in: a path of ours, whatever was asked for."""
        return self.own(self.value("next") if self.request.method == "POST" else self.request.query_params.get("next", ""))

    @staticmethod
    def own(path: str) -> str:
        """The path if it is one of ours, without query; else that of the account."""
        return path if len(path) <= 200 and _OWN_PATH.fullmatch(path) else HOME

    # --- answers

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """The page of a template, in the frame of whoever is signed in, unless `person` says otherwise. Its switch of language leads back to it, if it can be asked for."""
        if "person" not in values:
            values = {"person": self.session, "csrf": self.session.csrf if self.session else "", **values}
        path = self.request.url.path
        again = path if self.request.method == "GET" and status < 400 else ""
        return shown(self.request, template, {"here": path, "again": again, **values}, status)

    def redirect(self, path: str, **query: str) -> Response:
        """To another page of ours, by GET."""
        return RedirectResponse(self.url(path, **query), 303)

    def url(self, path: str, **query: str) -> str:
        return root(self.settings) + path + (f"?{urlencode(query, safe='/')}" if query else "")

    def enter(self, cookie: str) -> None:
        """Gives the browser the cookie of a session."""
        self._cookies[self._session_cookie] = cookie

    def leave(self) -> None:
        """Takes it away."""
        self._cookies[self._session_cookie] = ""

    def kept(self, name: str) -> str:
        """What the browser keeps for us under this name; empty where it keeps nothing."""
        return self.request.cookies.get(self._cookie_name(name), "")

    def keep(self, name: str, value: str, seconds: int | None = None) -> None:
        """Has the browser keep it until it is closed, or so long; an empty one is forgotten."""
        self._cookies[self._cookie_name(name)] = value
        self._lasting[self._cookie_name(name)] = seconds

    def done(self, path: str, what: str) -> Response:
        """To another page of ours, which says once that it is done. No link can say so: the word is in a cookie."""
        self.keep(_DONE, what)
        return self.redirect(path)

    def take_done(self) -> str:
        """What the page says is done; empty where nothing is. The next page does not say it again."""
        if what := self.kept(_DONE):
            self.keep(_DONE, "")
        return what

    def finish(self, response: Response) -> Response:
        """The answer with all headers and cookies."""
        for name, value in secured(self.settings, self.request).items():
            if not (self.may_be_framed and name == "X-Frame-Options"):
                response.headers.setdefault(name, value)
        for name, value in self._cookies.items():
            if value:
                lasting = self._lasting.get(name)
                response.set_cookie(name, value, lasting, secure=self._is_secure, httponly=True, samesite="lax")
            else:
                response.delete_cookie(name, secure=self._is_secure, httponly=True, samesite="lax")
        return response

    @property
    def _session_cookie(self) -> str:
        return sessions.cookie(self.settings)[0]

    @property
    def _is_secure(self) -> bool:
        return sessions.cookie(self.settings)[1]

    def _cookie_name(self, name: str) -> str:
        return f"__Host-imageshare-{name}" if self._is_secure else f"imageshare-{name}"


Handler = Callable[[Visit], Response]
First = Callable[[Visit], None]


def page(handler: Handler, *, of: str = "") -> Callable[[Request], Awaitable[Response]]:
    """`handler` as an endpoint for people who are signed in. `of` is the page that one comes back to after signing in; the address itself if empty."""
    return _endpoint(handler, _signed_in, of)


def open_page(handler: Handler, first: First | None = None) -> Callable[[Request], Awaitable[Response]]:
    """`handler` as an endpoint for everybody: signing in, recovering. `first` may raise before anything is read; it waits for nothing."""
    return _endpoint(handler, _anybody, SIGN_IN, first)


def held_page(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """`handler` as an endpoint whose form has a secret of its own, which no other site can know: where there are no cookies."""
    return _endpoint(handler, lambda _visit, _of: None, SIGN_IN)


def piece(handler: Callable[[Visit, bytes], Response], most: Callable[[Visit], int]) -> Callable[[Request], Awaitable[Response]]:
    """`handler` as an endpoint for scripts of our own pages, which send bytes, `most` at once, and are answered JSON, as who is signed in."""

    async def answered(request: Request) -> Response:
        visit = Visit(request, {"csrf": (request.headers.get("x-csrf-token", ""),)})
        try:
            if await run_in_threadpool(lambda: visit.session) is None:
                raise Unauthenticated("sign in again, then go on")
            _require_own_origin(visit)
            _require_token(visit, visit.csrf)
            content = bytearray()
            async for each in request.stream():
                content += each
                if len(content) > most(visit):
                    raise TooLarge("this is more than is taken at once")
            return visit.finish(await run_in_threadpool(_handled, visit, handler, bytes(content)))
        except ImageShareError as error:
            return visit.finish(JSONResponse({"detail": sentence(error.detail)}, error.http_status))

    return answered


def _handled(visit: Visit, handler: Callable[[Visit, bytes], Response], content: bytes) -> Response:
    languages.speak(visit.language)
    try:
        return handler(visit, content)
    except ImageShareError as error:
        return JSONResponse({"detail": sentence(error.detail)}, error.http_status)
    except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
        log().error("request failed", door="pages", request_id=request_id(visit.request), **failure(error))
        return JSONResponse({"detail": sentence("something went wrong on our side")}, 500)


def _endpoint(
    handler: Handler, admit: Callable[[Visit, str], Response | None], of: str, first: First | None = None
) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        visit = Visit(request, {})
        languages.speak(visit.asked_language)
        try:
            if first is not None:
                first(visit)
            if request.method == "POST":
                visit = Visit(request, await form_of(request))
        except ImageShareError as error:
            return visit.finish(problem(visit, error))
        return await run_in_threadpool(_answered, visit, handler, admit, of or request.url.path)

    return answered


def _answered(visit: Visit, handler: Handler, admit: Callable[[Visit, str], Response | None], of: str) -> Response:
    try:
        languages.speak(visit.language)
        if visit.request.method == "POST":
            _require_own_origin(visit)
        response = admit(visit, of) or handler(visit)
    except StepUpNeeded as error:
        response = visit.redirect(SIGN_IN, next=of, again=error.by or "yes")
    except Forbidden as error:
        _note(visit, error)
        response = problem(visit, error)
    except ImageShareError as error:
        response = problem(visit, error)
    except Exception as error:  # noqa: BLE001 no trace may leave, whatever happened
        log().error("request failed", door="pages", request_id=request_id(visit.request), **failure(error))
        response = problem(visit, ImageShareError("something went wrong on our side"))
    return visit.finish(response)


def _note(visit: Visit, error: Forbidden) -> None:
    """What is refused to who is signed in is in the trail, with the page that it was (its path as in `routes`, without what stands for an id)."""
    if visit.session is None:
        return
    with visit.node.database.read() as connection:
        visit.decided(connection)
    page = AuditedEntity(query=str(getattr(visit.request.scope.get("route"), "path", "")).encode())
    refused(visit.request, error, "query", REST_OPERATION, entities=(page,), rest=False)


def _signed_in(visit: Visit, of: str) -> Response | None:
    if visit.session is None:
        return visit.redirect(SIGN_IN, next=of)
    if visit.request.method == "POST":
        _require_token(visit, visit.csrf)
    return None


def _anybody(visit: Visit, _: str) -> Response | None:
    if visit.request.method == "POST":
        _require_token(visit, visit.early_csrf)
    return None


def problem(visit: Visit, error: ImageShareError, title: str = "") -> Response:
    """The page that says what was wrong and what to do. Where it is our fault, or others are too many, nothing else is asked of us."""
    person = {"person": None} if error.http_status >= 500 or isinstance(error, TooManyAttempts) else {}
    values = {
        "error": error,
        "said": waiting(error) if isinstance(error, TooManyAttempts) else sentence(error.detail),
        "title": translated(title) if title else "",
        "request_id": request_id(visit.request),
        **person,
    }
    response = visit.page("problem.html", error.http_status, **values)
    if isinstance(error, TooManyAttempts):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def problem_page(request: Request, error: ImageShareError, title: str) -> Response:
    """The same for other edges (`server.edges.context.problem_page`)."""
    visit = Visit(request, {})
    languages.speak(visit.asked_language)
    return visit.finish(problem(visit, error, title))


def _require_token(visit: Visit, token: str) -> None:
    if not hmac.compare_digest(visit.value("csrf").encode(), token.encode()):
        raise Forbidden("this page was open for too long, or your browser keeps no cookies; go back, load it anew and try again")


def _require_own_origin(visit: Visit) -> None:
    """RFC 6454 section 7: the form came from a page of ours. Browsers say so with every POST."""
    origin = visit.request.headers.get("origin", "")
    own = urlsplit(visit.settings.base_url)
    if origin.lower() == f"{own.scheme}://{own.netloc}".lower():
        return
    given = urlsplit(origin)
    if is_local_name(own.netloc) and is_local_name(given.netloc) and (given.scheme, given.port) == (own.scheme, own.port):
        return  # localhost and 127.0.0.1 are one machine
    raise Forbidden("this form was sent from another site; open the page here and try again")


async def form_of(request: Request) -> Form:
    """WHATWG URL section 5.1: names and values, decoded. Raises `Refused` and its like."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise UnsupportedMediaType("this address takes the forms of our own pages")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_BYTES:
            raise TooLarge("this is more than the form can hold")
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refused("the form cannot be read; go back and try again") from None
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if "\0" in value:
            raise Refused("a field has a character that is not taken; go back and type it anew")
        found[name] = (*found.get(name, ()), value)
    return found
