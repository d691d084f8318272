"""Cross-origin requests of browser apps (SMART App Launch 2.2, Considerations for CORS support)."""

from typing import Final

import httpx2

from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

AREA = Area("cors")
case = AREA.case

_ANY: Final = "https://anywhere.invalid"


def _origin(system: System) -> str:
    found = system.target.client("public").origin
    if not found:
        raise Skipped("the target file has no origin of the public client")
    return found


def _allows(answer: httpx2.Response, origin: str) -> bool:
    return answer.headers.get("access-control-allow-origin", "") in ("*", origin)


def _preflight(system: System, url: str, origin: str, method: str = "GET", headers: str = "authorization") -> httpx2.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return system.wire.ask("OPTIONS", url, headers=asked)


def _opened(answer: httpx2.Response, origin: str, method: str, header: str) -> None:
    """Fails unless a preflight lets this request through."""
    check(answer.status_code in (200, 204), f"the preflight was answered with {answer.status_code}")
    check(_allows(answer, origin), f"Access-Control-Allow-Origin is {answer.headers.get('access-control-allow-origin')!r}")
    methods = answer.headers.get("access-control-allow-methods", "")
    check(methods == "*" or method in methods.upper(), f"Access-Control-Allow-Methods is {methods!r}")
    headers = answer.headers.get("access-control-allow-headers", "").lower()
    check(header in headers, f"Access-Control-Allow-Headers is {headers!r}")


@case("discovery", "Any origin reads the SMART configuration", 16)
def _(system: System) -> None:
    answer = system.wire.get(f"{system.clinical}/.well-known/smart-configuration", headers={"Origin": _ANY})
    check(_allows(answer, _ANY), "it may not")


@case("metadata", "Any origin reads the CapabilityStatement", 16)
def _(system: System) -> None:
    check(_allows(system.read("metadata", Origin=_ANY), _ANY), "it may not")


@case("jwks", "Any origin reads the keys", 16)
def _(system: System) -> None:
    check(_allows(system.wire.get(system.endpoint("jwks_uri"), headers={"Origin": _ANY}), _ANY), "it may not")


@case("token", "A registered origin may ask for tokens, and reads the answer", 17)
def _(system: System) -> None:
    origin = _origin(system)
    answered = system.authorize("launch/patient patient/ImagingStudy.rs")
    answer = system.redeem(answered, headers={"Origin": origin})
    check(answer.status_code == 200, f"status {answer.status_code}")
    check(_allows(answer, origin), f"Access-Control-Allow-Origin is {answer.headers.get('access-control-allow-origin')!r}")


@case("token-preflight", "Its preflight to the token endpoint succeeds", 17)
def _(system: System) -> None:
    origin = _origin(system)
    answer = _preflight(system, system.endpoint("token_endpoint"), origin, "POST", "content-type")
    _opened(answer, origin, "POST", "content-type")


@case("token-other", "No other origin reads the answer of the token endpoint", 17, source="RFC 9700 section 2.6")
def _(system: System) -> None:
    answer = system.redeem(system.authorize("launch/patient patient/ImagingStudy.rs"), headers={"Origin": _ANY})
    check(answer.headers.get("access-control-allow-origin") not in ("*", _ANY), "another origin may read it")


@case("fhir", "A registered origin reads FHIR", 17)
def _(system: System) -> None:
    origin = _origin(system)
    token = system.token("launch/patient patient/ImagingStudy.rs")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", token, Origin=origin)
    check(_allows(answer, origin), f"Access-Control-Allow-Origin is {answer.headers.get('access-control-allow-origin')!r}")


@case("fhir-preflight", "Its preflight for a request with a token succeeds", 17)
def _(system: System) -> None:
    origin = _origin(system)
    _opened(_preflight(system, f"{system.fhir}/ImagingStudy?patient=x", origin), origin, "GET", "authorization")


@case("fhir-other", "No other origin reads FHIR", 17)
def _(system: System) -> None:
    token = system.token("launch/patient patient/ImagingStudy.rs")
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", token, Origin=_ANY)
    check(answer.headers.get("access-control-allow-origin") not in ("*", _ANY), "another origin may read it")


@case("no-credentials", "No answer allows every origin with credentials", source="Fetch standard, CORS protocol")
def _(system: System) -> None:
    for url in (
        f"{system.clinical}/.well-known/smart-configuration",
        f"{system.fhir}/metadata",
        system.endpoint("token_endpoint"),
    ):
        answer = system.wire.get(url, headers={"Origin": _ANY})
        allowed = answer.headers.get("access-control-allow-origin"), answer.headers.get("access-control-allow-credentials")
        check(allowed[1] != "true" or allowed[0] not in ("*", _ANY), f"{url} does: {allowed}")


@case("not-authorize", "The authorization endpoint answers no script", source="RFC 9700 section 2.6")
def _(system: System) -> None:
    answer = system.wire.get(system.endpoint("authorization_endpoint"), headers={"Origin": _origin(system)})
    check("access-control-allow-origin" not in answer.headers, "it does")


@case("brands", "Any origin reads the brands", 400, 423)
def _(system: System) -> None:
    url = system.endpoint("user_access_brand_bundle")
    check(_allows(system.wire.get(url, headers={"Origin": _ANY}), _ANY), "it may not")


@case("dicomweb", "A registered origin reads images", 17, source="SMART Imaging Access, Retrieving images")
def _(system: System) -> None:
    from conformance.smart.imaging import retrieved

    origin = _origin(system)
    study = system.target.study("a")
    token = system.token("launch/patient patient/ImagingStudy.rs")
    answer = retrieved(system, token, study, "/metadata", accept="application/dicom+json", Origin=origin)
    check(_allows(answer, origin), f"Access-Control-Allow-Origin is {answer.headers.get('access-control-allow-origin')!r}")


@case(
    "dicomweb-preflight", "Its preflight for images with a token succeeds", 17, source="SMART Imaging Access, Retrieving images"
)
def _(system: System) -> None:
    from conformance.smart.imaging import address

    origin = _origin(system)
    study = system.target.study("a")
    base = address(system, system.token("launch/patient patient/ImagingStudy.rs"), study)
    _opened(_preflight(system, f"{base}/studies/{study.uid}", origin), origin, "GET", "authorization")
