"""What those below `server.outbound` need of it: handed in by the composition root (`server.outbound.web.Web` does all of it)."""

from collections.abc import Mapping
from typing import Any, Protocol

Json = Mapping[str, Any]


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
