"""Systems that call without an access token: by the certificate that they show in TLS, or as programs on this machine."""

from typing import Final

from starlette.requests import Request

from server.access.decisions import Decision, everything
from server.edges import context
from server.settings import is_local_name

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def known(request: Request) -> Decision | None:
    """The Decision of a partner by its certificate, or of a program on this machine, as the request's; None for anybody else.

    Waits for the database: not for the event loop.
    """
    node = context.node(request)
    if (partner := node.partners.known(_chain(request))) is not None and partner.scope:
        with node.database.read() as connection:
            return context.trusted(request, node.partners.decision(connection, partner))
    return None if not_this_machine(request) else context.trusted(request, everything("loopback"))


def not_this_machine(request: Request, what: str = "this", otherwise: str = "an access token") -> str:
    """Why the caller is not taken for a program on this machine; empty where it is. `what` is asked for, `otherwise` would do.

    A loopback address alone does not tell: behind a reverse proxy on this machine everybody has it, and a web page whose
    name was made to resolve to it has it too. So the request must not have been forwarded, its Host must be a loopback one,
    and the server must not be published under another name.
    """
    if context.node(request).settings.is_published:
        return (
            f"{what} needs {otherwise} here, because the server has a public name (IMAGESHARE_PUBLIC_URL): whoever speaks for others on "
            "its own machine could not be told from them"
        )
    if (
        not context.is_loopback(request)
        or any(name in request.headers for name in _FORWARDED)
        or not is_local_name(request.headers.get("host", ""))
    ):
        return f"{what} is answered for programs on the server's own machine, called directly at a loopback address, and for who shows {otherwise}"
    return ""


def _chain(request: Request) -> list[str]:
    """ASGI TLS extension: the certificates that the client has shown, in PEM, its own first."""
    tls = request.scope.get("extensions", {}).get("tls", {})
    found: list[str] = tls.get("client_cert_chain", [])
    return found
