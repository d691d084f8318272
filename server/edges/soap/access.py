"""Who calls the SOAP actors: by an access token, a certificate in TLS, a SAML assertion (IHE XUA), or as a program on this machine.

`admit` knows what can be told before the message is read; `identified` reads the assertion in it. What an assertion says of a user comes before
what is known of the system that sends it.
"""

from collections.abc import Set as AbstractSet

from starlette.requests import Request

from ihe import xua
from ihe.soap import SECURITY, Envelope
from ihe.xua import TokenRefused
from profiles.audit_event import LOGIN
from server import telemetry
from server.access.decisions import Decision, everything
from server.edges import context
from server.errors import Forbidden, ImageShareError, Unauthenticated
from server.settings import is_local_name

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def admit(request: Request) -> Decision | None:
    """The Decision of who is known without the message; None where an assertion in it has to say. Raises `AccessError` for anybody else.

    Waits for the database: not for the event loop.
    """
    node = context.node(request)
    if "authorization" in request.headers:
        return context.decision(request)
    if (partner := node.partners.known(_chain(request))) is not None and partner.scope:
        with node.database.read() as connection:
            return context.trusted(request, node.partners.decision(connection, partner))
    if not (refused := _not_this_machine(request)):
        return context.trusted(request, everything("loopback"))
    if node.assertions.are_taken:
        return None
    raise Forbidden(refused)


def understood(request: Request) -> AbstractSet[str]:
    """The headers that are processed here beside those of WS-Addressing: Security, where anybody's assertions are believed."""
    return frozenset({SECURITY}) if context.node(request).assertions.are_taken else frozenset()


def identified(request: Request, known: Decision | None, envelope: Envelope) -> Decision:
    """ITI TF-2 section 3.40.4.1.3: the Decision, with the assertion of the message where it has one. `known` is what `admit` gave.

    An assertion is looked at whoever sends it, and refused if it is none that holds. Raises `TokenRefused`, which is in the trail as a failed
    authentication.
    """
    node = context.node(request)
    try:
        token = None if envelope.security is None or not node.assertions.are_taken else xua.token(envelope.security)
        if token is None:
            if known is None or node.settings.soap_assertions == "required":
                raise TokenRefused("SecurityTokenUnavailable", "the message has no assertion", "a SAML 2.0 assertion is needed")
            return known
        assertion = node.assertions.verified(token)
    except TokenRefused as refused:
        _tell(request, refused)
        raise
    with node.database.read() as connection:
        return context.trusted(request, node.assertions.decision(connection, assertion))


def _tell(request: Request, refused: TokenRefused) -> None:
    """ITI TF-2 section 3.40.4.1.3: an audit event for the authentication that failed, beside that of the transaction."""
    try:
        context.refused(request, Unauthenticated(f"authentication failed: {refused.why}"), "sign-in", LOGIN, rest=False)
    except Exception as trail:  # noqa: BLE001 (nothing is disclosed, so the refusal may go out without its event)
        telemetry.log().error("trail", request_id=context.request_id(request), **telemetry.failure(trail))


def challenge(error: ImageShareError) -> dict[str, str]:
    """RFC 9110 section 11.6.1: what goes with a 401."""
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}


def _chain(request: Request) -> list[str]:
    """ASGI TLS extension: the certificates that the client has shown, in PEM, its own first."""
    tls = request.scope.get("extensions", {}).get("tls", {})
    found: list[str] = tls.get("client_cert_chain", [])
    return found


def _not_this_machine(request: Request) -> str:
    """Why the caller is not taken for a program on this machine; empty where it is.

    A loopback address alone does not tell: behind a reverse proxy on this machine everybody has it, and a web page whose
    name was made to resolve to it has it too. So the request must not have been forwarded, its Host must be a loopback one,
    and the server must not be published under another name.
    """
    if context.node(request).settings.is_published:
        return (
            "SOAP needs an access token, a SAML assertion or a certificate of a partner here, because the server has a public name "
            "(IMAGESHARE_PUBLIC_URL): whoever speaks for others on its own machine could not be told from them"
        )
    if (
        not context.is_loopback(request)
        or any(name in request.headers for name in _FORWARDED)
        or not is_local_name(request.headers.get("host", ""))
    ):
        return (
            "SOAP is answered for programs on the server's own machine, called directly at a loopback address, and for who shows an access "
            "token, a SAML assertion or a certificate of a partner"
        )
    return ""
