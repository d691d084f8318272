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
from server.access.decisions import Decision
from server.edges import context, systems
from server.errors import Forbidden, ImageShareError, Unauthenticated


def admit(request: Request) -> Decision | None:
    """The Decision of who is known without the message; None where an assertion in it has to say. Raises `AccessError` for anybody else.

    Waits for the database: not for the event loop.
    """
    if "authorization" in request.headers:
        return context.decision(request)
    if (known := systems.known(request)) is not None:
        return known
    if context.node(request).assertions.are_taken:
        return None
    raise Forbidden(systems.not_this_machine(request, "SOAP", "an access token, a SAML assertion or a certificate of a partner"))


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
