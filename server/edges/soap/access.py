"""Who may call the SOAP actors: programs on this machine, until partners can be configured."""

from starlette.requests import Request

from server.access.decisions import Decision, everything
from server.edges import context
from server.errors import Forbidden
from server.settings import is_local_name

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def admit(request: Request) -> Decision:
    """The Decision of a caller on this machine: everything. Raises `Forbidden` for anybody else.

    A loopback address alone does not tell: behind a reverse proxy on this machine everybody has it, and a web page whose
    name was made to resolve to it has it too. So the request must not have been forwarded, its Host must be a loopback one,
    and the server must not be published under another name.
    """
    if context.node(request).settings.is_published:
        raise Forbidden(
            "SOAP is off, because the server has a public name (IMAGESHARE_PUBLIC_URL): whoever speaks for others on its own "
            "machine could not be told from them, and partners cannot be configured yet"
        )
    if (
        not context.is_loopback(request)
        or any(name in request.headers for name in _FORWARDED)
        or not is_local_name(request.headers.get("host", ""))
    ):
        raise Forbidden(
            "SOAP is answered for programs on the server's own machine, called directly at a loopback address; "
            "partners cannot be configured yet"
        )
    return context.trusted(request, everything("loopback"))
