"""Our own server as a target of the kit `conformance/smart`: what `smart_site` has, with clients and people as the kit wants them."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from joserfc.jwk import ECKey, RSAKey
from peers import imageshare
from peers.generated import Made, send
from peers.people import PASSWORD, quick_hashing
from peers.smart_site import BACK, ORIGIN, SCOPE, STUDIES, SmartSite
from sqlalchemy import select

from conformance.bench.ehr import served
from conformance.smart.target import Study, Target, target_of
from server.access.oauth import clients
from server.access.oauth.clients import CLIENT_CREDENTIALS, INTROSPECT, LAUNCH, Client
from server.access.people import accounts, passwords, proxies
from server.app import create_app
from server.records import resources
from server.records.catalogue import PATIENT
from server.store.db import micros

_AUTHORITY: Final = "1.2.3.4"
REGISTRATION: Final = "kit-may-register-here"
_LABELS: Final = {"allow": ["Sign in", "Continue", "Allow"], "deny": ["Don’t allow"]}
_USERS: Final = {"patient": "patient", "patient_b": "other", "proxy": "parent", "practitioner": "practitioner"}
_HIDDEN: Final = Made(study=5, patient="A", name="Alba^Anna")
_OPEN, _CLOSED = (Made(study=6, series=each, patient="A", name="Alba^Anna") for each in (1, 2))
"""A study that a Consent keeps from some, and the series of another of which it keeps one."""
_FROM: Final = {"proxy": "RelatedPerson/parent", "backend": "Device/kit"}
_CONTEXT: Final = {"intent": "look", "tenant": "t1", "need_patient_banner": False}


RSA: Final = RSAKey.generate_key(2048, {"kid": "kit-RS384", "use": "sig", "alg": "RS384"}, private=True)
EC: Final = ECKey.generate_key("P-384", {"kid": "kit-ES384", "use": "sig", "alg": "ES384"}, private=True)
JWKS: Final[Mapping[str, Any]] = {"keys": [each.as_dict(private=False) for each in (RSA, EC)]}
"""The keys of the kit's clients; one of them has a URL for them."""


def smart_target(site: SmartSite, jwks_uri: str = "") -> Target:
    """A target for this site, which is listening. People get passwords, and there are clients of the kit's own.

    `jwks_uri` is where somebody serves `JWKS`.
    """
    secret = _prepared(site, jwks_uri)
    rsa, ec = RSA.as_dict(private=True), EC.as_dict(private=True)
    by_url = {"backend_by_url": {"id": "kit-by-url", "key": rsa, "jku": jwks_uri}} if jwks_uri else {}
    app = {"redirect_uri": BACK, "origin": ORIGIN, "scope": SCOPE}
    _withhold(site)
    studies = [_study(site, f"{name}{number}", made) for name in STUDIES for number, made in enumerate(STUDIES[name])]
    studies.append({**_study(site, "hidden", _HIDDEN), "withheld_from": list(_FROM)})
    partial = {"series": [_OPEN.series_uid, _CLOSED.series_uid], "instances": 2, "withheld_series": [_CLOSED.series_uid]}
    studies.append({**_study(site, "partial", _OPEN), **partial, "series_withheld_from": list(_FROM)})
    return target_of(
        {
            "fhir": f"{site.base}/fhir",
            "dicomweb": f"{site.base}/dicomweb",
            "patients": {"a": site.patients["A"], "b": site.patients["B"]},
            "clients": {
                "public": {"id": "public", **app},
                "secret": {"id": "kit-secret", "secret": secret, **app},
                "asymmetric": {"id": "kit-asymmetric", "key": rsa, **app},
                "backend": {
                    "id": "kit-backend",
                    "key": rsa,
                    "other_key": ec,
                    "scope": "system/ImagingStudy.rs",
                    "patients": ["a"],
                },
                **by_url,
                "ehr": {"id": "ehr", "secret": site.secret["ehr"]},
                "introspector": {"id": "ehr", "secret": site.secret["ehr"]},
            },
            "users": {name: _user(site, who) for name, who in _USERS.items()},
            "studies": studies,
            "launcher": {
                "url": f"{site.base}/oauth/launch",
                "client": "ehr",
                "form": True,
                "bound": True,
                "encounter": "encounter-1",
                "body": {"app": "public", "patient": "$patient", "encounter": "$encounter", "context": _CONTEXT},
                "expects": _CONTEXT,
            },
            "tokens": {
                "expired": site.node.tokens.issue(
                    client="public", scope="patient/*.rs", patient=site.patients["A"], seconds=-120
                ),
                "no_patient": site.node.tokens.issue(client="public", scope="patient/*.rs"),
            },
            "initial_access_token": REGISTRATION,
        }
    )


@contextmanager
def separate(data: Path, ehr: Target, issuer: str) -> Iterator[Target]:
    """This server as one of images alone, whose tokens are those of an EHR that is elsewhere: the EHR's target, with our images."""
    trusted = {
        "issuer": issuer,
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "client_id": ehr.clients["secret"].id,
        "client_secret": ehr.clients["secret"].secret,
        "cache_seconds": 0,
        "audience": [ehr.fhir],
        "scope": "patient/*.cruds user/*.rs",
        "patient_authority": _AUTHORITY,
    }
    socket_ = socket.create_server(("127.0.0.1", 0))
    settings = {"http_port": socket_.getsockname()[1], "fetch_allowed_hosts": ["127.0.0.1"], "trusted_issuers": [trusted]}
    with imageshare.node(data, **settings) as node:
        made = [Made(study=1, patient="alice"), Made(study=2, patient="alice"), Made(study=3, patient="bob")]
        send(node, *made, authority=_AUTHORITY)
        imageshare.publish_all(node)
        names = {"alice": "a", "bob": "b"}
        studies = tuple(
            Study(str(one.study), one.study_uid, names[one.patient], (one.series_uid,), (one.series_uid, one.uid), 1)
            for one in made
        )
        base = node.settings.base_url
        with node.database.read() as connection:
            ids = {names[row.value]: row.id for row in connection.execute(select(PATIENT.c.value, PATIENT.c.id))}
        known = {name: client for name, client in ehr.clients.items() if name != "backend"}  # whom it may see is said nowhere
        with served(create_app(node), socket_):
            yield replace(
                ehr, fhir=f"{base}/fhir", clinical=ehr.fhir, dicomweb=f"{base}/dicomweb", studies=studies, tokens={}, clients=known,
                imaging_patients=ids,
            )  # fmt: skip


def _prepared(site: SmartSite, jwks_uri: str) -> str:
    """Passwords for everybody, and clients whose keys and secrets the kit knows. Gives the secret."""
    common: dict[str, Any] = {"redirect_uris": (BACK,), "scope": SCOPE, "origins": (ORIGIN,)}
    hashed = quick_hashing().hash(PASSWORD)
    with site.node.database.write() as connection:
        parent = accounts.add(connection, kind="proxy", email="parent@example.org", name="Parent", fhir_user=_FROM["proxy"])
        proxies.begin(connection, account=parent.id, patient=site.patients["A"], relation="parent", begins=micros() - 1)
        site.people["parent"] = parent
        for account in site.people.values():
            passwords.store(connection, account.id, hashed)
        secret = clients.add(connection, Client("kit-secret", "An app with a secret", "secret", **common))
        clients.add(connection, Client("kit-asymmetric", "An app with a key", "asymmetric", jwks=JWKS, **common))
        backend = Client(
            "kit-backend", "A service", "asymmetric", jwks=JWKS, scope="system/ImagingStudy.rs", device=_FROM["backend"]
        )
        reach, may = frozenset([site.patients["A"]]), frozenset({INTROSPECT, LAUNCH})
        backend = replace(backend, reach=reach, may=may, grant_types=frozenset({CLIENT_CREDENTIALS}))
        clients.add(connection, backend)
        if jwks_uri:
            clients.add(
                connection,
                replace(backend, id="kit-by-url", jwks=None, jwks_uri=jwks_uri),
                site.node.settings.fetch_allowed_hosts,
            )
    return secret


def _user(site: SmartSite, who: str) -> dict[str, Any]:
    account = site.people[who]
    fields = {"email": account.email, "password": PASSWORD, "patient": "$patient", "study": "$study"}
    return {"fields": fields, "fhir_user": account.fhir_user, **_LABELS}


def _withhold(site: SmartSite) -> None:
    """More studies of A, and a Consent that keeps one, and a series of another, from those who are named."""
    send(site.node, _HIDDEN, _OPEN, _CLOSED)
    imageshare.publish_all(site.node)
    data = [
        {"meaning": "instance", "reference": {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}}
        for uid in (_HIDDEN.study_uid, _CLOSED.series_uid)
    ]
    actors = [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": each}} for each in _FROM.values()]
    consent = {
        "resourceType": "Consent", "id": "kit", "status": "active", "scope": {"text": "privacy"}, "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{site.patients['A']}"}, "policy": [{"uri": "urn:policy"}],
        "provision": {"type": "permit", "provision": [{"type": "deny", "actor": actors, "data": data}]},
    }  # fmt: skip
    with site.node.database.write() as connection:
        resources.put(connection, {"resourceType": "RelatedPerson", "id": "parent", "patient": consent["patient"]})
        resources.put(connection, consent)


def _study(site: SmartSite, name: str, made: Made) -> dict[str, Any]:
    token = site.node.tokens.issue(client="kit", scope="system/*.rs")
    found = site.fhir(f"ImagingStudy?identifier=urn:oid:{made.study_uid}", token).json()
    return {
        "name": name,
        "uid": made.study_uid,
        "patient": made.patient.lower(),
        "series": [made.series_uid],
        "instance": [made.series_uid, made.uid],
        "instances": 1,
        "choice": found["entry"][0]["resource"]["id"],
    }
