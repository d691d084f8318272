"""Client authentication by a signed JWT (SMART App Launch 2.2, Client Authentication: Asymmetric; RFC 7523; RFC 8725)."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2

from conformance.smart import jwts
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, oauth_error
from conformance.smart.target import Client

AREA = Area("asymmetric")
case = AREA.case

SCOPE: Final = "system/ImagingStudy.rs"


def _client(system: System) -> Client:
    system.able("client-confidential-asymmetric")
    found = system.target.client("backend")
    if not found.key:
        raise Skipped("the target file has no key of the backend client")
    return found


def _ask(system: System, assertion: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "client_credentials", "scope": SCOPE, **system.asserted(assertion), **more}
    return system.token_request(form, None)


def _make(system: System, header: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None, **more: Any) -> str:
    client = _client(system)
    key = more.pop("key", client.key)
    return jwts.assertion(client.id, system.endpoint("token_endpoint"), key, header=header, claims=claims, **more)


@case("accepted", "An assertion by the registered key brings a token", 310, 335, 337, 338, 357, 253)
def _(system: System) -> None:
    system.granted_by(_ask(system, _make(system)))


@case("other-algorithm", "So does one by the other algorithm, RS384 or ES384", 310)
def _(system: System) -> None:
    key = _client(system).other_key
    if not key:
        raise Skipped("the target file has no other_key of the backend client")
    system.granted_by(_ask(system, _make(system, key=key)))


@case("jku", "So does one that names the registered JWKS URL", 338, 339)
def _(system: System) -> None:
    client = system.target.client("backend_by_url")
    if not client.jku:
        raise Skipped("the target file has no jku of that client")
    made = jwts.assertion(client.id, system.endpoint("token_endpoint"), client.key, header={"jku": client.jku})
    system.granted_by(_ask(system, made))


@case("audience-array", "aud may be an array that names the token endpoint alone", 335)
def _(system: System) -> None:
    answer = _ask(system, _make(system, claims={"aud": [system.endpoint("token_endpoint")]}))
    if answer.status_code != 200:
        oauth_error(answer, "invalid_client")


def _refused(
    id: str,
    title: str,
    *numbers: int,
    header: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    source: str = "",
) -> None:
    """A case in which an assertion with these members is refused as invalid_client."""

    @case(id, title, 335, 340, *numbers, source=source)
    def _(system: System) -> None:
        now = int(time.time())
        given = {name: now + value[1] if isinstance(value, tuple) else value for name, value in (claims or {}).items()}
        oauth_error(_ask(system, _make(system, header, given)), "invalid_client")


_refused("no-jti", "No assertion without jti", 336, claims={"jti": None})
_refused("no-exp", "Nor without exp", claims={"exp": None})
_refused("no-aud", "Nor without aud", claims={"aud": None})
_refused("no-iss", "Nor without iss", 337, claims={"iss": None})
_refused("no-sub", "Nor without sub", claims={"sub": None})
_refused("other-iss", "Nor of another issuer", 337, claims={"iss": "kit-nobody", "sub": "kit-nobody"})
_refused("other-sub", "Nor about somebody else", 337, claims={"sub": "kit-somebody"})
_refused("other-aud", "Nor for another token endpoint", claims={"aud": "https://other.invalid/token"})
_refused("aud-prefix", "Nor for a URL that only begins as the token endpoint", claims={"aud": "https://"})
_refused(
    "two-audiences", "Nor for others besides", claims={"aud": ["https://other.invalid/token", "https://third.invalid/token"]}
)
_refused("expired", "Nor after its exp", claims={"exp": ("now", -120), "iat": ("now", -300)})
_refused("too-long", "Nor one that lives longer than five minutes", claims={"exp": ("now", 3600)})
_refused("not-yet", "Nor before its nbf", claims={"nbf": ("now", 200)})
_refused(
    "crit",
    "Nor one with a critical member that is not understood",
    header={"crit": ["kit"], "kit": 1},
    source="RFC 7515 section 4.1.11",
)
_refused("foreign-jku", "Nor one that names another JWKS URL", 338, header={"jku": "https://attacker.invalid/jwks"})
_refused("unknown-kid", "Nor by a kid that is not registered", 338, header={"kid": "kit-unknown"})
_refused("kid-path", "Nor by a kid that is a path", 338, header={"kid": "../../../../etc/passwd"})
_refused("no-kid", "Nor without kid", 338, header={"kid": None})


@case("replayed", "An assertion that comes twice is refused", 336, 340)
def _(system: System) -> None:
    assertion = _make(system)
    system.granted_by(_ask(system, assertion))
    oauth_error(_ask(system, assertion), "invalid_client")


@case("replay-race", "Of many that come at once with one jti, one gets a token", 336)
def _(system: System) -> None:
    assertion = _make(system)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: _ask(system, assertion).status_code, range(8)))
    check(found.count(200) == 1, f"{found.count(200)} tokens for one jti")
    check(all(each < 500 for each in found), f"statuses {sorted(found)}")


@case("other-key", "No token for an assertion that another key signed, whatever the header says", 335, 338, 340)
def _(system: System) -> None:
    registered = _client(system).key
    alg = str(registered.get("alg", "RS384"))
    key = jwts.new_key(str(registered.get("kid")), alg)
    for more in ({}, {"jwk": jwts.public_part(key)}, {"x5u": "https://attacker.invalid/certificate"}):
        oauth_error(_ask(system, _make(system, more, key=key)), "invalid_client")


@case("alg-none", "None without a signature", 335, 340, source="RFC 8725 section 3.1")
def _(system: System) -> None:
    found = jwts.parts(_make(system))
    assert found is not None
    oauth_error(_ask(system, jwts.unsigned(found[1])), "invalid_client")


@case("hmac", "None by HS256 with the public key as its secret", 335, 340, source="RFC 8725 section 2.1")
def _(system: System) -> None:
    found = jwts.parts(_make(system))
    assert found is not None
    oauth_error(_ask(system, jwts.with_hmac_of(jwts.public_part(_client(system).key), found[1])), "invalid_client")


@case("changed", "None that was changed after it was signed", 335, 340)
def _(system: System) -> None:
    head, body, signature = _make(system).split(".")
    other = _make(system).split(".")[1]
    check(body != other, "two assertions are the same")
    oauth_error(_ask(system, f"{head}.{other}.{signature}"), "invalid_client")


@case("garbage", "None that is no JWT", 335, 340)
def _(system: System) -> None:
    _client(system)
    for each in ("", "x", "a.b.c", "eyJ.eyJ.", "." * 2000):
        oauth_error(_ask(system, each), "invalid_client", "invalid_request")


@case("wrong-type", "None with another client_assertion_type", 335)
def _(system: System) -> None:
    answer = _ask(system, _make(system), client_assertion_type="urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
    oauth_error(answer, "invalid_client", "invalid_request")


@case("jwks-url", "The keys of a client that registered a URL are fetched from there", 296, 339)
def _(system: System) -> None:
    client = system.target.client("backend_by_url")
    answer = system.token_request({"grant_type": "client_credentials", "scope": SCOPE}, client)
    system.granted_by(answer)
