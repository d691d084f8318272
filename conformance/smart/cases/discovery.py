"""Discovery: `[base]/.well-known/smart-configuration` (SMART App Launch 2.2, Conformance)."""

from typing import Any
from urllib.parse import urlsplit

from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System

AREA = Area("discovery")
case = AREA.case

IMAGING = "smart-imaging-access"
IMAGING_LAUNCH = "http://fhir.org/argonaut/smart-imaging/capabilities/app-launch"
IMAGING_BACKEND = "http://fhir.org/argonaut/smart-imaging/capabilities/backend-services"
_CAPABILITY_SETS = (
    ("launch-standalone", "context-standalone-patient", "permission-patient"),
    ("launch-ehr", "context-ehr-patient", "permission-patient"),
    ("launch-standalone", "permission-user", "permission-patient"),
    ("launch-ehr", "context-ehr-patient", "context-ehr-encounter", "permission-user", "permission-patient"),
)


def _strings(system: System, name: str) -> list[str]:
    """A member of the configuration that is an array of strings."""
    found: Any = system.configuration.get(name)
    check(isinstance(found, list) and found and all(isinstance(each, str) for each in found), f"{name} is no array of strings")
    return list(found)


def _absolute(url: object, name: str) -> None:
    split = urlsplit(str(url))
    check(split.scheme in ("https", "http") and split.netloc, f"{name} is no absolute URL: {url}")


@case("there", "A JSON object is at [base]/.well-known/smart-configuration", 30, 372, 373)
def _(system: System) -> None:
    check(system.configuration, "the configuration is empty")


@case("without-a-token", "It needs no authorization", 372)
def _(system: System) -> None:
    answer = system.wire.get(f"{system.clinical}/.well-known/smart-configuration")
    check(answer.status_code == 200, f"status {answer.status_code}")


@case("whatever-accept", "It is application/json whatever the Accept header is", 374, 377, 380)
def _(system: System) -> None:
    for accept in ("application/fhir+json", "application/fhir+xml", "text/html", "image/png", "*/*"):
        answer = system.wire.get(f"{system.clinical}/.well-known/smart-configuration", headers={"Accept": accept})
        kind = answer.headers.get("content-type", "")
        check(answer.status_code == 200, f"status {answer.status_code} for Accept: {accept}")
        check(kind.partition(";")[0].strip() == "application/json", f"Content-Type {kind} for Accept: {accept}")
        check(isinstance(answer.json(), dict), f"no JSON object for Accept: {accept}")


@case("absolute-urls", "Every endpoint in it is an absolute URL", 378)
def _(system: System) -> None:
    for name, value in system.configuration.items():
        if isinstance(value, str) and name.endswith(("_endpoint", "_uri", "_bundle")):
            _absolute(value, name)
    for each in system.configuration.get("associated_endpoints", ()):
        _absolute(each.get("url"), "associated_endpoints.url")


@case("token-endpoint", "It has token_endpoint", 385, 286)
def _(system: System) -> None:
    _absolute(system.configuration.get("token_endpoint"), "token_endpoint")


@case("authorization-endpoint", "It has authorization_endpoint where a launch is claimed", 383)
def _(system: System) -> None:
    if not {"launch-ehr", "launch-standalone"} & system.capabilities:
        raise Skipped("no launch is claimed")
    _absolute(system.configuration.get("authorization_endpoint"), "authorization_endpoint")


@case("grant-types", "grant_types_supported names what there is", 384)
def _(system: System) -> None:
    found = _strings(system, "grant_types_supported")
    check(
        {"authorization_code", "client_credentials"} & set(found), f"neither authorization_code nor client_credentials: {found}"
    )
    if "authorization_endpoint" in system.configuration:
        check("authorization_code" in found, "authorization_endpoint, but no authorization_code")
    check(not {"password", "implicit"} & set(found), f"a grant type that RFC 9700 forbids: {found}")


@case("capabilities", "capabilities is an array of strings", 393)
def _(system: System) -> None:
    _strings(system, "capabilities")


@case("pkce", "code_challenge_methods_supported has S256 and not plain", 394, 14, 15)
def _(system: System) -> None:
    found = _strings(system, "code_challenge_methods_supported")
    check("S256" in found, "S256 is not in it")
    check("plain" not in found, "plain is in it")


@case("issuer", "issuer and jwks_uri are there with sso-openid-connect", 381, 382)
def _(system: System) -> None:
    system.able("sso-openid-connect")
    _absolute(system.configuration.get("issuer"), "issuer")
    _absolute(system.configuration.get("jwks_uri"), "jwks_uri")


@case("no-issuer", "issuer is left out without sso-openid-connect", 381)
def _(system: System) -> None:
    if "sso-openid-connect" in system.capabilities:
        raise Skipped("sso-openid-connect is claimed")
    check("issuer" not in system.configuration, "issuer is there")


@case("asymmetric", "What client-confidential-asymmetric asks of discovery", 228, 285, 286, 287, 288, 289)
def _(system: System) -> None:
    methods = system.configuration.get("token_endpoint_auth_methods_supported") or ()
    if "private_key_jwt" in methods or "client_credentials" in system.configuration.get("grant_types_supported", ()):
        check("client-confidential-asymmetric" in system.capabilities, "the capability client-confidential-asymmetric is missing")
    system.able("client-confidential-asymmetric")
    check("private_key_jwt" in methods, "token_endpoint_auth_methods_supported lacks private_key_jwt")
    _strings(system, "scopes_supported")
    algorithms = _strings(system, "token_endpoint_auth_signing_alg_values_supported")
    check({"RS384", "ES384"} & set(algorithms), f"neither RS384 nor ES384: {algorithms}")
    check(not {"none", "HS256", "HS384", "HS512"} & set(algorithms), f"an algorithm that no public key has: {algorithms}")


@case("capability-sets", "One of the four capability sets is whole", 346, 348, 349, 350, 351)
def _(system: System) -> None:
    clients = {"client-public", "client-confidential-symmetric"} & system.capabilities
    whole = [each for each in _CAPABILITY_SETS if clients and set(each) <= system.capabilities]
    check(whole, f"no set is whole: {sorted(system.capabilities)}")


@case("scopes", "scopes_supported is an array of strings", 389)
def _(system: System) -> None:
    _strings(system, "scopes_supported")


@case("recommended", "It has the members that are recommended", 390, 391, 392, 269, 99)
def _(system: System) -> None:
    missing = [
        name
        for name in ("response_types_supported", "introspection_endpoint", "revocation_endpoint", "management_endpoint")
        if name not in system.configuration
    ]
    check(not missing, f"missing: {', '.join(missing)}")
    check("code" in _strings(system, "response_types_supported"), "response_types_supported lacks code")


@case("permission-v1", "permission-v1 is claimed, for clients of SMART 1", 126)
def _(system: System) -> None:
    check("permission-v1" in system.capabilities, "it is not")


@case(
    "metadata-security",
    "The CapabilityStatement names the same endpoints where it names any",
    source="SMART App Launch 1.0, oauth-uris",
)
def _(system: System) -> None:
    answer = system.read("metadata")
    check(answer.status_code == 200, f"/metadata answered {answer.status_code}")
    security = answer.json().get("rest", [{}])[0].get("security", {})
    uris = {
        part["url"]: part.get("valueUri")
        for each in security.get("extension", ())
        if each.get("url", "").endswith("/oauth-uris")
        for part in each.get("extension", ())
    }
    if not uris:
        raise Skipped("it has no oauth-uris, which is deprecated")
    for name, member in (("authorize", "authorization_endpoint"), ("token", "token_endpoint")):
        check(uris.get(name) == system.configuration.get(member), f"{name} is {uris.get(name)}")


@case("rfc8414", "RFC 8414 metadata agree with the SMART configuration", source="RFC 8414 section 3")
def _(system: System) -> None:
    issuer = str(system.configuration.get("issuer", "")).rstrip("/")
    if not issuer:
        raise Skipped("no issuer is told")
    split = urlsplit(issuer)
    answer = system.wire.get(f"{split.scheme}://{split.netloc}/.well-known/oauth-authorization-server{split.path}")
    if answer.status_code == 404:
        raise Skipped("there is no such document")
    check(answer.json().get("issuer") == issuer, "its issuer is another one")
    check(answer.json().get("token_endpoint") == system.configuration["token_endpoint"], "its token_endpoint is another one")


@case("imaging", "smart-imaging-access is told", source="SMART Imaging Access, Discovery")
def _(system: System) -> None:
    check(IMAGING in system.capabilities or _associated(system), f"{IMAGING} is in no capabilities")


@case("imaging-launch", "With it, how it is authorized: app-launch", source="SMART Imaging Access, App Launch support")
def _(system: System) -> None:
    told = _imaging(system)
    if "authorization_code" not in system.configuration.get("grant_types_supported", ()):
        raise Skipped("there is no authorization_code")
    check(IMAGING_LAUNCH in told, f"{IMAGING_LAUNCH} is not beside {IMAGING}")


@case(
    "imaging-backend",
    "With it, how it is authorized: backend-services, and what that needs",
    source="SMART Imaging Access, Backend Services support",
)
def _(system: System) -> None:
    if IMAGING_BACKEND not in _imaging(system):
        raise Skipped("backend-services is not claimed for imaging")
    check("client_credentials" in _strings(system, "grant_types_supported"), "client_credentials is missing")
    check("private_key_jwt" in _strings(system, "token_endpoint_auth_methods_supported"), "private_key_jwt is missing")
    check("system/ImagingStudy.rs" in _strings(system, "scopes_supported"), "scopes_supported lacks system/ImagingStudy.rs")


def _associated(system: System) -> list[str]:
    """Capabilities of an associated endpoint that has images."""
    for each in system.configuration.get("associated_endpoints", ()):
        if IMAGING in each.get("capabilities", ()):
            return list(each["capabilities"])
    return []


def _imaging(system: System) -> list[str]:
    found = sorted(system.capabilities) if IMAGING in system.capabilities else _associated(system)
    if not found:
        raise Skipped(f"{IMAGING} is not claimed")
    return found
