"""The whole of it behind a real socket, and the target that the kit is given for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from joserfc import jwt
from peers.faulty_smart import fhir, images, oauth
from peers.faulty_smart.state import (
    CLIENT_EC,
    CLIENT_RSA,
    FHIR,
    INITIAL,
    ORIGIN,
    OTHER_SECRET,
    PATIENTS,
    REDIRECT,
    SIGNING,
    WADO,
    Grant,
    Images,
    State,
    handle,
    new_state,
    now,
)
from starlette.applications import Starlette

from conformance.smart.target import Target, target_of

_LABELS = {"allow": ["Sign in", "Allow"], "deny": ["Deny"]}


@contextmanager
def faulty(*faults: str, capabilities: bool = False) -> Iterator[tuple[Target, State]]:
    """A running server with these faults, right without any."""
    state = new_state(*faults)
    state.with_capabilities = capabilities
    app = Starlette(routes=[*oauth.ROUTES, *fhir.ROUTES, *images.ROUTES])
    app.state.smart = state
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    state.base = f"http://127.0.0.1:{port}"
    try:
        yield target(state), state
    finally:
        server.should_exit = True
        thread.join()


def target(state: State) -> Target:
    """What the kit is told of it."""
    client: dict[str, Any] = {"redirect_uri": REDIRECT, "origin": ORIGIN, "scope": state.clients["app"].scope}
    keys = {"key": CLIENT_RSA.as_dict(private=True), "other_key": CLIENT_EC.as_dict(private=True)}
    return target_of(
        {
            "fhir": state.base + FHIR,
            "dicomweb": state.base + WADO,
            "patients": dict(PATIENTS),
            "clients": {
                "public": {"id": "app", **client},
                "secret": {"id": "confidential", "secret": OTHER_SECRET, **client},
                "asymmetric": {"id": "signed", **keys, **client},
                "backend": {"id": "service", "patients": ["a"], "scope": "system/ImagingStudy.rs launch", **keys},
            },
            "users": {name: _user(name, account.fhir_user) for name, account in state.accounts.items()},
            "studies": [_study(each) for each in state.studies],
            "launcher": {
                "url": f"{state.base}/oauth/launch",
                "client": "backend",
                "encounter": "encounter-1",
                "bound": True,
                "expects": {"intent": "look", "tenant": "t1", "fhirContext": [{"reference": "ImagingStudy/study-ankle"}]},
                "body": {
                    "client_id": "app", "patient": "$patient", "encounter": "$encounter", "need_patient_banner": False,
                    "intent": "look", "tenant": "t1", "fhirContext": [{"reference": "ImagingStudy/study-ankle"}],
                },
            },
            "tokens": {
                "expired": _signed(state, exp=now() - 100),
                "other_audience": _signed(state, aud="https://other.invalid/fhir"),
                "no_patient": _signed(state, Grant("app", "patient", "patient/*.rs", "", {})),
            },
            "initial_access_token": INITIAL,
        }
    )  # fmt: skip


def _user(name: str, fhir_user: str) -> dict[str, Any]:
    fields = {"email": name, "password": "kit", "patient": "$patient", "study": "$study"}
    return {"fields": fields, "fhir_user": fhir_user, **_LABELS}


def _study(each: Images) -> dict[str, Any]:
    first = next(iter(each.series))
    return {
        "name": each.name,
        "uid": each.uid,
        "patient": each.patient,
        "series": list(each.series),
        "instance": [first, each.series[first][0]],
        "instances": sum(map(len, each.series.values())),
        "withheld_from": list(each.withheld),
        "withheld_series": [each.last_series] if each.series_withheld else [],
        "series_withheld_from": list(each.series_withheld),
        "pending": each.pending,
    }


def _signed(state: State, grant: Grant | None = None, **claims: Any) -> str:
    """An access token with these claims in place of right ones."""
    id_ = handle()
    state.grants[id_] = grant or Grant("app", "patient", "patient/*.rs", PATIENTS["a"], {})
    right = {"iss": state.base, "aud": state.fhir, "exp": now() + 3600, "scope": "patient/*.rs", "grant": id_}
    header = {"alg": "RS256", "typ": "at+jwt", "kid": SIGNING.kid}
    return jwt.encode(header, {**right, **claims}, SIGNING, algorithms=["RS256"])
