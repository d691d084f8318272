"""A small EHR with its own SMART authorization server (SMART App Launch 2.2): it launches the viewer in a frame of its chart, and says whatever it is to.

The benchmark of the viewer and the tests of launches use it.
"""

import base64
import hashlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT: Final = "imageshare-at-the-ehr"
SYSTEM: Final = "https://ehr.example.org/mrn"
Json = dict[str, Any]


@dataclass
class Ehr:
    """`says` changes what is answered: `patient`, `fhirContext`, `deny`, `id_token` (claims), `expires_in`, `refresh`. `asked` is what was asked for."""

    port: int
    app: str
    says: Json = field(default_factory=dict)
    resources: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    codes: dict[str, Json] = field(default_factory=dict)
    refreshing: set[str] = field(default_factory=set)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "e1", "alg": "RS256", "use": "sig"}))

    @property
    def base(self) -> str:
        """On `localhost`: another site than 127.0.0.1."""
        return f"http://localhost:{self.port}"

    @property
    def fhir(self) -> str:
        return f"{self.base}/fhir"

    def routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/chart", self._chart), Route("/fhir/.well-known/smart-configuration", self._metadata), Route("/jwks", self._jwks),
                Route("/authorize", self._authorize), Route("/token", self._token, methods=["POST"]), Route("/fhir/{type}/{id}", self._read),
            ]
        )  # fmt: skip

    def _chart(self, request: Request) -> Response:
        launch = urlencode({"iss": self.fhir, "launch": "l1"})
        frame = f'<iframe title="Images" src="{self.app}/launch?{launch}" style="width:100%;height:90vh;border:0"></iframe>'
        return HTMLResponse(f"<!doctype html><title>Chart</title><h1>Chart of Thea Phantom</h1>{frame}")

    def _metadata(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.base, "jwks_uri": f"{self.base}/jwks", "authorization_endpoint": f"{self.base}/authorize",
                "token_endpoint": f"{self.base}/token", "capabilities": ["launch-ehr"], "code_challenge_methods_supported": ["S256"],
            }
        )  # fmt: skip

    def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["aud"] == self.fhir
        assert query["launch"] == "l1"
        assert query["code_challenge_method"] == "S256"
        if self.says.get("deny"):
            return RedirectResponse(
                f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': query['state']})}", 302
            )
        self.codes[code := secrets.token_urlsafe(16)] = query
        return RedirectResponse(
            f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], **self.says.get('back', {})})}", 302
        )

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        self.asked.append(form["grant_type"])
        if self.says.get("away"):
            return Response("busy", 503)
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refreshing or self.says.get("deny"):
                return JSONResponse({"error": "invalid_grant"}, 400)
            self.refreshing.discard(form["refresh_token"])
            return JSONResponse(self._tokens())
        given = self.codes.pop(form["code"], None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if (
            given is None
            or digest != given["code_challenge"]
            or form["redirect_uri"] != given["redirect_uri"]
            or not self._knows(request, form)
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.base,
            "sub": "dr-berg",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": given["nonce"],
            "fhirUser": f"{self.fhir}/Practitioner/berg",
        }
        claims |= self.says.get("id_token", {})
        id_token = jwt.encode({"alg": "RS256", "kid": "e1"}, claims, self.key)
        context = {name: self.says[name] for name in ("patient", "fhirContext") if name in self.says}
        return JSONResponse({**self._tokens(), "id_token": id_token, **context})

    def _knows(self, request: Request, form: Mapping[str, str]) -> bool:
        """RFC 6749 section 2.3.1: by its secret, where it has one."""
        if secret := self.says.get("secret"):
            pair = base64.b64encode(f"{CLIENT}:{secret}".encode()).decode()
            return request.headers.get("authorization") == f"Basic {pair}" and "client_id" not in form
        return form.get("client_id") == CLIENT and "authorization" not in request.headers

    def _tokens(self) -> Json:
        more = {}
        if self.says.get("refresh"):
            self.refreshing.add(token := secrets.token_urlsafe(16))
            more = {"refresh_token": token}
        return {
            "access_token": "ehr-token",
            "token_type": "Bearer",
            "expires_in": self.says.get("expires_in", 3600),
            "scope": "launch",
            **more,
        }

    def _read(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer ehr-token"
        found = self.resources.get(f"{request.path_params['type']}/{request.path_params['id']}")
        return JSONResponse(found) if found is not None else Response(json.dumps({"resourceType": "OperationOutcome"}), 404)

    def knows(self, id_: str, mrn: str) -> None:
        """A Patient of its own, with that medical record number."""
        self.resources[f"Patient/{id_}"] = {
            "resourceType": "Patient",
            "id": id_,
            "identifier": [{"system": SYSTEM, "value": mrn}],
        }

    def has_study(self, id_: str, uid: str) -> None:
        self.resources[f"ImagingStudy/{id_}"] = {
            "resourceType": "ImagingStudy", "id": id_, "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        }  # fmt: skip


@contextmanager
def served(app: Any, socket_: socket.socket) -> Iterator[None]:
    """An ASGI application on a socket that listens."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


def settings(port: int, authority: str) -> Json:
    """What a server has to be told of an EHR on this port, whose patients have Patient IDs that `authority` (an OID) assigns."""
    base = f"http://localhost:{port}"
    return {
        "ehrs": [{"issuer": f"{base}/fhir", "client_id": CLIENT, "patient_authority": authority, "patient_system": SYSTEM, "origins": [base]}],
        "fetch_allowed_hosts": [f"localhost:{port}"],
    }  # fmt: skip


def free() -> socket.socket:
    """A socket that listens, on a port of its own."""
    return socket.create_server(("127.0.0.1", 0))


@contextmanager
def running(socket_: socket.socket, app: str) -> Iterator[Ehr]:
    """An EHR on this socket, which launches the app of this base URL."""
    made = Ehr(socket_.getsockname()[1], app)
    with served(made.routes(), socket_):
        yield made
