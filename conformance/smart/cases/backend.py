"""Backend services: tokens of a client by itself (SMART App Launch 2.2, Backend Services)."""

from typing import Final

from conformance.smart import jwts
from conformance.smart.cases.token import not_kept
from conformance.smart.kit import Area, Skipped, check
from conformance.smart.system import System, oauth_error, refused

AREA = Area("backend")
case = AREA.case

SCOPE: Final = "system/ImagingStudy.rs"


@case("response", "client_credentials bring access_token, token_type, expires_in and scope", 253, 254, 255, 256, 258, 249)
def _(system: System) -> None:
    answer = system.token_request({"grant_type": "client_credentials", "scope": SCOPE}, system.target.client("backend"))
    found = system.granted_by(answer).body
    check(str(found.get("token_type", "")).lower() == "bearer", f"token_type {found.get('token_type')}")
    check(isinstance(found.get("expires_in"), int), "no expires_in")
    check(isinstance(found.get("scope"), str), "no scope")
    not_kept(answer)


@case("short", "Its token lives five minutes at most", 257, 261, 262)
def _(system: System) -> None:
    seconds = system.backend_grant(SCOPE).body.get("expires_in")
    check(isinstance(seconds, int) and 0 < seconds <= 300, f"expires_in {seconds}")


@case("no-refresh", "No refresh token comes with it", 248)
def _(system: System) -> None:
    check("refresh_token" not in system.backend_grant(SCOPE).body, "one came")


@case("no-context", "Nor a patient or an id_token", source="SMART App Launch 2.2, Backend Services")
def _(system: System) -> None:
    check(not {"patient", "id_token"} & set(system.backend_grant(SCOPE).body), "one came")


@case("opens", "It opens what the client is authorized for", 142, 240, 265)
def _(system: System) -> None:
    answer = system.read(f"ImagingStudy?patient={system.target.patient('a')}", system.backend_grant(SCOPE).token)
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:200]}")


@case("scope-limits", "And nothing beyond its scope", 241, 266, 260)
def _(system: System) -> None:
    token = system.backend_grant(SCOPE).token
    refused(system.read(f"Patient/{system.target.patient('a')}", token), 403)
    refused(system.read(f"Observation?patient={system.target.patient('a')}", token), 403)


@case("not-registered", "No scope comes that the client is not registered for", 240, 241, 250, 259)
def _(system: System) -> None:
    client = system.target.client("backend")
    if not client.scope or "system/*.cruds" in client.scope.split():
        raise Skipped("the target file does not say what the client is registered for")
    answer = system.token_request({"grant_type": "client_credentials", "scope": f"{SCOPE} system/*.cruds"}, client)
    if answer.status_code != 200:
        oauth_error(answer, "invalid_scope")
        return
    found = system.granted_by(answer).scopes
    check("system/*.cruds" not in found, f"granted {sorted(found)}")


@case("only-not-registered", "A request for nothing else is refused: invalid_scope", 243, 250, 251)
def _(system: System) -> None:
    client = system.target.client("backend")
    for scope in ("patient/ImagingStudy.rs", "kit/everything"):
        oauth_error(system.token_request({"grant_type": "client_credentials", "scope": scope}, client), "invalid_scope")


@case("no-scope", "A request without scope gets a refusal or no more than is registered", 250)
def _(system: System) -> None:
    client = system.target.client("backend")
    answer = system.token_request({"grant_type": "client_credentials"}, client)
    if answer.status_code != 200:
        oauth_error(answer, "invalid_scope", "invalid_request")
    elif client.scope:
        found = system.granted_by(answer).scopes
        check(found <= set(client.scope.split()), f"granted {sorted(found)}")


@case("secret", "A client with a secret gets none", 344, 249)
def _(system: System) -> None:
    client = system.target.client("secret")
    answer = system.token_request({"grant_type": "client_credentials", "scope": SCOPE}, client)
    oauth_error(answer, "unauthorized_client", "invalid_client")


@case("public", "Nor does one without anything", 249)
def _(system: System) -> None:
    client = system.target.client("public")
    answer = system.token_request({"grant_type": "client_credentials", "scope": SCOPE}, client)
    oauth_error(answer, "unauthorized_client", "invalid_client")


@case("errors", "Errors are as RFC 6749 section 5.2 says, with a description", 251, 252)
def _(system: System) -> None:
    client = system.target.client("backend")
    answer = system.token_request({"grant_type": "client_credentials", "scope": SCOPE}, None)
    oauth_error(answer, "invalid_client", "invalid_request")
    found = answer.json()
    check("error_description" in found or "error_uri" in found, "neither error_description nor error_uri")
    if client.key:
        wrong = jwts.assertion(client.id, "https://other.invalid", client.key)
        answer = system.token_request({"grant_type": "client_credentials", "scope": SCOPE, **system.asserted(wrong)}, None)
        oauth_error(answer, "invalid_client")
        check("error_description" in answer.json() or "error_uri" in answer.json(), "no description")


@case("assertion-is-no-token", "The assertion itself opens nothing", source="SMART Imaging Access, Obtaining a token")
def _(system: System) -> None:
    client = system.target.client("backend")
    if not client.key:
        raise Skipped("the backend client has no key in the target file")
    assertion = jwts.assertion(client.id, system.endpoint("token_endpoint"), client.key)
    refused(system.read(f"ImagingStudy?patient={system.target.patient('a')}", assertion), 401)


@case("tls", "Tokens are given over TLS 1.2 or newer", 231)
def _(system: System) -> None:
    url = system.endpoint("token_endpoint")
    if url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]")):
        raise Skipped("the system is on this machine, without TLS")
    check(url.startswith("https://"), "the token endpoint is http")
    check(not _speaks_old_tls(url), "the server speaks TLS 1.1 or older")


def _speaks_old_tls(url: str) -> bool:
    """Whether a handshake with TLS 1.1 at most succeeds."""
    import socket
    import ssl
    import warnings
    from urllib.parse import urlsplit

    split = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    try:
        with (
            socket.create_connection((split.hostname or "", split.port or 443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=split.hostname),
        ):
            return True
    except (ssl.SSLError, OSError):
        return False
