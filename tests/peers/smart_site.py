"""A node with all of its HTTP edges, a client of each kind, people of each kind, and two patients: A with two studies, B with one.

`smart_site` is in this process; with `listening` it answers on a real socket of the port that its URLs name.
"""

import base64
import hashlib
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson
from httpx2 import Response
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from peers import imageshare
from peers.generated import Made, send
from starlette.testclient import TestClient

from conformance.bench.ehr import served
from server.access.oauth import clients
from server.access.oauth.clients import CLIENT_CREDENTIALS, Client
from server.access.people import accounts, proxies
from server.access.people.accounts import Account
from server.access.people.sessions import Session
from server.app import create_app
from server.edges.context import Node
from server.records import trail
from server.records.catalogue import PATIENT, STUDY
from server.store.db import micros

SCOPE: Final = (
    "openid fhirUser profile launch launch/patient launch/encounter launch/imagingstudy offline_access online_access "
    "patient/*.cruds user/*.cruds"
)
BACK: Final = "https://app.example.org/back"
ORIGIN: Final = "https://app.example.org"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
STUDIES: Final = {"A": (Made(study=1, patient="A", name="Alba^Anna"), Made(study=2, patient="A", name="Alba^Anna")), "B": (Made(study=3, patient="B", name="Berg^Bert"),)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pkce:
    """A verifier and its challenge (RFC 7636)."""

    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")


@dataclass
class SmartSite:
    """`patients` and `studies` are resource ids and Study Instance UIDs by patient; `people` are accounts by kind."""

    node: Node
    http: TestClient
    patients: dict[str, str] = field(default_factory=dict)
    studies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    people: dict[str, Account] = field(default_factory=dict)
    secret: dict[str, str] = field(default_factory=dict)
    keys: dict[str, RSAKey | ECKey] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.node.settings.base_url

    # --- authorization

    def asking(self, client: str = "public", scope: str = "patient/*.rs", pkce: Pkce | None = None, **changed: str | None) -> dict[str, str]:  # fmt: skip
        """The parameters of an authorization request; those changed to None are left out."""
        given: dict[str, str | None] = {
            "response_type": "code", "client_id": client, "redirect_uri": BACK, "scope": scope, "state": "s1", "aud": f"{self.base}/fhir",
            "code_challenge": (pkce or Pkce()).challenge, "code_challenge_method": "S256", **changed,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def authorize(self, parameters: Mapping[str, str], *, post: bool = False) -> Response:
        if post:
            return self.http.post("/oauth/authorize", data=dict(parameters))
        return self.http.get("/oauth/authorize", params=dict(parameters))

    def session(self, who: str) -> Session:
        """A session of one of the `people`."""
        return self.node.people.sessions.open(self.people[who], ("password",), 1)[0]

    def agree(self, response: Response, who: str = "patient", **answer: Any) -> dict[str, str]:
        """What the app gets back once the person has agreed to all of what the page shows."""
        assert response.status_code in (302, 303), response.text
        session = answer.pop("session", None) or self.session(who)
        authorizing = self.node.authorizing
        asked = authorizing.asked(response.headers["location"].rpartition("/")[2])
        assert asked is not None, response.headers["location"]
        patient = answer.pop("patient", asked.patient or (self.patients["A"] if asked.needs_patient else None))
        studies = answer.pop("studies", ())
        shown = authorizing.digest(asked, session, patient=patient, studies=studies)
        given = {"scopes": asked.scopes, "offline": True, "patient": patient, "studies": studies, "shown": shown, **answer}
        return back(authorizing.approve(asked.request_id, session, **given))

    def code(self, client: str = "public", scope: str = "patient/*.rs", who: str = "patient", *, pkce: Pkce, asking: Mapping[str, str] = {}, **answer: Any) -> str:  # fmt: skip
        """A code for the app."""
        return self.agree(self.authorize(self.asking(client, scope, pkce, **asking)), who, **answer)["code"]

    def redeem(self, code: str, pkce: Pkce, client: str = "public", **changed: str) -> Response:
        return self.token({"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": pkce.verifier, **changed}, client)  # fmt: skip

    def token(self, form: Mapping[str, str], client: str = "public", *, http: Any = None) -> Response:
        """A token request with the client's own authentication, by Basic where it has a secret."""
        given, headers = dict(form), {}
        if client in self.secret:
            headers["Authorization"] = basic(client, self.secret[client])
        elif client in self.keys:
            given |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self.assertion(client)}
        else:
            given["client_id"] = client
        response: Response = (http or self.http).post("/oauth/token", data=given, headers=headers)
        return response

    def tokens(self, client: str = "public", scope: str = "patient/*.rs", who: str = "patient", **answer: Any) -> dict[str, Any]:
        """The token response at the end of a launch."""
        pkce = Pkce()
        response = self.redeem(self.code(client, scope, who, pkce=pkce, **answer), pkce, client)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def refresh(self, token: str, client: str = "public", **more: str) -> Response:
        return self.token({"grant_type": "refresh_token", "refresh_token": token, **more}, client)

    def backend(self, scope: str = "system/*.rs", client: str = "backend") -> Response:
        return self.token({"grant_type": "client_credentials", "scope": scope}, client)

    def assertion(self, client: str, header: Mapping[str, Any] = {}, key: Any = None, **changed: Any) -> str:
        """A client assertion (RFC 7523); claims changed to None are left out."""
        key = key or self.keys[client]
        algorithm = "RS384" if isinstance(key, RSAKey) else "ES384"
        claims = {
            "iss": client, "sub": client, "aud": f"{self.base}/oauth/token", "exp": int(time.time()) + 240, "jti": secrets.token_hex(16),
            **changed,
        }  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": algorithm, "kid": "k1", "typ": "JWT", **header}, kept, key, algorithms=[algorithm])

    def launch(self, app: str = "public", by: str = "ehr", **context: str) -> Response:
        """A launch handle from the EHR."""
        return self.http.post(
            "/oauth/launch", data={"app": app, **context}, headers={"Authorization": basic(by, self.secret[by])}
        )

    # --- data

    def fhir(self, path: str, token: str, **headers: str) -> Response:
        return self.http.get(f"/fhir/{path}", headers={"Authorization": f"Bearer {token}", **headers})

    def events(self) -> list[dict[str, Any]]:
        """The trail, newest first."""
        with self.node.database.read() as connection:
            return [dict(orjson.loads(event.body)) for event in trail.events(connection, limit=100)]


def basic(client: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def back(url: str) -> dict[str, str]:
    """The parameters of a redirect, each once."""
    found = parse_qs(urlsplit(url).query, strict_parsing=True, keep_blank_values=True)
    assert all(len(values) == 1 for values in found.values()), url
    return {name: values[0] for name, values in found.items()}


@contextmanager
def smart_site(data: Path, database_url: str | None = None, **settings: object) -> Iterator[SmartSite]:
    """The site, for requests within this process."""
    elsewhere = {"name": "county", "registry": "http://127.0.0.1:9/registry"}  # where nobody listens
    with imageshare.node(data, database_url, **{"timezone": "UTC", "communities": (elsewhere,), **settings}) as node:
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(node.settings.base_url))
        http = TestClient(create_app(node), base_url=origin, raise_server_exceptions=False, follow_redirects=False)
        site = SmartSite(node, http)
        _fill(site)
        yield site


@contextmanager
def listening(data: Path, database_url: str | None = None, **settings: object) -> Iterator[SmartSite]:
    """The site on a real socket of 127.0.0.1: what `base` names can be called."""
    socket_ = socket.create_server(("127.0.0.1", 0))
    port = socket_.getsockname()[1]
    with smart_site(data, database_url, http_port=port, **settings) as site:
        with served(site.http.app, socket_):
            yield site


def _fill(site: SmartSite) -> None:
    node = site.node
    send(node, *(made for each in STUDIES.values() for made in each))
    imageshare.publish_all(node)
    with node.database.write() as connection:
        joined = STUDY.join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        for value, id_, uid in connection.execute(
            joined.select().with_only_columns(PATIENT.c.value, PATIENT.c.id, STUDY.c.uid)
        ).all():
            site.patients[value] = id_
            site.studies[value] = (*site.studies.get(value, ()), uid)
        _people(site, connection)
        _clients(site, connection)


def _people(site: SmartSite, connection: Any) -> None:
    own = {"patient": "A", "other": "B"}
    for name, value in own.items():
        patient = site.patients[value]
        site.people[name] = accounts.add(
            connection, kind="patient", email=f"{name}@example.org", name=name.title(), patients=[patient]
        )
    for kind in ("proxy", "practitioner", "staff", "administrator"):
        user = {"practitioner": "Practitioner/p1"}.get(kind, "")
        site.people[kind] = accounts.add(connection, kind=kind, email=f"{kind}@example.org", name=kind.title(), fhir_user=user)
    proxies.begin(connection, account=site.people["proxy"].id, patient=site.patients["A"], relation="parent", begins=micros() - 1)


def _clients(site: SmartSite, connection: Any) -> None:
    site.keys = {"asymmetric": _key(RSAKey), "backend": _key(ECKey)}
    common: dict[str, Any] = {
        "redirect_uris": (BACK,),
        "scope": SCOPE,
        "origins": (ORIGIN,),
        "launch_uri": "https://app.example.org/launch",
    }
    made = [
        Client("public", "A public app", "public", **common),
        Client("native", "A native app", "public", **{**common, "redirect_uris": ("http://127.0.0.1/back", "org.example.app:/back")}),
        Client("secret", "An app with a secret", "secret", **common),
        Client("asymmetric", "An app with a key", "asymmetric", jwks=_jwks(site.keys["asymmetric"]), **common),
        Client(
            "backend", "A service", "asymmetric", jwks=_jwks(site.keys["backend"]), scope="system/*.cruds",
            grant_types=frozenset({CLIENT_CREDENTIALS}),
        ),
        Client("ehr", "An EHR", "secret", grant_types=frozenset(), may=frozenset({"introspect", "launch"})),
    ]  # fmt: skip
    for client in made:
        if secret := clients.add(connection, client):
            site.secret[client.id] = secret


def _key(kind: type[RSAKey] | type[ECKey]) -> Any:
    about: Any = {"kid": "k1", "use": "sig"}
    return RSAKey.generate_key(2048, about, private=True) if kind is RSAKey else ECKey.generate_key("P-384", about, private=True)


def _jwks(key: RSAKey | ECKey) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False)]}
