"""The wire: every request to the system under test and its answer, kept for the report with its secrets masked."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

import httpx2

_SECRET_HEADERS: Final = frozenset(["authorization", "cookie", "set-cookie"])
_SECRET_NAMES: Final = (
    "access_token|refresh_token|id_token|id_token_hint|client_secret|client_assertion|code_verifier|code|launch|token|password|"
    "registration_access_token|otp|csrf\\w*"
)
_IN_FORM: Final = re.compile(rf"(?<![\w-])({_SECRET_NAMES})=([^&\s\"'<]+)")
_IN_JSON: Final = re.compile(rf"\"({_SECRET_NAMES.replace('|code|', '|')})\"\s*:\s*\"([^\"]*)\"")
_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]*\.[\w-]*")
_PRIVATE_KEY: Final = re.compile(r"\"(d|p|q|dp|dq|qi|k)\"\s*:\s*\"[\w-]{20,}\"")
_HIDDEN_INPUT: Final = re.compile(r"(<input\b[^>]*\bvalue=)(\"[^\"]*\"|'[^']*')", re.IGNORECASE)
_MASK: Final = "[masked]"
_LONGEST: Final = 4000
"""Characters of a body that the report keeps."""


def masked(text: str) -> str:
    """A text without secrets: tokens, codes, assertions, passwords and what forms hide become `[masked]`."""
    text = _IN_FORM.sub(rf"\1={_MASK}", text)
    text = _IN_JSON.sub(rf'"\1": "{_MASK}"', text)
    text = _PRIVATE_KEY.sub(rf'"\1": "{_MASK}"', text)
    text = _HIDDEN_INPUT.sub(rf'\1"{_MASK}"', text)
    return _JWT.sub(_MASK, text)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer as the report has them; `status` is 0 where no answer came."""

    method: str
    url: str
    sent: str
    status: int
    received: str
    seconds: float

    def __str__(self) -> str:
        return f"> {self.method} {self.url}\n{self.sent}\n< {self.status or 'no answer'} after {self.seconds * 1000:.0f} ms\n{self.received}".rstrip()


@dataclass
class Wire:
    """A client that follows no redirect, keeps no cookie, and remembers what it sent."""

    verify: bool = True
    timeout: float = 30
    exchanges: list[Exchange] = field(default_factory=list)
    _clients: list[httpx2.Client] = field(default_factory=list, repr=False)

    def fresh_client(self) -> httpx2.Client:
        """A client of its own, with its own cookies: somebody's browser. Closed with the wire."""
        made = httpx2.Client(verify=self.verify, timeout=self.timeout, follow_redirects=False, trust_env=False)
        self._clients.append(made)
        return made

    @cached_property
    def _client(self) -> httpx2.Client:
        return self.fresh_client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in self._clients:
            each.close()

    def drained(self) -> tuple[Exchange, ...]:
        """What happened since the last call."""
        found = tuple(self.exchanges)
        self.exchanges.clear()
        return found

    def ask(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Sequence[tuple[str, str]] | Mapping[str, str] | None = None,
        form: Sequence[tuple[str, str]] | Mapping[str, str] | None = None,
        json: Any = None,
        content: bytes | None = None,
        client: httpx2.Client | None = None,
    ) -> httpx2.Response:
        """One request. `params` are added to the URL's own; `form` keeps names that come twice; raises `httpx2.HTTPError` where no answer comes."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        if form is not None:
            content = str(httpx2.QueryParams(tuple(form.items() if isinstance(form, Mapping) else form))).encode()
            given.setdefault("Content-Type", "application/x-www-form-urlencoded")
        target = httpx2.URL(url)
        if params:
            added = tuple(params.items() if isinstance(params, Mapping) else params)
            target = target.copy_with(params=httpx2.QueryParams([*target.params.multi_items(), *added]))
        sender = client or self._client
        request = sender.build_request(method, target, headers=given, json=json, content=content)
        began = time.perf_counter()
        answer: httpx2.Response | None = None
        try:
            answer = sender.send(request)
        finally:
            if client is None:
                self._client.cookies.clear()
            self.exchanges.append(_exchange(request, answer, time.perf_counter() - began))
        return answer

    def get(self, url: str, **given: Any) -> httpx2.Response:
        return self.ask("GET", url, **given)

    def post(self, url: str, **given: Any) -> httpx2.Response:
        return self.ask("POST", url, **given)


def _exchange(request: httpx2.Request, answer: httpx2.Response | None, seconds: float) -> Exchange:
    received = f"{_headers(answer.headers)}\n{_body(answer.headers, answer.content)}" if answer is not None else ""
    return Exchange(
        request.method,
        masked(str(request.url)),
        f"{_headers(request.headers)}\n{_body(request.headers, request.content)}",
        answer.status_code if answer is not None else 0,
        received,
        seconds,
    )


def _headers(headers: httpx2.Headers) -> str:
    return "\n".join(
        f"{name}: {_MASK if name.lower() in _SECRET_HEADERS else masked(value)}" for name, value in headers.multi_items()
    )


def _body(headers: httpx2.Headers, body: bytes) -> str:
    kind = headers.get("content-type", "")
    if not body:
        return ""
    if "multipart/related" in kind or not any(each in kind for each in ("json", "text", "xml", "urlencoded", "html")):
        return f"[{len(body)} bytes]"
    text = masked(body.decode("utf-8", "replace"))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} [... {len(text)} characters]"
