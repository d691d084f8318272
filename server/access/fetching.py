"""What those below `server.outbound` need of it: handed in by the composition root (`server.outbound.web.Web` does all of it)."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from server.settings import bracketed

Json = Mapping[str, Any]


def is_own(host: str, port: int, hosts: Iterable[str]) -> bool:
    """Whether the setting `fetch_allowed_hosts`, which is `hosts`, names this one, alone or with this port: it may have no TLS."""
    return any(each.lower() in (host, f"{bracketed(host)}:{port}") for each in hosts)


class Fetching(Protocol):
    """JSON from URLs that others name. Everything raises `Refused` for a URL that is not fetched, and `Unavailable` where no answer comes."""

    def json(self, url: str, *, fresh: bool = False) -> Json:
        """The JSON object at `url`, kept as long as it allows; `fresh` asks anew."""
        ...

    def jwks(self, url: str, *, fresh: bool = False) -> Json:
        """RFC 7517 section 5: the JWK Set at `url`, in the same way."""
        ...

    def get(self, url: str, headers: Mapping[str, str]) -> tuple[int, Json]:
        """The status and the JSON object of the answer; nothing is kept."""
        ...

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, Json]:
        """The same for a form that is sent."""
        ...
