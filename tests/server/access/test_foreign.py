"""Tokens of foreign authorization servers: by keys from a real socket, and by asking a whole other node that stands for the EHR."""

import base64
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from peers import imageshare, smart_site
from peers.generated import Made, send
from peers.listener import Listener, answer, listening
from starlette.testclient import TestClient

from server.access.decisions import Interaction
from server.app import create_app
from server.edges.context import Node
from server.errors import Busy, SettingsError, Unauthenticated, Unavailable
from server.records import trail
from server.records.catalogue import PATIENT
from server.records.identities import IDENTITY

ISSUER: Final = "https://ehr.example.org"
AUTHORITY: Final = "1.2.3.4"
OURS: Final = "https://images.example.org"
ANNA = [Made(study=1, patient="A", name="Alba^Anna")]
BERT = [Made(study=3, patient="B", name="Berg^Bert")]
RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")
LARGE_EC = ECKey.generate_key("P-384")
KEYS: Final[Mapping[str, RSAKey | ECKey]] = {"RS256": RSA, "RS384": RSA, "ES256": EC, "ES384": LARGE_EC}


def _jwks(*keys: RSAKey | ECKey) -> bytes:
    told = [
        {**key.as_dict(private=False), "kid": f"k-{key.key_type}-{key.as_dict(private=False).get('crv', '')}"} for key in keys
    ]
    return json.dumps({"keys": told}).encode()


def _kid(key: RSAKey | ECKey) -> str:
    return f"k-{key.key_type}-{key.as_dict(private=False).get('crv', '')}"


def _token(algorithm: str = "RS256", key: RSAKey | ECKey | None = None, header: Mapping[str, Any] = {}, **changed: Any) -> str:
    key = key or KEYS[algorithm]
    claims = {
        "iss": ISSUER, "aud": f"{OURS}/fhir", "sub": "dr", "client_id": "app", "scope": "patient/*.rs openid", "patient": "A",
        "exp": int(time.time()) + 300, "iat": int(time.time()), "jti": secrets.token_hex(8), **changed,
    }  # fmt: skip
    kept = {name: value for name, value in claims.items() if value is not None}
    made = {"alg": algorithm, "kid": _kid(key), "typ": "at+jwt", **header}
    return jwt.encode({name: value for name, value in made.items() if value is not None}, kept, key, algorithms=[algorithm])


@contextmanager
def _node(data: Path, **issuer: Any) -> Iterator[Node]:
    trusted = {"issuer": ISSUER, "patient_authority": AUTHORITY, **issuer}
    with imageshare.node(data, public_url=OURS, fetch_allowed_hosts=["127.0.0.1"], trusted_issuers=[trusted]) as node:
        send(node, *ANNA, *BERT, authority=AUTHORITY)
        imageshare.publish_all(node)
        yield node


@contextmanager
def _keyed(data: Path, **issuer: Any) -> Iterator[tuple[Node, Listener]]:
    with (
        listening(answer(_jwks(RSA, EC, LARGE_EC), "Cache-Control: max-age=60")) as keys,
        _node(data, jwks_uri=f"http://127.0.0.1:{keys.port}/jwks", **issuer) as node,
    ):
        yield node, keys


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[tuple[Node, Listener]]:
    with _keyed(tmp_path) as made:
        yield made


def _id(node: Node, value: str) -> str:
    with node.database.read() as connection:
        return str(connection.execute(PATIENT.select().where(PATIENT.c.value == value)).one().id)


def _get(node: Node, path: str, token: str) -> Any:
    http = TestClient(create_app(node), base_url=OURS, raise_server_exceptions=False)
    return http.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("typ", ["at+jwt", "JWT", None, "application/at+jwt"])
def test_a_token_of_a_trusted_issuer_opens_its_patient_here(
    keyed: tuple[Node, Listener], algorithm: str, typ: str | None
) -> None:
    node, keys = keyed
    decision = node.tokens.decide(_token(algorithm, header={"typ": typ}))
    assert decision.subject == f"{ISSUER}|app"
    assert decision.patients("ImagingStudy", Interaction.READ) == frozenset([_id(node, "A")])
    assert decision.patients("ImagingStudy", Interaction.CREATE) == frozenset()
    node.tokens.decide(_token(algorithm))
    assert keys.connections == 1


def test_it_opens_fhir_and_dicomweb_alike_and_nobody_elses(keyed: tuple[Node, Listener]) -> None:
    node, _ = keyed
    token, anna, bert = _token(), _id(node, "A"), _id(node, "B")
    for path, status in {
        f"/fhir/ImagingStudy?patient={anna}": 200,
        f"/fhir/ImagingStudy?patient={bert}": 403,
        f"/fhir/Patient/{anna}": 200,
        f"/fhir/Patient/{bert}": 403,
        f"/dicomweb/studies/{ANNA[0].study_uid}/metadata": 200,
        f"/dicomweb/studies/{BERT[0].study_uid}/metadata": 403,
    }.items():
        assert _get(node, path, token).status_code == status, path
    found = _get(node, "/fhir/ImagingStudy", token).json()
    assert [each["resource"]["subject"]["reference"] for each in found["entry"]] == [f"Patient/{anna}"]
    with node.database.read() as connection:
        told = [event.body for event in trail.events(connection, limit=100)]
    assert any(f"{ISSUER}|app".encode() in body for body in told)
    assert not any(token.split(".")[2].encode() in body for body in told)


def test_what_its_patient_is_called_there_means_nobody_else_here(keyed: tuple[Node, Listener]) -> None:
    """SMART Imaging Access: the app searches by the id that it was launched with, by every door of FHIR, and is told by ours."""
    node, _ = keyed
    anna, bert = _id(node, "A"), _id(node, "B")
    assert node.tokens.decide(_token()).known_as == "A"
    http = TestClient(create_app(node), base_url=OURS, raise_server_exceptions=False)
    headers = {"Authorization": f"Bearer {_token()}"}
    told = [
        http.get("/fhir/ImagingStudy?patient=A&_sort=started", headers=headers).json(),
        http.post("/fhir/ImagingStudy/_search", data={"patient": "Patient/A"}, headers=headers).json(),
        http.get("/fhir/Patient/A/ImagingStudy", headers=headers).json(),
        http.post("/fhir", json=_BATCH, headers=headers).json()["entry"][0]["resource"],
    ]
    for each in told:
        assert [entry["resource"]["subject"]["reference"] for entry in each["entry"]] == [f"Patient/{anna}"]
        own = next(link["url"] for link in each["link"] if link["relation"] == "self")
        assert http.get(own, headers=headers).json()["total"] == 1, own
    for path in (
        "ImagingStudy?patient=B",
        f"ImagingStudy?patient={bert}",
        "Patient/B/ImagingStudy",
        "ImagingStudy?patient=a",
        "Patient/A",
    ):
        assert http.get(f"/fhir/{path}", headers=headers).status_code == 403, path
    for path in ("ImagingStudy?_id=A", "ImagingStudy?identifier=A"):
        assert http.get(f"/fhir/{path}", headers=headers).json()["total"] == 0, path


def test_the_id_of_a_stranger_here_stays_the_patients_own(tmp_path: Path) -> None:
    """Bert's id here is what Anna is called there: her token finds her, and nothing of his."""
    with _keyed(tmp_path, fhir_base="") as (node, _):
        anna, bert = _id(node, "A"), _id(node, "B")
        with node.database.write() as connection:
            connection.execute(IDENTITY.update().where(IDENTITY.c.value == "A").values(value=bert))
        found = _get(node, f"/fhir/ImagingStudy?patient={bert}", _token(patient=bert)).json()
        assert [each["resource"]["subject"]["reference"] for each in found["entry"]] == [f"Patient/{anna}"]


_BATCH: Final = {
    "resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": "ImagingStudy?patient=A"}}],
}  # fmt: skip

WRONG: Final[dict[str, Callable[[], str]]] = {
    "another audience": lambda: _token(aud="https://other.example.org/fhir"),
    "no audience": lambda: _token(aud=None),
    "an audience like ours": lambda: _token(aud=f"{OURS}/fhir.example.org"),
    "expired": lambda: _token(exp=int(time.time()) - 1),
    "no expiry": lambda: _token(exp=None),
    "an expiry that is no number": lambda: _token(exp="9999999999"),
    "not valid yet": lambda: _token(nbf=int(time.time()) + 60),
    "issued later": lambda: _token(iat=int(time.time()) + 60),
    "another key": lambda: _token(key=_other(RSA)),
    "another key of this id": lambda: _token(key=_other(RSA), header={"kid": _kid(RSA)}),
    "a key that is told in it": lambda: _token(key=_other(RSA), header={"jwk": _other(RSA).as_dict(private=False)}),
    "a URL of keys in it": lambda: _token(header={"jku": "https://evil.example.org/jwks"}),
    "critical headers": lambda: _signed({"alg": "RS256", "kid": _kid(RSA), "crit": ["exp"], "exp": 1}),
    "no algorithm": lambda: _unsigned("none"),
    "an empty signature": lambda: _unsigned("RS256"),
    "the public key as a secret": lambda: _hmac(RSA.as_pem(private=False)),
    "the key of another algorithm": lambda: _signed({"alg": "ES256", "kid": _kid(RSA)}),
    "an algorithm that is not taken": lambda: jwt.encode(
        {"alg": "PS256", "kid": _kid(RSA)}, {"iss": ISSUER, "aud": f"{OURS}/fhir"}, RSA, algorithms=["PS256"]
    ),
    "an ID token": lambda: _token(header={"typ": "JWT"}, aud="app", nonce="n"),
    "another type": lambda: _token(header={"typ": "logout+jwt"}),
    "a scope that is no text": lambda: _token(scope={"a": 1}),
    "a patient that is no text": lambda: _token(patient=["A", "B"]),
    "another issuer": lambda: _token(iss="https://ehr.example.org.evil.example"),
    "no issuer": lambda: _token(iss=None),
    "nothing": lambda: "..",
}


def _other(_: RSAKey) -> RSAKey:
    return _STRANGER


_STRANGER: Final = RSAKey.generate_key(2048)


def _part(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _claims() -> str:
    return _token().split(".")[1]


def _unsigned(algorithm: str) -> str:
    return f"{_part({'alg': algorithm, 'kid': _kid(RSA), 'typ': 'at+jwt'})}.{_claims()}."


def _signed(header: Mapping[str, Any]) -> str:
    """A header over somebody else's signature."""
    return f"{_part(header)}.{'.'.join(_token().split('.')[1:])}"


def _hmac(secret: bytes) -> str:
    key = OctKey.import_key(base64.b64encode(secret))
    claims = json.loads(base64.urlsafe_b64decode(_claims() + "=="))
    return jwt.encode({"alg": "HS256", "kid": _kid(RSA)}, claims, key, algorithms=["HS256"])


@pytest.mark.parametrize("how", WRONG)
def test_what_is_forged_or_for_another_is_refused(keyed: tuple[Node, Listener], how: str) -> None:
    token = WRONG[how]()
    with pytest.raises(Unauthenticated) as refused:
        keyed[0].tokens.decide(token)
    assert not any(piece in refused.value.detail for piece in token.split(".") if len(piece) > 8)
    assert _get(keyed[0], "/fhir/ImagingStudy", token).status_code == 401


@pytest.mark.parametrize("patient", [None, "", "C", "a", "A ", "%41", "' or 1=1 --"])
def test_a_patient_who_is_not_known_here_is_nobody(keyed: tuple[Node, Listener], patient: str | None) -> None:
    node, _ = keyed
    token = _token(patient=patient)
    assert node.tokens.decide(token).patients("ImagingStudy", Interaction.READ) == frozenset()
    assert _get(node, f"/dicomweb/studies/{ANNA[0].study_uid}/metadata", token).status_code == 403


@pytest.mark.parametrize(
    ("allowed", "asked", "reached"),
    [
        ("patient/*.rs", "system/*.rs user/*.cruds", frozenset()),
        ("patient/ImagingStudy.rs", "patient/*.cruds", "A"),
        ("patient/Observation.rs", "patient/*.cruds", frozenset()),
        ("user/*.rs", "user/*.rs", "A"),
        ("patient/*.rs", ["patient/ImagingStudy.rs"], "A"),
        ("patient/*.rs", "", frozenset()),
        ("patient/*.rs", None, frozenset()),
    ],
)
def test_no_token_opens_more_than_the_settings_say(
    tmp_path: Path, allowed: str, asked: object, reached: str | frozenset[str]
) -> None:
    with _keyed(tmp_path, scope=allowed) as (node, _):
        decision = node.tokens.decide(_token(scope=asked))
        wanted = frozenset([_id(node, reached)]) if isinstance(reached, str) else reached
        assert decision.patients("ImagingStudy", Interaction.READ) == wanted
        assert decision.patients("ImagingStudy", Interaction.UPDATE) == frozenset()


def test_a_program_reaches_everybody_only_where_the_settings_say_so(tmp_path: Path) -> None:
    with _keyed(tmp_path, scope="system/ImagingStudy.rs") as (node, _):
        decision = node.tokens.decide(_token(scope="system/*.rs", patient=None))
        assert decision.patients("ImagingStudy", Interaction.READ) is None
        assert decision.patients("Patient", Interaction.READ) == frozenset()


@pytest.mark.parametrize("user", ["Patient/p9", "https://ehr.example.org/fhir/RelatedPerson/p9"])
def test_a_patient_there_is_no_practitioner_here(tmp_path: Path, user: str) -> None:
    """A `user/` scope is what the user may see: of a patient that is not everybody."""
    with _keyed(tmp_path, scope="user/*.rs") as (node, _):
        asked = _token(scope="user/*.rs", patient=None, fhirUser=user)
        assert node.tokens.decide(asked).patients("ImagingStudy", Interaction.READ) == frozenset()
        theirs = _token(scope="user/*.rs", fhirUser="Practitioner/p9", patient=None)
        assert node.tokens.decide(theirs).patients("ImagingStudy", Interaction.READ) is None
        own = node.tokens.decide(_token(scope="user/*.rs", fhirUser=user))
        assert own.patients("ImagingStudy", Interaction.READ) == frozenset([_id(node, "A")])


@pytest.mark.parametrize("allowed", ["user/*.cruds", "user/*.cruds system/Patient.rs patient/*.cruds"])
def test_a_user_who_is_not_named_is_not_everybody(tmp_path: Path, allowed: str) -> None:
    """SMART App Launch 2.2, "Scopes for requesting clinical data": `user/` is what the user may see; of nobody that is nothing.

    Whatever the settings open: what the patient context gives is left.
    """
    study = f"/dicomweb/studies/{ANNA[0].study_uid}/metadata"
    with _keyed(tmp_path, scope=allowed) as (node, _):
        for user in (None, "", "Practitioner", "Practitioner/", "/Practitioner/", "Person/p9", "Group/g", "practitioner/p9", 7):
            token = _token(scope="user/*.cruds", patient=None, fhirUser=user)
            nobody = node.tokens.decide(token)
            assert nobody.patients("ImagingStudy", Interaction.READ) == frozenset(), user
            assert nobody.patients("Patient", Interaction.SEARCH) == frozenset(), user
            assert _get(node, study, token).status_code in (403, 404), user
            in_context = node.tokens.decide(_token(scope="user/*.cruds", fhirUser=user))
            assert in_context.patients("ImagingStudy", Interaction.READ) == frozenset([_id(node, "A")]), user


def test_a_program_keeps_what_is_its_own_beside_a_user_who_is_not_named(tmp_path: Path) -> None:
    with _keyed(tmp_path, scope="user/*.rs system/ImagingStudy.rs") as (node, _):
        decision = node.tokens.decide(_token(scope="user/*.rs system/ImagingStudy.rs", patient=None))
        assert decision.patients("ImagingStudy", Interaction.READ) is None
        assert decision.patients("Patient", Interaction.READ) == frozenset()


def test_consents_are_for_foreign_tokens_too(tmp_path: Path) -> None:
    """A denial acts on the next request of somebody whom the issuer knows; what a patient keeps from others is not kept from the patient."""
    with _keyed(tmp_path, scope="patient/*.rs user/*.rs") as (node, _):
        anna, bert = _id(node, "A"), _id(node, "B")
        doctor = _token(scope="user/*.rs", fhirUser="Practitioner/p9", patient=None)
        in_context, own = _token(fhirUser="Practitioner/p9"), _token(fhirUser="Patient/A")
        study = f"/dicomweb/studies/{ANNA[0].study_uid}/metadata"

        def seen() -> list[int]:
            return [_get(node, study, each).status_code for each in (doctor, in_context, own)]

        assert seen() == [200, 200, 200]
        http = TestClient(create_app(node), base_url=OURS)
        headers = {"Authorization": f"Bearer {node.tokens.issue(client='staff', scope='system/*.cruds')}"}
        assert http.post("/fhir/Consent", json=_denial(anna), headers=headers).status_code == 201
        assert seen() == [404, 403, 200]  # who is confined to a patient is told the same of what is withheld and of a stranger
        for token, patients in ((doctor, {bert}), (in_context, set()), (own, {anna})):
            found = _get(node, "/fhir/ImagingStudy", token).json()
            assert {each["resource"]["subject"]["reference"] for each in found.get("entry", ())} == {
                f"Patient/{each}" for each in patients
            }


def test_a_denial_of_somebody_holds_who_comes_with_a_foreign_token(tmp_path: Path) -> None:
    """Whom the issuer names is not known here, so it may be whomever a Consent names; but a patient there, who asks for own records."""
    with _keyed(tmp_path, scope="patient/*.rs user/*.rs") as (node, _):
        anna, bert = _id(node, "A"), _id(node, "B")
        doctor = _token(scope="user/*.rs", fhirUser="Practitioner/p9", patient=None)
        in_context, own = _token(fhirUser="Practitioner/p9"), _token(fhirUser="Patient/A")
        consent = _denial(anna)
        consent["provision"]["actor"] = [{"role": {"text": "x"}, "reference": {"reference": "Practitioner/p1"}}]
        http = TestClient(create_app(node), base_url=OURS)
        headers = {"Authorization": f"Bearer {node.tokens.issue(client='staff', scope='system/*.cruds')}"}
        assert http.post("/fhir/Consent", json=consent, headers=headers).status_code == 201
        assert [_get(node, f"/fhir/Patient/{anna}", each).status_code for each in (doctor, in_context, own)] == [404, 403, 200]
        assert _get(node, f"/fhir/Patient/{bert}", doctor).status_code == 200


def _denial(patient: str) -> dict[str, Any]:
    codes = "http://terminology.hl7.org/CodeSystem"
    return {
        "resourceType": "Consent", "status": "active", "patient": {"reference": f"Patient/{patient}"},
        "scope": {"coding": [{"system": f"{codes}/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": f"{codes}/v3-ActCode", "code": "INFA"}]}],
        "policyRule": {"coding": [{"system": f"{codes}/v3-ActCode", "code": "OPTOUT"}]},
        "provision": {"type": "deny"},
    }  # fmt: skip


def test_a_new_key_is_asked_for_once_in_a_while(tmp_path: Path) -> None:
    told = [_jwks(EC)]

    def respond(connection: socket.socket) -> None:
        answer(told[0])(connection)

    with listening(respond) as keys:
        with _node(tmp_path, jwks_uri=f"http://127.0.0.1:{keys.port}/jwks") as node:
            node.tokens.decide(_token("ES256"))
            told[0] = _jwks(RSA, EC)
            assert node.tokens.decide(_token("RS256")).patient == _id(node, "A")
            asked = keys.connections
            for _ in range(5):
                with pytest.raises(Unauthenticated):
                    node.tokens.decide(_token("ES384"))
            assert keys.connections == asked


def test_where_the_keys_cannot_be_had_nothing_is_served(tmp_path: Path) -> None:
    with listening() as nobody, _node(tmp_path, jwks_uri=f"http://127.0.0.1:{nobody.port}/jwks") as node:
        with pytest.raises(Unavailable):
            node.tokens.decide(_token())
        assert _get(node, "/fhir/ImagingStudy", _token()).status_code == 503


# --- introspection


INTROSPECTED: Final[dict[str, Any]] = {
    "active": True, "scope": "patient/*.rs", "client_id": "app", "patient": "A", "exp": int(time.time()) + 3000,
}  # fmt: skip


@contextmanager
def _asked(data: Path, told: Mapping[str, Any] | bytes, status: str = "200 OK", **issuer: Any) -> Iterator[tuple[Node, Listener]]:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    with listening(answer(body, status=status)) as server:
        url = f"http://127.0.0.1:{server.port}/introspect"
        with _node(data, introspection_endpoint=url, client_id="im:ages", client_secret="s cr%t", **issuer) as node:
            yield node, server


def test_an_opaque_token_is_asked_about(tmp_path: Path) -> None:
    with _asked(tmp_path, INTROSPECTED, cache_seconds=60) as (node, server):
        for _ in range(3):
            assert node.tokens.decide("opaque-token").patients("ImagingStudy", Interaction.READ) == frozenset([_id(node, "A")])
        assert server.connections == 1
        assert f"Basic {base64.b64encode(b'im%3Aages:s+cr%25t').decode()}".encode() in server.requests[0]
        assert _get(node, f"/dicomweb/studies/{ANNA[0].study_uid}/metadata", "opaque-token").status_code == 200


def test_nobody_is_asked_about_what_is_longer_than_tokens_are(tmp_path: Path) -> None:
    with _asked(tmp_path, INTROSPECTED) as (node, server):
        with pytest.raises(Unauthenticated):
            node.tokens.decide("x" * 8193)
        assert server.connections == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"active": False},
        {"iss": "https://other.example.org"},
        {"aud": "https://other.example.org/fhir"},
        {"exp": 1},
        {"exp": "tomorrow"},
        {"scope": 7},
    ],
)
def test_what_is_not_active_is_refused(tmp_path: Path, changed: Mapping[str, Any]) -> None:
    with _asked(tmp_path, {**INTROSPECTED, **changed}) as (node, _), pytest.raises(Unauthenticated):
        node.tokens.decide("opaque-token")


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"error": "invalid_client"}, "401 Unauthorized"),
        (INTROSPECTED, "500 Internal Server Error"),
        ({**INTROSPECTED, "active": "true"}, "200 OK"),
        ({**INTROSPECTED, "active": None}, "200 OK"),
        (b"<html>", "200 OK"),
        (b"[]", "200 OK"),
    ],
)
def test_an_answer_that_is_neither_yes_nor_no_serves_nothing(tmp_path: Path, told: Any, status: str) -> None:
    with _asked(tmp_path, told, status) as (node, _), pytest.raises(Unavailable):
        node.tokens.decide("opaque-token")


def test_what_is_kept_of_an_answer_is_not_kept_beyond_the_tokens_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Mapping[str, Any]] = [{**INTROSPECTED, "exp": int(time.time()) + 30}]

    def tell(connection: socket.socket) -> None:
        answer(json.dumps(told[0]).encode())(connection)

    with listening(tell) as server:
        trusted = {
            "introspection_endpoint": f"http://127.0.0.1:{server.port}/i",
            "client_id": "a",
            "client_secret": "b",
            "cache_seconds": 60,
        }
        with _node(tmp_path, **trusted) as node:
            node.tokens.decide("opaque")
            told[0] = {"active": False}
            node.tokens.decide("opaque")
            now = time.time
            monkeypatch.setattr("server.access.foreign.time.time", lambda: now() + 31)
            with pytest.raises(Unauthenticated):
                node.tokens.decide("opaque")


def _numbered(*values: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": f"urn:oid:{AUTHORITY}", "value": each, **more} for each in values],
    }


@pytest.mark.parametrize(
    "patient",
    [
        _numbered("A", "B"),
        {**_numbered("A"), "id": "other"},
        {**_numbered("A"), "resourceType": "Group"},
        _numbered("A", use="old"),
        {**_numbered("A"), "identifier": "A"},
        {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:oid:1.2.3.5", "value": "A"}]},
    ],
    ids=["two people", "another id", "another type", "an old number", "no list", "another system"],
)
def test_a_patient_of_whom_it_is_not_sure_who_that_is_here_is_nobody(tmp_path: Path, patient: Mapping[str, Any]) -> None:
    with listening(answer(json.dumps(patient).encode())) as fhir:
        told = {**INTROSPECTED, "patient": "p1"}
        with _asked(tmp_path, told, fhir_base=f"http://127.0.0.1:{fhir.port}/fhir") as (node, _):
            assert node.tokens.decide("opaque-token").patients("ImagingStudy", Interaction.READ) == frozenset()


def test_who_the_patient_is_is_asked_for_as_often_as_the_token(tmp_path: Path) -> None:
    """Whoever may not read the Patient there any more has no patient here, though the token is still active."""
    told = [answer(json.dumps(_numbered("A")).encode())]

    def tell(connection: socket.socket) -> None:
        told[0](connection)

    with listening(tell) as fhir:
        base = f"http://127.0.0.1:{fhir.port}/fhir"
        with _asked(tmp_path, {**INTROSPECTED, "patient": "p1"}, fhir_base=base, cache_seconds=0) as (node, _):
            assert node.tokens.decide("opaque-token").patient == _id(node, "A")
            told[0] = answer(b"{}", status="403 Forbidden")
            assert node.tokens.decide("opaque-token").patient is None


def test_guesses_do_not_flood_who_is_asked_about_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many unknown tokens in a second; whose token was active before is not held up."""
    clock, told = [100.0], [json.dumps(INTROSPECTED).encode()]
    monkeypatch.setattr("server.access.guesses.monotonic", lambda: clock[0])

    def tell(connection: socket.socket) -> None:
        answer(told[0])(connection)

    with listening(tell) as server:
        trusted = {
            "introspection_endpoint": f"http://127.0.0.1:{server.port}/i",
            "client_id": "a",
            "client_secret": "b",
            "cache_seconds": 0,
        }
        with _node(tmp_path, **trusted) as node:
            node.tokens.decide("opaque-token")
            active, told[0] = told[0], b'{"active":false}'
            for number in range(50):
                with pytest.raises(Unauthenticated):
                    node.tokens.decide(f"guess-{number}")
            asked = server.connections
            for token in ("guess-51", "guess-1"):
                with pytest.raises(Busy):
                    node.tokens.decide(token)
            assert server.connections == asked
            assert _get(node, "/fhir/ImagingStudy", "guess-52").status_code == 503
            told[0] = active
            assert node.tokens.decide("opaque-token").patient == _id(node, "A")
            clock[0], told[0] = 101.0, b'{"active":false}'
            with pytest.raises(Unauthenticated):
                node.tokens.decide("guess-53")


def test_settings_of_an_issuer_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for issuer in (
        {},
        {"jwks_uri": "https://a", "introspection_endpoint": "https://b", "client_id": "c", "client_secret": "d"},
        {"introspection_endpoint": "https://b"},
    ):
        with pytest.raises(SettingsError, match="trusted_issuers"), _node(tmp_path, **issuer):
            pass


# --- an EHR, which is another node: its own authorization server, its own patients


def test_an_app_of_an_ehr_sees_the_images_here(tmp_path: Path) -> None:
    """SMART Imaging Access with two servers: one token, the EHR's Patient mapped by identifier, revoked there and over here."""
    with smart_site.listening(tmp_path / "ehr") as ehr:
        token = ehr.tokens(scope="launch/patient patient/*.rs")
        identifier = ehr.fhir(f"Patient/{ehr.patients['A']}", token["access_token"]).json()["identifier"][0]
        trusted = {
            "issuer": ehr.base, "introspection_endpoint": f"{ehr.base}/oauth/introspect", "client_id": "ehr",
            "client_secret": ehr.secret["ehr"], "audience": [f"{ehr.base}/fhir"], "fhir_base": f"{ehr.base}/fhir",
            "patient_system": identifier["system"], "cache_seconds": 0,
        }  # fmt: skip
        with _node(tmp_path / "images", **trusted) as images:
            anna = _id(images, "A")
            assert token["patient"] != anna
            there = token["patient"]
            for asked in (f"?patient={anna}", f"?patient={there}", f"?subject=Patient/{there}", f"?subject:Patient={there}"):
                found = _get(images, f"/fhir/ImagingStudy{asked}", token["access_token"])
                assert [each["resource"]["subject"]["reference"] for each in found.json()["entry"]] == [f"Patient/{anna}"], asked
            assert _get(images, f"/fhir/Patient/{there}/ImagingStudy", token["access_token"]).json()["total"] == 1
            assert _get(images, f"/fhir/ImagingStudy?patient={ehr.patients['B']}", token["access_token"]).status_code == 403
            for made, status in ((ANNA, 200), (BERT, 403)):
                path = f"/dicomweb/studies/{made[0].study_uid}"
                assert _get(images, path, token["access_token"]).status_code == status
            ehr.http.post("/oauth/revoke", data={"token": token["access_token"], "client_id": "public"})
            assert _get(images, f"/dicomweb/studies/{ANNA[0].study_uid}", token["access_token"]).status_code == 401
