"""Abuse case 16: a token of one kind, key or header where another is wanted (RFC 8725 sections 2.8 and 3.11, RFC 9068 section 5).

Each is sent to FHIR, to DICOMweb and as a client assertion, signed by whoever is the most dangerous to have signed it.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey
from peers.smart_site import ASSERTION_TYPE, Pkce, SmartSite, smart_site
from sqlalchemy import select

from server.access.keys import ACCESS_TOKENS, ID_TOKENS
from server.store.tables import SigningKey

ON_BOTH_ENGINES = True
KEY = SigningKey.__table__  # type: ignore[attr-defined]
EVIL = "https://evil.example.org/jwks"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("confused")
    with smart_site(folder / "data", module_database_url) as made:
        made.tokens(scope="openid patient/*.rs")  # both signing keys are there
        yield made


def _own(site: SmartSite, algorithm: str) -> Any:
    with site.node.database.read() as connection:
        jwk = connection.execute(select(KEY.c.private_jwk).where(KEY.c.algorithm == algorithm)).scalar_one()
    return (ECKey if algorithm == ACCESS_TOKENS else RSAKey).import_key(json.loads(jwk))


def _part(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def _signed(header: Mapping[str, Any], claims: Mapping[str, Any], key: Any) -> str:
    """A JWT with whatever header, which no library would make; None leaves a member out."""
    kept = {name: value for name, value in header.items() if value is not None}
    signed = ".".join(_b64(json.dumps(each).encode()) for each in (kept, claims))
    return f"{signed}.{_b64(jws.JWSRegistry.algorithms[kept['alg']].sign(signed.encode(), key))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _refused(site: SmartSite, token: str) -> None:
    """Everywhere, and nothing of it is repeated."""
    form = {"token": token}
    asked = {"Authorization": f"Bearer {token}"}
    told = [
        *(site.http.get(path, headers=asked) for path in ("/fhir/ImagingStudy", "/dicomweb/studies", "/fhir/AuditEvent")),
        site.http.post("/oauth/introspect", data=form, headers=asked),
    ]
    for each in told:
        assert each.status_code == 401, (each.url, each.text)
        assert not any(piece in each.text for piece in token.split(".") if len(piece) > 20)
    secret = {"client_id": "secret", "client_secret": site.secret["secret"]}
    assert site.http.post("/oauth/introspect", data={**form, **secret}).json() == {"active": False}


def _refused_as_assertion(site: SmartSite, token: str) -> None:
    form = {"grant_type": "client_credentials", "scope": "system/*.rs", "client_assertion_type": ASSERTION_TYPE}
    refused = site.http.post("/oauth/token", data={**form, "client_assertion": token})
    assert refused.status_code in (400, 401)
    assert refused.json()["error"] == "invalid_client", refused.text
    assert "access_token" not in refused.json()


HEADERS: dict[str, dict[str, Any]] = {
    "crit that is known to nobody": {"crit": ["exp"], "exp": 1},
    "crit of what is there": {"crit": ["kid"]},
    "crit that is empty": {"crit": []},
    "unencoded": {"crit": ["b64"], "b64": False},
    "no kid": {"kid": None},
    "an empty kid": {"kid": ""},
    "kid is a path": {"kid": "../../../../dev/null"},
    "kid is a URL": {"kid": EVIL},
    "kid with SQL": {"kid": "x' OR '1'='1' -- "},
    "kid of a union": {"kid": "x' UNION SELECT private_jwk FROM signing_key -- "},
    "kid with a zero byte": {"kid": "x\0"},
    "kid that is long": {"kid": "k" * 4000},
    "kid is a number": {"kid": 1},
    "kid is a list": {"kid": ["k1"]},
    "kid of a client": {"kid": "k1"},
    "typ of an ID token": {"typ": "JWT"},
    "typ of an ID token by name": {"typ": "id+jwt"},
    "typ of a client assertion": {"typ": "client-authentication+jwt"},
    "typ of a logout token": {"typ": "logout+jwt"},
    "no typ": {"typ": None},
    "typ is a list": {"typ": ["at+jwt"]},
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_is_wrong_though_our_own_key_signed_it(site: SmartSite, case: str) -> None:
    key, good = _own(site, ACCESS_TOKENS), site.tokens()["access_token"]
    header = {**_part(good, 0), **HEADERS[case]}
    _refused(site, _signed(header, _part(good, 1), key))
    _refused_as_assertion(site, _signed({**header, "alg": "ES256"}, _part(site.assertion("backend"), 1), key))


@pytest.mark.parametrize("named", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256"])
def test_a_key_that_the_token_brings_or_names_is_not_believed(site: SmartSite, named: str) -> None:
    """RFC 8725 section 3.10: whatever kid it claims."""
    claims, own = _part(site.tokens()["access_token"], 1), _own(site, ACCESS_TOKENS)
    for forger, algorithm in ((ECKey.generate_key("P-256"), "ES256"), (RSAKey.generate_key(2048), "RS256")):
        value = {"jwk": forger.as_dict(private=False), "x5c": ["AAAA"]}.get(named, EVIL)
        for kid in (own.kid, "k1", "forged"):
            header = {"alg": algorithm, "typ": "at+jwt", "kid": kid, named: value}
            _refused(site, _signed(header, claims, forger))
        assertion = {"alg": "ES384" if algorithm == "ES256" else "RS384", "typ": "JWT", "kid": "k1", named: value}
        by = ECKey.generate_key("P-384") if algorithm == "ES256" else forger
        _refused_as_assertion(site, _signed(assertion, _part(site.assertion("backend"), 1), by))


def test_no_algorithm_but_ours(site: SmartSite) -> None:
    """RFC 8725 section 2.1: none, in any spelling, our public keys as secrets of an HMAC, and our own key for ID tokens."""
    own, identity = _own(site, ACCESS_TOKENS), _own(site, ID_TOKENS)
    header, claims = {"typ": "at+jwt", "kid": own.kid}, _part(site.tokens()["access_token"], 1)
    body = _b64(json.dumps(claims).encode())
    good = site.tokens()["access_token"].split(".")[2]
    for spelling in ("none", "None", "NONE", "nOnE", "", None):
        head = _b64(json.dumps({**header, "alg": spelling}).encode())
        for signature in ("", good):
            _refused(site, f"{head}.{body}.{signature}")
            _refused_as_assertion(site, f"{head}.{body}.{signature}")
    for key in (own, identity):
        for secret in (key.as_pem(private=False), key.as_der(private=False), json.dumps(key.as_dict(private=False)).encode()):
            by = OctKey.import_key(_b64(secret))
            for algorithm in ("HS256", "HS384", "HS512"):
                _refused(site, _signed({**header, "alg": algorithm, "kid": key.kid}, claims, by))
    for algorithm in ("RS256", "RS384", "PS256"):
        _refused(site, _signed({**header, "alg": algorithm, "kid": identity.kid}, claims, identity))
        _refused(site, _signed({**header, "alg": algorithm}, claims, identity))


def test_a_client_assertion_is_no_access_token(site: SmartSite) -> None:
    """Nor are its claims changed to those of one, signed by the key that the client is registered with."""
    claims = _part(site.tokens()["access_token"], 1)
    for client, algorithm in (("backend", "ES384"), ("asymmetric", "RS384")):
        key = site.keys[client]
        _refused(site, site.assertion(client))
        _refused(site, site.assertion(client, {"typ": "at+jwt"}, scope="system/*.rs", client_id=client))
        for kid in ("k1", _own(site, ACCESS_TOKENS).kid):
            _refused(site, _signed({"alg": algorithm, "typ": "at+jwt", "kid": kid}, claims, key))


def test_our_own_tokens_are_no_client_assertions(site: SmartSite) -> None:
    """RFC 9068 section 5, and an ID token, which is RS256: not even where their claims are those of an assertion."""
    told = site.tokens(scope="openid fhirUser patient/*.rs offline_access")
    for name in ("access_token", "id_token", "refresh_token"):
        _refused_as_assertion(site, told[name])
    wanted = _part(site.assertion("backend"), 1)
    own, identity = _own(site, ACCESS_TOKENS), _own(site, ID_TOKENS)
    for kid in ("k1", own.kid, identity.kid):
        _refused_as_assertion(site, _signed({"alg": "ES256", "typ": "JWT", "kid": kid}, wanted, own))
        for algorithm in ("RS256", "RS384"):
            _refused_as_assertion(site, _signed({"alg": algorithm, "typ": "JWT", "kid": kid}, wanted, identity))


def test_the_key_of_another_client_signs_for_itself_alone(site: SmartSite) -> None:
    """Both are registered with a key of the same name: it is looked for with the client whom the assertion is of."""
    for client, other in (("backend", "asymmetric"), ("asymmetric", "backend")):
        _refused_as_assertion(site, site.assertion(client, key=site.keys[other]))
        _refused_as_assertion(site, site.assertion(client, key=site.keys[other], iss=other))
        _refused_as_assertion(site, site.assertion(client, key=site.keys[other], sub=other))
    assert site.backend().status_code == 200


def test_what_is_not_an_access_token_opens_nothing(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code(pkce=pkce, scope="openid patient/*.rs offline_access")
    _refused(site, code)
    told = site.redeem(code, pkce).json()
    identity = _own(site, ID_TOKENS)
    assert site.fhir("ImagingStudy", told["id_token"]).status_code == 401
    _refused(site, _signed({**_part(told["id_token"], 0), "typ": "at+jwt"}, _part(told["access_token"], 1), identity))
    asked = {"Authorization": f"Bearer {told['refresh_token']}"}
    for path in ("/fhir/ImagingStudy", "/dicomweb/studies"):
        assert site.http.get(path, headers=asked).status_code == 401
    assert site.fhir("ImagingStudy", told["access_token"]).status_code == 200  # nothing of that ended it


def test_codes_and_tokens_are_not_one_another(site: SmartSite) -> None:
    pkce = Pkce()
    code = site.code(pkce=pkce, scope="openid patient/*.rs offline_access")
    assert site.refresh(code).json()["error"] == "invalid_grant"
    told = site.redeem(code, pkce).json()
    for name in ("access_token", "id_token", "refresh_token"):
        assert site.redeem(told[name], pkce).json()["error"] == "invalid_grant", name
        if name != "refresh_token":
            assert site.refresh(told[name]).json()["error"] == "invalid_grant", name
    assert site.refresh(told["refresh_token"]).status_code == 200  # nothing of that used it up


def test_cookies_are_no_tokens_and_tokens_no_cookies(site: SmartSite) -> None:
    _, cookie = site.node.people.sessions.open(site.people["patient"], ("password",), 1)
    _refused(site, cookie)
    assert site.node.people.sessions.find(site.tokens()["access_token"]) is None
    assert site.node.people.sessions.find(site.node.people.sessions.open(site.people["patient"], ("code",), 1)[0].id) is None


def test_a_token_is_taken_as_a_bearers_alone(site: SmartSite) -> None:
    """RFC 6750 section 2.1. Schemes are told apart without their case (RFC 9110 section 11.1)."""
    token = site.tokens(scope="patient/*.rs")["access_token"]
    for path in ("/fhir/ImagingStudy", "/dicomweb/studies"):
        for scheme in ("Token", "Basic", "DPoP", "Bearer2"):
            assert site.http.get(path, headers={"Authorization": f"{scheme} {token}"}).status_code == 401
        assert "an access token is needed" in site.http.get(path).text
        assert site.http.get(path, headers={"Authorization": f"bearer {token}"}).status_code in (200, 204)


def test_who_may_not_search_for_studies_is_told_that_first(site: SmartSite) -> None:
    headers = {"Authorization": f"Bearer {site.tokens(scope='patient/Patient.rs')['access_token']}"}
    assert site.http.get("/dicomweb/studies?nothing=1", headers=headers).status_code == 403
    assert site.http.get("/dicomweb/workitems?nothing=1", headers=headers).status_code == 403
    headers = {"Authorization": f"Bearer {site.tokens(scope='patient/*.rs')['access_token']}"}
    assert site.http.get("/dicomweb/studies?nothing=1", headers=headers).status_code == 400
