"""OpenID Connect as SMART App Launch 2.2 uses it: id_token and fhirUser."""

import time
from typing import Any, Final

from conformance.smart import jwts
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

AREA = Area("openid")
case = AREA.case

SCOPE: Final = "openid fhirUser launch/patient patient/ImagingStudy.rs patient/Patient.rs"
_TYPES: Final = ("Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person")


def _claims(system: System, token: str) -> dict[str, Any]:
    keys = system.wire.get(system.endpoint("jwks_uri")).json()
    return jwts.verified(token, keys, "RS256")


def _id_token(system: System, nonce: str | None = None) -> tuple[dict[str, Any], str]:
    """The verified claims of a new id_token, and the access token beside it."""
    system.able("sso-openid-connect")
    grant = system.fresh(SCOPE, changed={"nonce": nonce}) if nonce else system.grant(SCOPE)
    token = grant.body.get("id_token")
    check(isinstance(token, str), "no id_token came")
    return _claims(system, str(token)), grant.token


@case("id-token", "openid and fhirUser bring an id_token that RS256 has signed", 200, 205, 207, 210, 358)
def _(system: System) -> None:
    claims, _ = _id_token(system)
    check(claims["iss"] == system.configuration["issuer"], f"iss is {claims['iss']}")
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    check(system.target.client("public").id in audience, f"aud is {audience}")
    check(isinstance(claims.get("sub"), str) and 0 < len(claims["sub"]) <= 255, "no sub")
    now = time.time()
    check(claims["iat"] - 60 <= now <= claims["exp"], f"iat {claims['iat']}, exp {claims['exp']}")


@case("nonce", "The nonce of the request stands in it", 205, source="OpenID Connect Core section 3.1.3.6")
def _(system: System) -> None:
    claims, _ = _id_token(system, "kit-nonce-4711")
    check(claims.get("nonce") == "kit-nonce-4711", f"nonce is {claims.get('nonce')!r}")


@case("fhir-user", "fhirUser names one of the five types", 198, 199, 209)
def _(system: System) -> None:
    claims, _ = _id_token(system)
    user = str(claims.get("fhirUser", ""))
    check(any(f"/{each}/" in f"/{user}" for each in _TYPES), f"fhirUser is {user!r}")
    wanted = system.target.user("patient").fhir_user
    check(not wanted or user.endswith(wanted), f"fhirUser is {user}, not {wanted}")


@case("fhir-user-readable", "What fhirUser names can be read with the same token", 197, 198)
def _(system: System) -> None:
    claims, token = _id_token(system)
    user = str(claims.get("fhirUser", ""))
    if not user:
        raise Skipped("there is no fhirUser")
    answer = system.wire.get(
        user if "://" in user else f"{system.fhir}/{user}", token=token, headers={"Accept": "application/fhir+json"}
    )
    check(answer.status_code == 200, f"status {answer.status_code}")
    check(answer.json().get("resourceType") in _TYPES, f"it is {answer.json().get('resourceType')}")


@case("not-asked", "Without openid no id_token comes", 200)
def _(system: System) -> None:
    check("id_token" not in system.grant("launch/patient patient/ImagingStudy.rs").body, "an id_token came")


@case("no-fhir-user", "Without the scope fhirUser, the claim is not there", 209)
def _(system: System) -> None:
    system.able("sso-openid-connect")
    token = system.grant("openid launch/patient patient/ImagingStudy.rs").body.get("id_token")
    if not token:
        raise Skipped("no id_token for openid alone")
    check("fhirUser" not in _claims(system, str(token)), "it is there")


@case("keys", "The keys are bare JWKs, without anything private", 207)
def _(system: System) -> None:
    system.able("sso-openid-connect")
    keys = system.wire.get(system.endpoint("jwks_uri")).json()["keys"]
    check(keys, "there is no key")
    for each in keys:
        check({"n", "e"} <= set(each) or {"crv", "x"} <= set(each), f"key {each.get('kid')} has no members of its own")
        check(not {"d", "p", "q", "k"} & set(each), f"key {each.get('kid')} shows what is private")
        check(each.get("kid"), "a key has no kid")
    check(any(each["kty"] == "RSA" for each in keys), "none is for RS256")


@case(
    "metadata",
    "OpenID Connect Discovery agrees with the SMART configuration",
    205,
    210,
    source="OpenID Connect Discovery section 4",
)
def _(system: System) -> None:
    system.able("sso-openid-connect")
    issuer = str(system.configuration["issuer"]).rstrip("/")
    answer = system.wire.get(f"{issuer}/.well-known/openid-configuration")
    check(answer.status_code == 200, f"status {answer.status_code}")
    found = answer.json()
    check(str(found.get("issuer")).rstrip("/") == issuer, f"issuer is {found.get('issuer')}")
    check(found.get("jwks_uri") == system.configuration["jwks_uri"], "jwks_uri is another one")
    check("RS256" in found.get("id_token_signing_alg_values_supported", ()), "RS256 is not named")
    check("none" not in found.get("id_token_signing_alg_values_supported", ()), "none is named")
