"""SMART Backend Services and asymmetric clients: an assertion that is right in everything, once."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from peers.requires import requires
from peers.smart_site import ASSERTION_TYPE, BACK, SmartSite, basic, smart_site
from starlette.testclient import TestClient

from server.access.oauth import clients
from server.access.oauth.client_assertion import ClientAssertion
from server.access.oauth.clients import CLIENT_CREDENTIALS, Client
from server.access.oauth.messages import Message, claimed
from server.access.oauth.public_keys import require_public
from server.errors import ImageShareError, Refused, Unavailable


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("backend")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


def _asked(site: SmartSite, assertion: str, scope: str = "system/*.rs", **more: str) -> Any:
    form = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return site.http.post("/oauth/token", data={**form, **more})


@requires(240, 249, 253, 254, 255, 256, 258, 261, 265, 266)
def test_a_service_gets_a_token_for_five_minutes(site: SmartSite) -> None:
    told = site.backend()
    assert told.status_code == 200, told.text
    assert told.headers["cache-control"] == "no-store"
    body = told.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 300, "system/*.rs")
    assert site.fhir("ImagingStudy", body["access_token"]).json()["total"] == 3
    assert site.http.post("/fhir/Patient", json={"resourceType": "Patient"}, headers={"Authorization": f"Bearer {body['access_token']}", "Content-Type": "application/fhir+json"}).status_code == 403  # fmt: skip


@requires(241, 244, 250, 259)
def test_a_service_gets_what_it_is_registered_for(site: SmartSite) -> None:
    assert site.backend("system/Patient.rs patient/*.rs openid offline_access").json()["scope"] == "system/Patient.rs"
    for scope in ("", "patient/*.rs", "user/*.rs", "openid", "system/Patient.sr", "system/patient.rs"):
        assert site.backend(scope).json()["error"] == "invalid_scope", scope
    for scope in ("system/Hologram.rs", "system/Patient.rs system/Hologram.read"):
        refused = site.backend(scope)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
        assert "no Hologram" in refused.json()["error_description"]
    with site.node.database.write() as connection:
        known = clients.find(connection, "backend")
        assert known is not None
        clients.add(connection, Client("narrow", "Narrow", "asymmetric", scope="system/ImagingStudy.rs", jwks=known.jwks, grant_types=frozenset({CLIENT_CREDENTIALS}), reach=frozenset({site.patients["B"]})))  # fmt: skip
    site.keys["narrow"] = site.keys["backend"]
    body = site.backend("system/*.cruds", "narrow").json()
    assert body["scope"] == "system/ImagingStudy.rs"
    assert site.fhir("ImagingStudy", body["access_token"]).json()["total"] == 1


@requires(344)
def test_a_secret_is_not_enough_for_a_service(site: SmartSite) -> None:
    with pytest.raises(Refused), site.node.database.write() as connection:
        clients.add(connection, Client("bad", "Bad", "secret", grant_types=frozenset({CLIENT_CREDENTIALS})))
    form = {"grant_type": "client_credentials", "scope": "system/*.rs"}
    for headers in ({}, {"Authorization": basic("secret", site.secret["secret"])}, {"Authorization": basic("backend", "x")}):
        assert site.http.post("/oauth/token", data=form, headers=headers).json()["error"] == "invalid_client"
    assert _asked(site, site.assertion("asymmetric")).json()["error"] == "unauthorized_client"


@requires(310, 326)
def test_both_algorithms(site: SmartSite) -> None:
    assert isinstance(site.keys["backend"], ECKey)
    assert isinstance(site.keys["asymmetric"], RSAKey)
    assert site.backend().status_code == 200
    assert site.tokens("asymmetric")["scope"] == "patient/*.rs"


# --- abuse case 16

CLAIMS: dict[str, dict[str, Any] | Callable[[int], dict[str, Any]]] = {
    "expired": lambda now: {"exp": now - 1},
    "no exp": {"exp": None},
    "exp as text": {"exp": "9999999999"},
    "exp as a fraction": lambda now: {"exp": now + 100.5},
    "exp is true": {"exp": True},
    "no iss": {"iss": None},
    "another iss": {"iss": "asymmetric"},
    "no sub": {"sub": None},
    "another sub": {"sub": "nobody"},
    "sub of a client without key": {"sub": "public", "iss": "public"},
    "sub is a list": {"sub": ["backend"]},
    "no aud": {"aud": None},
    "aud of another server": {"aud": "https://elsewhere.example.org/oauth/token"},
    "aud in an array": {"aud": ["http://127.0.0.1:8080/oauth/token"]},
    "aud in an array with others": {"aud": ["http://127.0.0.1:8080/oauth/token", "https://elsewhere.example.org"]},
    "no jti": {"jti": None},
    "empty jti": {"jti": ""},
    "long jti": {"jti": "j" * 256},
    "jti is a number": {"jti": 7},
    "not yet": lambda now: {"nbf": now + 600},
    "from the future": lambda now: {"iat": now + 600},
    "nbf as text": {"nbf": "0"},
}
"""What is wrong, or how it is made when the time (in seconds) is known: the module may have been read long before."""
HEADERS: dict[str, dict[str, Any]] = {
    "no kid": {"kid": None},
    "another kid": {"kid": "k2"},
    "kid is a path": {"kid": "../../k1"},
    "kid with SQL": {"kid": "k1' OR '1'='1"},
    "typ of an access token": {"typ": "at+jwt"},
    "a jku": {"jku": "https://evil.example.org/jwks"},
    "an x5u": {"x5u": "https://evil.example.org/cert"},
    "an x5c": {"x5c": ["x"]},
}


@requires(335, 337, 340)
@pytest.mark.parametrize("case", CLAIMS)
def test_claims_that_are_wrong(site: SmartSite, case: str) -> None:
    wrong = CLAIMS[case]
    refused = _asked(site, site.assertion("backend", **(wrong(int(time.time())) if callable(wrong) else wrong)))
    assert refused.json()["error"] == "invalid_client", refused.text
    assert refused.status_code in (400, 401)


@requires(335, 338, 340)
@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_are_wrong(site: SmartSite, case: str) -> None:
    header = {"alg": "ES384", "kid": "k1", "typ": "JWT", **HEADERS[case]}
    claims = json.loads(base64.urlsafe_b64decode(site.assertion("backend").split(".")[1] + "=="))
    kept = {name: value for name, value in header.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=["ES384"], strict_check_header=False)
    token = jwt.encode(kept, claims, site.keys["backend"], registry=registry)
    refused = _asked(site, token)
    assert refused.json()["error"] == "invalid_client", refused.text


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_algorithms_and_keys_that_are_wrong(site: SmartSite) -> None:
    """`none`, a public key as the secret of an HMAC, other sizes of RSA, a key in the header, crit, another client's key."""
    good = site.assertion("backend")
    payload = base64.urlsafe_b64decode(good.split(".")[1] + "==")
    rsa_good = site.assertion("asymmetric")
    rsa_payload = base64.urlsafe_b64decode(rsa_good.split(".")[1] + "==")
    key, rsa = site.keys["backend"], site.keys["asymmetric"]
    forger = ECKey.generate_key("P-384", private=True)

    def signed(header: dict[str, Any], content: bytes, by: Any) -> str:
        registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
        return jws.serialize_compact({"kid": "k1", "typ": "JWT", **header}, content, by, registry=registry)

    forged = [
        f"{_b64(json.dumps({'alg': 'none', 'kid': 'k1', 'typ': 'JWT'}).encode())}.{_b64(payload)}.",
        f"{_b64(json.dumps({'kid': 'k1', 'typ': 'JWT'}).encode())}.{_b64(payload)}.{good.split('.')[2]}",
        signed({"alg": "ES384"}, payload, forger),
        signed({"alg": "ES384", "jwk": forger.as_dict(private=False)}, payload, forger),
        signed({"alg": "RS256"}, rsa_payload, rsa),
        signed({"alg": "RS512"}, rsa_payload, rsa),
        signed({"alg": "PS384"}, rsa_payload, rsa),
        signed({"alg": "RS384"}, payload, rsa),  # the service's claims, the app's key
        good[:-4] + "AAAA",
        good.rpartition(".")[0] + ".",
        ".".join([good.split(".")[0], _b64(b"[]"), good.split(".")[2]]),
        ".".join([good.split(".")[0], _b64(b"{"), good.split(".")[2]]),
        "a.b.c", "...", "é.é.é", "x" * 9000, "", good + ".x.y",
    ]  # fmt: skip
    for public in (rsa.as_pem(private=False), rsa.as_der(private=False)):
        secret = OctKey.import_key(_b64(public))
        forged.append(signed({"alg": "HS256"}, rsa_payload, secret))
        forged.append(signed({"alg": "HS384"}, rsa_payload, secret))
    for token in forged:
        refused = _asked(site, token)
        assert refused.status_code in (400, 401), token
        assert refused.json()["error"] in ("invalid_client", "invalid_request"), (token, refused.text)
        assert not token or len(token) < 9 or token not in refused.text
    critical = signed({"alg": "ES384", "crit": ["kid"]}, payload, key)
    assert _asked(site, critical).json()["error"] == "invalid_client"
    assert _asked(site, good).status_code == 200  # nothing of that used it up


def test_the_assertion_lives_five_minutes_at_most(site: SmartSite) -> None:
    now = int(time.time())
    assert _asked(site, site.assertion("backend", exp=now + 400)).json()["error"] == "invalid_client"
    assert _asked(site, site.assertion("backend", exp=now + 299)).status_code == 200


@requires(336)
def test_an_assertion_is_good_once(site: SmartSite) -> None:
    for scope in ("system/*.rs", "nothing"):
        assertion = site.assertion("backend")
        _asked(site, assertion, scope)
        again = _asked(site, assertion)
        assert again.json()["error"] == "invalid_client"  # also where the first was refused for its scope
    jti = "the-same"
    assert _asked(site, site.assertion("backend", jti=jti)).status_code == 200
    assert _asked(site, site.assertion("backend", jti=jti)).json()["error"] == "invalid_client"
    site.tokens("asymmetric")
    revoke = {"token": "x", "client_assertion_type": ASSERTION_TYPE, "client_assertion": site.assertion("asymmetric", jti=jti)}
    assert site.http.post("/oauth/revoke", data=revoke).status_code == 200  # another client's jti is another one
    assert site.http.post("/oauth/revoke", data=revoke).json()["error"] == "invalid_client"


def test_an_assertion_goes_with_its_client_id_only(site: SmartSite) -> None:
    assert _asked(site, site.assertion("backend"), client_id="public").json()["error"] == "invalid_client"
    assert _asked(site, site.assertion("backend"), client_id="backend").status_code == 200
    assert _asked(site, site.assertion("backend"), client_assertion_type="urn:x").json()["error"] == "invalid_client"
    assert _asked(site, site.assertion("backend"), client_secret="x").json()["error"] == "invalid_request"


# --- keys by URL


@requires(296, 326, 339, 341, 342)
def test_keys_at_a_url(site: SmartSite) -> None:
    """A key that is not known is looked for at once, but a flood of unknown ones does not become a flood of requests."""
    old, new = (ECKey.generate_key("P-384", {"kid": kid}, private=True) for kid in ("old", "new"))
    asked: list[bool] = []
    published = [old]

    def fetch(url: str, *, fresh: bool = False) -> dict[str, Any]:
        assert url == "https://service.example.org/jwks"
        asked.append(fresh)
        return {"keys": [each.as_dict(private=False) for each in published]}

    def broken(url: str, *, fresh: bool = False) -> dict[str, Any]:
        raise Unavailable("gone")

    with site.node.database.write() as connection:
        clients.add(connection, Client("by-url", "By URL", "asymmetric", scope="system/*.rs", jwks_uri="https://service.example.org/jwks", grant_types=frozenset({CLIENT_CREDENTIALS})))  # fmt: skip
    server = site.node.oauth

    def authenticating(fetch: Callable[..., dict[str, Any]]) -> None:
        audiences = frozenset({server.token_url})
        server.register_client_auth_method("private_key_jwt", ClientAssertion(audiences, fetch, broken))

    before = server._client_auth._methods["private_key_jwt"]
    try:
        authenticating(fetch)
        assert _asked(site, site.assertion("by-url", {"kid": "old"}, old)).status_code == 200
        assert asked == [False]
        good = site.assertion("by-url", {"kid": "old", "jku": "https://service.example.org/jwks"}, old)
        assert _asked(site, good).status_code == 200
        published.append(new)
        assert _asked(site, site.assertion("by-url", {"kid": "new"}, new)).status_code == 200
        assert asked == [False] * 3  # the cache had the new one already
        for _ in range(5):
            assert _asked(site, site.assertion("by-url", {"kid": "none"}, new)).json()["error"] == "invalid_client"
        assert asked.count(True) == 1
        published[:] = [old, old]
        assert _asked(site, site.assertion("by-url", {"kid": "old"}, old)).json()["error"] == "invalid_client"  # exactly one
        authenticating(broken)
        assert _asked(site, site.assertion("by-url", {"kid": "old"}, old)).json()["error"] == "invalid_client"
    finally:
        server.register_client_auth_method("private_key_jwt", before)


@requires(297, 305)
@pytest.mark.parametrize(
    "jwks",
    [
        {},
        {"keys": []},
        {"keys": "x"},
        {"keys": ["x"]},
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "k1"}]},
        {"keys": [ECKey.generate_key("P-256", {"kid": "k1"}).as_dict(private=False)]},
        {"keys": [ECKey.generate_key("P-384").as_dict(private=False)]},
        {"keys": [ECKey.generate_key("P-384", {"kid": "k1"}, private=True).as_dict(private=True)]},
        {"keys": [ECKey.generate_key("P-384", {"kid": "k1", "use": "enc"}).as_dict(private=False)]},
        {"keys": [{"kty": "RSA", "kid": "k1", "n": "AQAB", "e": "AQAB"}]},
        {"keys": [{"kty": "EC", "kid": "k1", "crv": "P-384", "x": "AA", "y": "AA"}]},
    ],
)
def test_keys_that_are_not_registered(jwks: dict[str, Any]) -> None:
    with pytest.raises(ImageShareError):
        require_public(jwks)


def test_so_many_wrong_secrets_and_assertions_in_the_name_of_one_client(tmp_path: Path) -> None:
    """Whoever guesses is told to wait, and is in the trail no more for a while; nobody who is right waits."""
    with smart_site(tmp_path, client_failures=3) as site:
        form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": BACK, "code_verifier": "v" * 43}
        wrong = {"Authorization": basic("secret", "wrong")}
        answers = [site.http.post("/oauth/token", data=form, headers=wrong) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 900
        assert answers[-1].headers["cache-control"] == "no-store"
        for path in ("/oauth/introspect", "/oauth/revoke"):
            assert site.http.post(path, data={"token": "x"}, headers=wrong).status_code == 429
        forged = site.assertion("backend", sub="backend", aud="https://elsewhere.example.org/oauth/token")
        assert [_asked(site, forged).status_code for _ in range(4)] == [400, 400, 400, 429]
        assert site.token(form, "asymmetric").json()["error"] == "invalid_grant"
        elsewhere = TestClient(site.http.app, base_url=site.base, client=("198.51.100.7", 5000))
        assert elsewhere.post("/oauth/token", data=form, headers=wrong).status_code == 401


def test_who_is_right_is_let_in_while_others_are_wrong_in_his_name(tmp_path: Path) -> None:
    with smart_site(tmp_path, client_failures=1) as site:
        form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": BACK, "code_verifier": "v" * 43}
        for _ in range(3):
            site.http.post("/oauth/token", data=form, headers={"Authorization": basic("secret", "wrong")})
            site.http.post("/oauth/token", data={**form, "client_id": "public", "client_secret": "x"})
            _asked(site, site.assertion("backend", sub="backend", aud="https://elsewhere.example.org/oauth/token"))
        assert site.token(form, "secret").json()["error"] == "invalid_grant"
        assert site.token(form, "public").json()["error"] == "invalid_grant"
        assert site.backend("system/*.rs").status_code == 200


def test_who_is_right_is_never_counted(tmp_path: Path) -> None:
    with smart_site(tmp_path, client_failures=1) as site:
        assert [site.backend("system/*.rs").status_code for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (Message(form=(("client_id", "a"),)), "a"),
        (Message(authorization="Basic YTpi", form=(("client_id", "c"),)), "a"),
        (Message(authorization="Basic ?"), ""),
        (Message(form=(("client_assertion", "e30.eyJzdWIiOiJhIn0.x"),)), "a"),
        (Message(form=(("client_assertion", "e30.e30.x"),)), ""),
        (Message(form=(("client_assertion", "e30.WyJhIl0.x"),)), ""),
        (Message(form=(("client_assertion", "e30.\u00e9\ud800.x"),)), ""),
        (Message(form=(("client_assertion", "x"),)), ""),
        (Message(), ""),
    ],
)
def test_in_whose_name_it_is_sent_is_read_of_anything(message: Message, named: str) -> None:
    assert claimed(message) == named
