"""What form the client wants its answer in, and has its body in: JSON or XML, of which version of FHIR (FHIR R4 sections 3.1.0.1.9 to 3.1.0.1.11)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from starlette.requests import Request

from profiles.fhir.json import Malformed, parse
from profiles.fhir.xml import from_xml
from profiles.vocabulary import FHIR_JSON
from server.edges.fhir.formats import FHIR_XML, Format
from server.errors import Invalid, MalformedQuery, NotAcceptable, UnsupportedMediaType
from server.work.fhir import query_string
from server.work.fhir.refusals import ParameterError

Pairs = query_string.Pairs

_JSON_NAMES: Final = frozenset({FHIR_JSON, "application/json", "text/json", "application/json+fhir"})
_XML_NAMES: Final = frozenset({FHIR_XML, "application/xml", "text/xml", "application/xml+fhir"})
_CODES: Final = {"json": FHIR_JSON, "xml": FHIR_XML}
_GENERIC: Final = frozenset({"application/json", "text/json", "application/xml", "text/xml"})
_ANY: Final = frozenset({"*/*", "application/*"})
_BROWSER: Final = frozenset({"text/html", "application/xhtml+xml"})
_VERSIONS: Final = frozenset({"", "4.0", "4.0.1"})
_READ: Final = ("_format", "_pretty")
_OF_BROWSERS: Final = Format(is_pretty=True)
_LONGEST_KEPT: Final = 256


def pairs(raw: bytes) -> Pairs:
    """The parameters of a query string or form, in their order. Raises `MalformedQuery`."""
    try:
        return query_string.pairs(raw.decode("ascii"))
    except UnicodeError:
        raise MalformedQuery("a query is percent-encoded UTF-8") from None


# --- answers


@dataclass(frozen=True, slots=True)
class _Range:
    """One member of an Accept header (RFC 9110 section 12.5.1)."""

    name: str
    version: str
    quality: float


def negotiate(request: Request, parameters: Pairs) -> Format:
    """FHIR R4 sections 3.1.0.1.9 to 3.1.0.1.11: the form of the answer, by `_format` before Accept, and `_pretty`. Raises `NotAcceptable`.

    A generic media type in Accept is that of the answer too. A browser, which asks for HTML first, gets pretty JSON where it takes anything.
    """
    given = [value for name, value in parameters if name == "_format"]
    pretty = _pretty(parameters)
    if given:
        text = given[-1].replace(" ", "+")
        found = _preferred([_Range(_CODES.get(each.name, each.name), each.version, each.quality) for each in _ranges(text)])
        if found is None:
            raise NotAcceptable("_format names a form that is not offered: json (application/fhir+json) or xml, of FHIR 4.0")
        return Format(found.is_xml, pretty is True)
    accept = request.headers.get("accept") or "*/*"
    found = _accepted(accept) if len(accept) <= _LONGEST_KEPT else _accepted.__wrapped__(accept)
    if found == _OF_BROWSERS:
        return Format(is_pretty=pretty is not False)
    if found is None:
        raise NotAcceptable(
            "this server answers in JSON or XML of FHIR R4: Accept: application/fhir+json or application/fhir+xml"
        )
    return Format(found.is_xml, pretty is True, found.media_type)


@lru_cache(maxsize=256)
def _accepted(accept: str) -> Format | None:
    """What an Accept header takes; `_OF_BROWSERS` where HTML stands first, and anything is taken."""
    ranges = list(_ranges(accept))
    if any(each.name in _BROWSER for each in ranges[:1]) and any(each.name in _ANY and each.quality for each in ranges):
        return _OF_BROWSERS
    return _preferred(ranges)


def wants_resource(request: Request, parameters: Pairs) -> bool:
    """FHIR R4 section 2.44.4: whether a form of FHIR is asked for by its name, so that a Binary is told as a resource, and not as its bytes.

    `application/json` in Accept is none of these: what a Binary has in it may well be JSON. `_format` is never of anything but a resource.
    """
    names = _JSON_NAMES | _XML_NAMES
    given = [value for name, value in parameters if name == "_format"]
    if given:
        return any(_CODES.get(each.name, each.name) in names and each.quality for each in _ranges(given[-1].replace(" ", "+")))
    accepted = _ranges(request.headers.get("accept") or "")
    return any(each.name in names - _GENERIC and each.quality for each in accepted)


def is_lenient(request: Request) -> bool:
    """FHIR R4 section 3.1.1.3: `Prefer: handling=lenient` lets unknown parameters pass. Strict without it."""
    return preference(request, "handling") == "lenient"


def preference(request: Request, name: str) -> str:
    """RFC 7240 section 2: the value of one preference, in lower case; the first of its name counts. Empty where there is none."""
    if "prefer" not in request.headers:
        return ""
    given = ",".join(request.headers.getlist("prefer")).replace(";", ",")
    for each in given.split(","):
        found, _, value = each.partition("=")
        if found.strip().lower() == name:
            return value.strip().strip('"').lower()
    return ""


def only(parameters: Pairs, known: Iterable[str] = _READ) -> None:
    """Raises `ParameterError` for a parameter that is not one of `known`."""
    for name, _ in parameters:
        if name not in known:
            raise ParameterError("", f"this takes no parameters but {', '.join(sorted(known))}", "not-supported")


def _pretty(parameters: Pairs) -> bool | None:
    given = [value for name, value in parameters if name == "_pretty"]
    if not given:
        return None
    if given[-1] not in ("true", "false"):
        raise ParameterError("_pretty", "_pretty is true or false")
    return given[-1] == "true"


def _preferred(ranges: list[_Range]) -> Format | None:
    """The form that the client likes best; of those that it likes as well, the one that it names first. JSON where it takes anything."""
    refused = {each.name for each in ranges if not each.quality}
    for each in sorted(ranges, key=lambda each: -each.quality):
        if not each.quality or each.version not in _VERSIONS:
            continue
        named = f"; fhirVersion={each.version}" if each.version else ""
        if each.name in _JSON_NAMES or (each.name in _ANY and FHIR_JSON not in refused):
            return Format(False, media_type=(each.name if each.name in _GENERIC else FHIR_JSON) + named)
        if each.name in _XML_NAMES or (each.name in _ANY and FHIR_XML not in refused):
            return Format(True, media_type=(each.name if each.name in _GENERIC else FHIR_XML) + named)
    return None


def _ranges(text: str) -> Iterator[_Range]:
    for part in text.lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        given = dict(each.partition("=")[::2] for each in parameters)
        yield _Range(name, given.get("fhirversion", "").strip('"'), _quality(given.get("q", "1")))


def _quality(text: str) -> float:
    """RFC 9110 section 12.4.2. What is no quality is taken as 1."""
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0


# --- bodies


def body_format(request: Request) -> Literal["json", "xml"]:
    """FHIR R4 section 3.1.0.1.10: what a request's body is in by its Content-Type. Raises `UnsupportedMediaType`."""
    name, version, charset = _content_type(request)
    if name not in _JSON_NAMES | _XML_NAMES:
        raise UnsupportedMediaType("a resource is sent as application/fhir+json or application/fhir+xml, by its Content-Type")
    if version not in _VERSIONS:
        raise UnsupportedMediaType("this server takes resources of FHIR 4.0: fhirVersion=4.0")
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaType("resources are sent in UTF-8 (FHIR R4 section 3.1.0.1.9)")
    return "json" if name in _JSON_NAMES else "xml"


def parsed(request: Request, body: bytes) -> dict[str, object]:
    """The resource in a request's body, as it came. Raises `UnsupportedMediaType`, and `Invalid` for what is malformed."""
    read = parse if body_format(request) == "json" else from_xml
    try:
        return read(body)
    except Malformed as error:
        raise Invalid([error.issue]) from None


def media_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case."""
    return _content_type(request)[0]


def _content_type(request: Request) -> tuple[str, str, str]:
    """Name, fhirVersion and charset."""
    name, *parameters = (each.strip() for each in request.headers.get("content-type", "").lower().split(";"))
    given = {key.strip(): value.strip().strip('"') for key, _, value in (each.partition("=") for each in parameters)}
    return name, given.get("fhirversion", ""), given.get("charset", "")
