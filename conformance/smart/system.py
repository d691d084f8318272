"""The system under test as the cases see it: discovery, a way through its authorization, tokens, and FHIR with them."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import httpx2

from conformance.smart import jwts
from conformance.smart.kit import Failed, Skipped, check
from conformance.smart.pages import Landing, Visit
from conformance.smart.target import Client, Target
from conformance.smart.wire import Wire

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
Changes = Mapping[str, str | None]
"""Parameters of a request that a case wants otherwise; None leaves one out."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of one authorization request: where the browser landed, and what the app keeps for the token request."""

    client: Client
    landing: Landing
    state: str
    verifier: str

    @property
    def code(self) -> str:
        """The code; fails the case where none came."""
        found = self.landing.parameters.get("code")
        if not found:
            raise Failed(f"no code came back: {self.told}")
        return str(found)

    @property
    def error(self) -> str:
        """The OAuth error that the redirect carries, or empty."""
        return str(self.landing.parameters.get("error", ""))

    @property
    def told(self) -> str:
        """What came instead of a code, for people."""
        if self.landing.redirect:
            return self.error or "a redirect without code or error"
        seen = f": {self.landing.pages[-1][:200]}" if self.landing.pages else ""
        return f"status {self.landing.last.status_code} at {self.landing.last.url.path}{seen}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A token response. `at` is when it came, in seconds since 1970."""

    body: Mapping[str, Any]
    at: float
    client: str = ""

    @property
    def token(self) -> str:
        return str(self.body["access_token"])

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(str(self.body.get("scope", "")).split())


@dataclass
class System:
    """What is tested. Grants that cases share are asked for once."""

    target: Target
    wire: Wire
    _grants: dict[tuple[str, ...], Grant] = field(default_factory=dict, repr=False)
    _browsers: dict[str, httpx2.Client] = field(default_factory=dict, repr=False)

    @property
    def fhir(self) -> str:
        return self.target.fhir

    @property
    def clinical(self) -> str:
        """The FHIR base that tokens are asked for: `aud`."""
        return self.target.clinical.rstrip("/") or self.fhir

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The SMART configuration; fails the case where there is none."""
        answer = self.wire.get(f"{self.clinical}/.well-known/smart-configuration", headers={"Accept": "application/json"})
        check(answer.status_code == 200, f"discovery answered {answer.status_code}")
        found = answer.json()
        check(isinstance(found, dict), "discovery is no JSON object")
        return dict(found)

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(self.configuration.get("capabilities") or ())

    def able(self, *capabilities: str) -> None:
        """Skips the case unless the system says that it has these."""
        if missing := sorted(set(capabilities) - self.capabilities):
            raise Skipped(f"the system does not claim {', '.join(missing)}")

    def endpoint(self, name: str) -> str:
        """A URL of the SMART configuration by its name; skips the case where it is not there."""
        url = self.configuration.get(name)
        if not url:
            raise Skipped(f"the SMART configuration has no {name}")
        return str(url)

    # --- the authorization endpoint

    def authorize(
        self,
        scope: str,
        *,
        client: str = "public",
        user: str = "patient",
        patient: str = "a",
        study: str = "",
        method: str = "GET",
        deny: bool = False,
        choose: Callable[[str], bool] | None = None,
        changed: Changes | None = None,
        extra: Sequence[tuple[str, str]] = (),
    ) -> Answered:
        """One authorization request with PKCE, as `client`, and the person `user` who answers it. `extra` comes in addition, also twice."""
        app, person = self.target.client(client), self.target.user(user)
        verifier = secrets.token_urlsafe(48)
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": app.id,
            "redirect_uri": app.redirect_uri,
            "scope": scope,
            "state": secrets.token_urlsafe(24),
            "aud": self.clinical,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
            **(changed or {}),
        }
        sent = [(name, value) for name, value in parameters.items() if value is not None] + list(extra)
        url = httpx2.URL(self.endpoint("authorization_endpoint"))
        first = (
            httpx2.Request("POST", url, headers={"Accept": "text/html"}, data=dict(sent))
            if method == "POST"
            else httpx2.Request("GET", url.copy_with(params=[*url.params.multi_items(), *sent]), headers={"Accept": "text/html"})
        )
        first.read()
        fill = {"patient": self.target.patients.get(patient, patient), "study": study}
        visit = Visit(self.wire, self._browser(user), person, fill, deny, choose)
        target = parameters.get("redirect_uri") or app.redirect_uri
        landing = visit.go(first, lambda url: _is_at(url, app.redirect_uri) or _is_at(url, target))
        return Answered(app, landing, parameters["state"] or "", verifier)

    def _browser(self, user: str) -> httpx2.Client:
        """This person's browser, in which they stay signed in."""
        if user not in self._browsers:
            self._browsers[user] = self.wire.fresh_client()
        return self._browsers[user]

    # --- the token endpoint

    def token_request(
        self, form: Changes, client: Client | None, *, post_secret: bool = False, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """One request to the token endpoint, authenticated as this client (None: not at all)."""
        return self.authenticated(self.endpoint("token_endpoint"), form, client, post_secret=post_secret, headers=headers)

    def authenticated(
        self,
        url: str,
        form: Changes,
        client: Client | None,
        *,
        post_secret: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """A form to an endpoint of the authorization server, with the client's authentication: secret, assertion, or client_id alone."""
        sent: dict[str, str | None] = {}
        given = dict(headers or {})
        if client is not None:
            sent, more = self._authentication(client, post_secret=post_secret)
            given |= more
        sent |= form
        return self.wire.post(
            url,
            form={name: value for name, value in sent.items() if value is not None},
            headers={"Accept": "application/json", **given},
        )

    def _authentication(self, client: Client, *, post_secret: bool) -> tuple[dict[str, str | None], dict[str, str]]:
        if client.secret and not post_secret:
            pair = f"{httpx2.QueryParams({'x': client.id})}"[2:] + ":" + f"{httpx2.QueryParams({'x': client.secret})}"[2:]
            return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if client.secret:
            return {"client_id": client.id, "client_secret": client.secret}, {}
        if client.key:
            return self.asserted(jwts.assertion(client.id, self.endpoint("token_endpoint"), client.key)), {}
        return {"client_id": client.id}, {}

    @staticmethod
    def asserted(assertion: str) -> dict[str, str | None]:
        """The form parameters of a client assertion."""
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}

    def redeem(
        self,
        answered: Answered,
        *,
        changed: Changes | None = None,
        client: Client | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """The code for a token. `changed` are form parameters, `client` another one than asked for the code."""
        app = answered.client
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": answered.code,
            "redirect_uri": app.redirect_uri,
            "code_verifier": answered.verifier,
            **(changed or {}),
        }
        return self.token_request(form, client or app, headers=headers)

    def refresh(self, grant: Grant, *, client: str = "", scope: str | None = None, **changed: str | None) -> httpx2.Response:
        """A refresh by the grant's own client or another one."""
        token = grant.body.get("refresh_token")
        if not token:
            raise Skipped("no refresh token was issued")
        form = {"grant_type": "refresh_token", "refresh_token": str(token), "scope": scope, **changed}
        return self.token_request(form, self.target.client(client or grant.client))

    def fresh(self, scope: str, *, client: str = "public", changed: Changes | None = None, **asked: Any) -> Grant:
        """A new grant: authorize, approve, redeem."""
        answered = self.authorize(scope, client=client, changed=changed, **asked)
        return self.granted_by(self.redeem(answered), client)

    def granted_by(self, answer: httpx2.Response, client: str = "") -> Grant:
        """A token response; fails the case where it is an error."""
        if answer.status_code != 200:
            raise Failed(f"the token request was refused: {answer.status_code} {answer.text[:300]}")
        return Grant(answer.json(), time.time(), client)

    def grant(self, scope: str, *, client: str = "public", user: str = "patient", patient: str = "a", study: str = "") -> Grant:
        """A grant with these scopes, shared by all cases that want the same; a token given by hand where nobody can sign in."""
        by_hand = self.target.tokens.get(user)
        if user not in self.target.users and by_hand:
            return Grant({"access_token": by_hand, "patient": self.target.patients.get(patient, "")}, time.time())
        key = (scope, client, user, patient, study)
        if key not in self._grants:
            self._grants[key] = self.fresh(scope, client=client, user=user, patient=patient, study=study)
        return self._grants[key]

    def token(self, scope: str, **asked: str) -> str:
        """An access token that has every one of these scopes; skips the case where the system granted less."""
        found = self.grant(scope, **asked)
        if found.scopes and (missing := sorted(set(scope.split()) - found.scopes)):
            raise Skipped(f"the system did not grant {' '.join(missing)}")
        return found.token

    def backend_grant(self, scope: str = "system/ImagingStudy.rs", client: str = "backend") -> Grant:
        """A client_credentials grant of the backend client, shared."""
        key = ("client_credentials", scope, client)
        if key not in self._grants:
            app = self.target.client(client)
            answer = self.token_request({"grant_type": "client_credentials", "scope": scope}, app)
            self._grants[key] = self.granted_by(answer, client)
        return self._grants[key]

    def launch(self, **body: Any) -> str:
        """A launch handle, made at the EHR's door; skips the case where the target file tells none."""
        door = self.target.launcher
        if not door.url:
            raise Skipped("the target file has no [launcher]")
        fill = {"$patient": self.target.patients.get(door.patient, door.patient), "$encounter": door.encounter}
        sent = {
            name: fill.get(value, value) if isinstance(value, str) else value for name, value in {**door.body, **body}.items()
        }
        if door.form:
            written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in sent.items()}
            answer = self.authenticated(door.url, written, self.target.client(door.client))
        else:
            token = self.backend_grant(door.scope, door.client).token if door.client else None
            answer = self.wire.post(door.url, json=sent, token=token)
        check(answer.status_code in (200, 201), f"no launch handle: {answer.status_code} {answer.text[:200]}")
        return str(answer.json()["launch"])

    # --- FHIR

    def read(self, path: str, token: str | None = None, **headers: str) -> httpx2.Response:
        """A GET below the FHIR base."""
        given = {"Accept": "application/fhir+json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.wire.get(f"{self.fhir}/{path}", token=token, headers=given)


def challenge(verifier: str) -> str:
    """RFC 7636 section 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _is_at(url: str, redirect_uri: str) -> bool:
    """Whether this is the redirect URI, whatever its query."""
    return bool(redirect_uri) and url.partition("?")[0].partition("#")[0] == redirect_uri.partition("?")[0]


def oauth_error(answer: httpx2.Response, *codes: str) -> None:
    """RFC 6749 section 5.2: fails the case unless this is a JSON error with one of these codes (any, where none is named)."""
    check(answer.status_code in (400, 401, 403), f"an error was due, and {answer.status_code} came: {answer.text[:200]}")
    try:
        found = answer.json().get("error")
    except (ValueError, AttributeError):
        raise Failed("the error is no JSON object (RFC 6749 section 5.2)") from None
    check(isinstance(found, str) and found, "the JSON of the error has no `error`")
    check(not codes or found in codes, f"error {found} instead of {' or '.join(codes)}")


def refused(answer: httpx2.Response, *statuses: int) -> None:
    """Fails the case unless the resource server refused (401 or 403, or one of `statuses`)."""
    wanted = statuses or (401, 403)
    check(answer.status_code in wanted, f"{answer.status_code} came instead of {' or '.join(map(str, wanted))}")
