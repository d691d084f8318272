"""Its authorization endpoint and the pages behind it."""

import hashlib
import re
from collections.abc import Mapping
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from peers.faulty_smart.state import (
    PATIENTS,
    REDIRECT,
    Grant,
    Registered,
    State,
    handle,
    now,
)
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from profiles.smart.scopes import is_resource_scope, narrowed, words_of

_PAGE: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
KEPT: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_LETTERS: Final = "cruds"


class Wrong(Exception):
    """An OAuth error."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.code, self.words, self.status = code, words, status


def state_of(request: Request) -> State:
    found: State = request.app.state.smart
    return found


async def authorize(request: Request) -> Response:
    state = state_of(request)
    pairs = parse_qsl((await request.body()).decode(), True) if request.method == "POST" else request.query_params.multi_items()
    given = dict(pairs)
    client = state.clients.get(given.get("client_id", ""))
    if client is None or client.backend:
        return _page("<h1>This app is not known here</h1>", 400)
    if not _redirect_fits(state, given.get("redirect_uri", "")):
        return _page("<h1>This app may not be sent to that address</h1>", 400)
    try:
        if len(given) != len(pairs):
            raise Wrong("invalid_request", "a parameter came twice")
        given["scope"] = _validated(state, given, client)
    except Wrong as error:
        return _back(state, given, error=error.code, error_description=error.words)
    id_ = handle()
    state.requests[id_] = given
    return RedirectResponse(f"/sign-in/{id_}", 303, _PAGE)


def _redirect_fits(state: State, redirect: str) -> bool:
    if state.wrong("open-redirect") and redirect:
        return True
    return redirect == REDIRECT or (state.wrong("redirect-prefix") and redirect.startswith(REDIRECT))


def _validated(state: State, given: Mapping[str, str], client: Registered) -> str:
    if given.get("response_type") != "code":
        raise Wrong("unsupported_response_type" if "response_type" in given else "invalid_request", "response_type is code")
    if not given.get("state"):
        raise Wrong("invalid_request", "state is missing")
    if given.get("aud", "").rstrip("/") != state.fhir and not state.wrong("aud-ignored"):
        raise Wrong("invalid_request", "aud is another server")
    method, challenge = given.get("code_challenge_method"), given.get("code_challenge", "")
    lenient = (state.wrong("no-pkce") and not challenge) or (state.wrong("plain-pkce") and method in (None, "plain"))
    if not lenient and (method != "S256" or not _CHALLENGE.fullmatch(challenge)):
        raise Wrong("invalid_request", "PKCE with S256 is due")
    if "launch" in given and given["launch"] not in state.launches:
        raise Wrong("invalid_request", "no such launch")
    asked = _rewritten(state, given.get("scope", ""))
    scope = " ".join(word for word in _granted(asked, client.scope))
    if not any(is_resource_scope(each) or each == "openid" for each in scope.split()):
        raise Wrong("invalid_scope", "none of these scopes is offered")
    return scope


def _granted(asked: str, registered: str) -> list[str]:
    """Of the asked words those that are registered; a role of a launch scope makes no difference."""
    found = []
    for word in words_of(asked):
        plain = word.partition("?")[0] if word.startswith("launch/") else word
        if plain in registered.split() or (is_resource_scope(word) and narrowed(word, registered)):
            found.append(word)
    return found


def _rewritten(state: State, scope: str) -> str:
    """The fault of reading letters in any order."""
    if not state.wrong("scope-unordered"):
        return scope
    words = []
    for word in scope.split():
        head, _, letters = word.partition(".")
        known = is_resource_scope(word) and letters and set(letters) <= set(_LETTERS)
        words.append(f"{head}.{''.join(each for each in _LETTERS if each in letters)}" if known else word)
    return " ".join(words)


def _back(state: State, given: Mapping[str, str], **said: str) -> Response:
    """A redirect to the app."""
    parameters = dict(said)
    if not state.wrong("no-iss"):
        parameters["iss"] = state.base
    if "state" in given and not state.wrong("state-dropped"):
        parameters["state"] = given["state"]
    return RedirectResponse(f"{given['redirect_uri']}?{urlencode(parameters)}", 303, _PAGE)


def _page(body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(f"<!doctype html><title>Sign in</title><main>{body}</main>", status, _PAGE)


async def sign_in(request: Request) -> Response:
    state, id_ = state_of(request), request.path_params["id"]
    if id_ not in state.requests:
        return _page("<h1>This request is over</h1>", 400)
    if request.method == "POST":
        form = dict(parse_qsl((await request.body()).decode()))
        if form.get("email") in state.accounts and form.get("password") == "kit":
            cookie = handle()
            state.sessions[cookie] = form["email"]
            answer = RedirectResponse(f"/consent/{id_}", 303, _PAGE)
            answer.set_cookie("session", cookie, httponly=True, samesite="lax")
            return answer
    return _page(
        f'<form method="post" action="/sign-in/{id_}"><input type="email" name="email" required><input type="password" name="password">'
        "<button>Sign in</button></form>"
    )


async def consent(request: Request) -> Response:
    state, id_ = state_of(request), request.path_params["id"]
    given, who = state.requests.get(id_), state.sessions.get(request.cookies.get("session", ""))
    if given is None or who is None:
        return _page("<h1>This request is over</h1>", 400)
    if request.method == "GET":
        return _page(_consent_form(state, id_, given, who))
    pairs = parse_qsl((await request.body()).decode(), True)
    form = dict(pairs)
    if form.get("csrf") != hashlib.sha256(f"{id_}{who}".encode()).hexdigest():
        return _page("<h1>This form is not ours</h1>", 403)
    state.requests.pop(id_)
    if form.get("answer") != "allow":
        return _back(state, given, error="access_denied", error_description="it was refused")
    chosen = [value for name, value in pairs if name == "scope"]
    return _approved(state, given, who, chosen, form)


def _consent_form(state: State, id_: str, given: Mapping[str, str], who: str) -> str:
    scopes = "".join(
        f'<label><input type="checkbox" name="scope" value="{escape(each, True)}" checked> {escape(each)}</label>'
        for each in given["scope"].split()
    )
    patients = "".join(f'<option value="{PATIENTS[each]}">{each}</option>' for each in state.accounts[who].patients)
    studies = "".join(
        f'<label><input type="radio" name="study" value="{each.uid}"> {each.name}</label>' for each in state.studies
    )
    csrf = hashlib.sha256(f"{id_}{who}".encode()).hexdigest()
    return (
        f'<form method="post" action="/consent/{id_}"><input type="hidden" name="csrf" value="{csrf}">{scopes}'
        f'<select name="patient">{patients}</select>{studies}'
        '<button name="answer" value="deny">Deny</button><button name="answer" value="allow">Allow</button></form>'
    )


def _approved(state: State, given: Mapping[str, str], who: str, chosen: list[str], form: Mapping[str, str]) -> Response:
    client = state.clients[given["client_id"]]
    scope = [each for each in given["scope"].split() if each in chosen]
    context: dict[str, Any] = {}
    patient = ""
    if "launch" in given:
        made = state.launches[given["launch"]]
        if made.pop("used", False) or made.get("client_id", client.id) != client.id:
            return _back(state, given, error="invalid_request", error_description="this launch is over")
        made["used"] = not state.wrong("launch-reuse")
        patient = str(made["patient"])
        context = {
            each: made[each] for each in ("encounter", "intent", "tenant", "fhirContext", "need_patient_banner") if each in made
        }
        context["smart_style_url"] = f"{state.base}/style.json"
    elif any(each.startswith(("patient/", "launch/patient")) for each in scope):
        own = [PATIENTS[each] for each in state.accounts[who].patients]
        patient = form["patient"] if form.get("patient") in own else own[0]
    if "launch/imagingstudy" in given["scope"] and form.get("study"):
        study = next(each for each in state.studies if each.uid == form["study"])
        context["fhirContext"] = [{"reference": f"ImagingStudy/{study.id}"}]
    if state.wrong("scope-widened"):
        scope = client.scope.split()
    grant_id, code = handle(), handle()
    state.grants[grant_id] = Grant(client.id, who, " ".join(scope), patient, context, nonce=given.get("nonce", ""))
    state.codes[code] = {**given, "grant": grant_id, "used": False, "expires": now() + 60}
    return _back(state, given, code=code)
