"""What the client wants to have: JSON, pretty or not, strict or lenient (FHIR R4 sections 3.1.0.1.9 to 3.1.0.1.11, 3.1.1.3)."""

from collections.abc import Iterable, Iterator
from email.utils import format_datetime
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response

from profiles.vocabulary import FHIR_JSON
from server.edges.fhir.outcome import ParameterError
from server.errors import MalformedQuery, NotAcceptable
from server.records.resources import Stored
from server.store.db import moment

Pairs = tuple[tuple[str, str], ...]

_JSON = frozenset({"json", FHIR_JSON, "application/json", "text/json", "application/*", "*/*"})
_NAMED_JSON = frozenset({"json", FHIR_JSON, "application/json", "text/json"})
_MOST_PARAMETERS = 100


def pairs(raw: bytes) -> Pairs:
    """The parameters of a query string or form, in their order. Raises `MalformedQuery`."""
    try:
        found = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeError:
        raise MalformedQuery("a query is percent-encoded UTF-8") from None
    except ValueError:
        raise MalformedQuery(f"a query has at most {_MOST_PARAMETERS} parameters") from None
    if any("\0" in text for pair in found for text in pair):
        raise MalformedQuery("a query has no NUL characters")
    return tuple(found)


def negotiate(request: Request, parameters: Pairs) -> bool:
    """Whether the answer is to be pretty. Raises `NotAcceptable` unless JSON of R4 is taken, by `_format` before Accept."""
    formats = [value for name, value in parameters if name == "_format"]
    wanted = _media_types(formats[-1].replace(" ", "+") if formats else request.headers.get("accept", "*/*"))
    if not any(name in _JSON and version in ("", "4.0", "4.0.1") for name, version in wanted):
        raise NotAcceptable("this server answers in JSON of FHIR R4 only: Accept: application/fhir+json")
    return any(name == "_pretty" and value == "true" for name, value in parameters)


def wants_resource(request: Request, parameters: Pairs) -> bool:
    """FHIR R4 section 2.44.4: whether a Binary is asked for as a resource, by naming a FHIR format, and not as its bytes."""
    formats = [value for name, value in parameters if name == "_format"]
    wanted = _media_types(formats[-1].replace(" ", "+") if formats else request.headers.get("accept", ""))
    return any(name in _NAMED_JSON for name, _ in wanted)


def is_lenient(request: Request) -> bool:
    """FHIR R4 section 3.1.1.3: `Prefer: handling=lenient` lets unknown parameters pass. Strict without it."""
    preferences = ",".join(request.headers.getlist("prefer")).replace(";", ",").lower()
    return "handling=lenient" in (each.strip() for each in preferences.split(","))


def only(parameters: Pairs, known: Iterable[str]) -> None:
    """Raises `ParameterError` for a parameter that is not one of `known`."""
    for name, _ in parameters:
        if name not in known:
            raise ParameterError("", f"a read takes no parameters but {', '.join(sorted(known))}", "not-supported")


def resource_response(request: Request, stored: Stored, *, pretty: bool) -> Response:
    """FHIR R4 section 3.1.0.2: one version of a resource with ETag and Last-Modified, or 304 where the client has it."""
    headers = {
        "ETag": stored.etag,
        "Last-Modified": format_datetime(moment(stored.updated), usegmt=True),
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization",
    }
    held = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if stored.etag.removeprefix("W/") in held or "*" in held:
        return Response(status_code=304, headers=headers)
    return Response(prettied(stored.body) if pretty else stored.body, headers=headers, media_type=FHIR_JSON)


def prettied(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)


def _media_types(text: str) -> Iterator[tuple[str, str]]:
    """(media type, fhirVersion) of everything that an Accept header does not exclude by q=0."""
    for part in text.lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        given = dict(each.partition("=")[::2] for each in parameters)
        if given.get("q", "1").rstrip("0").rstrip(".") not in ("", "0"):
            yield name, given.get("fhirversion", "").strip('"')
