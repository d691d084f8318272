"""Requests to a FHIR server, made of what its CapabilityStatement claims: right ones, wrong ones and hostile ones (hypothesis strategies).

Each is whole: method, path with query, body and headers. What is claimed is drawn from the statement alone, so that what is claimed anew is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

Json = dict[str, Any]
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/fhir+json"
XML: Final = "application/fhir+xml"


@dataclass(frozen=True)
class Asked:
    """One request. `path` is below the base and percent-encoded; what `headers` have is sent as it is, in Latin-1."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


# --- values

HOSTILE: Final = (
    "", " ", "'; DROP TABLE resource; --", "%' OR '1'='1", "\\", "\\\\,", "a\\", "|", "||", "a|b|c|d", ",", ",,", "$", "$$$", "\x00", "a\x00b", "\n", "é", "e\u0301", "💀",
    "\u202e", "\ufffe", "\uffff", "ß" * 200, "İ", "%", "_", "*", "null", "true", "9" * 40, "9" * 400, "-1", "1e400", "1e-400", "1e999999999", "NaN", "Infinity",
    "0x10", "٣", "1_000", "gt", "gtgt1", "a" * 5000, "," * 400, "a," * 499 + "a", "((((", "{}", "<script>", "${7*7}", "../../etc/passwd", "urn:uuid:x", "#", "#x",
)  # fmt: skip
RIGHT: Final[dict[str, tuple[str, ...]]] = {
    "number": ("1", "0.50", "gt1e3", "ap-7", "1e-20", "ne100", "9223372036854775808", "1.7976931348623157e308", "5e-324"),
    "date": ("2026", "ge2026-01", "sa2026-01-05", "ap2026-01-05T09:30", "eb2026-01-05T09:30:00.123456789Z", "0001", "9999-12-31T23:59:59Z", "ne9999", "lt0001-01-01T00:00:00+14:00",
             "2026-02-30", "2016-12-31T23:59:60Z", "10000", "0000", "-2026", "2026-01-01T24:00:00Z", "ap0001", "ap9999-12-31"),
    "string": ("One", "Ónè", "x", "a b", "one\\,two"),
    "token": ("x", "|x", "http://loinc.org|1-8", "http://loinc.org|", "urn:dicom:uid|urn:oid:1.2", "true", "final", "a|b|c"),
    "reference": ("Patient/one", "one", "http://example.org/fhir/Patient/one", "Patient/one/_history/2", "urn:uuid:00000000-0000-0000-0000-000000000000", "Nothing/one", "Patient/" + "a" * 65, "#a"),
    "quantity": ("5.4", "gt5.4|http://unitsofmeasure.org|mg", "5||mg", "1e308|http://unitsofmeasure.org|km", "ap1|http://unitsofmeasure.org|[nothing]", "5|||", "1e400||kg"),
    "uri": ("http://example.org/x", "urn:oid:1.2.3", "http://example.org/x|1", "urn:"),
    "composite": ("8480-6$gt5", "http://loinc.org|1$5||mg", "a$b$c", "$", "a", "x$$y", "a\\$b$c"),
    "special": ("-83.69|42.25|11|km", "91|181|-1|km", "x"),
}  # fmt: skip
MODIFIERS: Final = (
    ":exact", ":contains", ":text", ":not", ":above", ":below", ":in", ":not-in", ":of-type", ":identifier",
)  # fmt: skip
FITTING: Final[dict[str, tuple[str, ...]]] = {
    "string": (":exact", ":contains"), "token": (":not", ":text", ":of-type", ":in"), "reference": (":identifier", ":Patient", ".name", ".identifier"), "uri": (":above", ":below"),
}  # fmt: skip
ENCODED: Final = (
    "%",
    "%zz",
    "%0",
    "%00",
    "%ff",
    "%C0%80",
    "%ed%a0%80",
    "%25%30%30",
    "+",
    "%2B",
    "&",
    "=",
    "%26a%3D1",
    ";",
    "#",
    "a%0D%0AX: 1",
)
"""What is no percent-encoding of UTF-8, or looks like more than a value."""


def values(type_: str) -> SearchStrategy[str]:
    """Values of a parameter of this type, percent-encoded; some are right."""
    right = st.sampled_from(RIGHT.get(type_, HOSTILE))
    hostile = st.sampled_from(HOSTILE) | st.text(max_size=6)
    mixed = st.lists(right | hostile, min_size=2, max_size=3).map(",".join)
    text = st.integers(0, 9).flatmap(lambda kind: right if kind < 6 else hostile if kind < 8 else mixed)
    encoded = text.map(lambda value: quote(value, safe="", errors="replace"))
    return st.integers(0, 19).flatmap(lambda kind: encoded if kind else st.sampled_from(ENCODED))


# --- searches


class Claims:
    """What a CapabilityStatement says there is."""

    def __init__(self, statement: Json) -> None:
        self.rest: Json = statement["rest"][0]
        self.types: dict[str, Json] = {each["type"]: each for each in self.rest["resource"]}
        self.parameters = {name: [*each.get("searchParam", ()), *self.rest["searchParam"]] for name, each in self.types.items()}
        self.led = sorted({name for each in self.types.values() for name in each.get("searchRevInclude", ())})
        self.operations = [
            (type_, each["name"]) for type_, told in self.types.items() for each in told.get("operation", ())
        ]  # fmt: skip

    @property
    def type_names(self) -> SearchStrategy[str]:
        """All alike, and those more often that have something in the tests' server."""
        return st.sampled_from(("Patient", "Observation", "ImagingStudy", "DocumentReference", "Organization")) | st.sampled_from(
            sorted(self.types)
        )


@st.composite
def pairs(draw: DrawFn, claims: Claims, type_: str) -> str:
    """One parameter of a search with its value."""
    kind = draw(st.integers(0, 9))
    if kind <= 4:
        one = draw(st.sampled_from(claims.parameters[type_]))
        fitting = FITTING.get(one["type"], ("",))
        modifier = draw(
            st.sampled_from(("", "", *fitting) * 4 + (":missing", *MODIFIERS, ":Patient", ":x", ":", "::", ".name", ".x.y"))
        )
        of = "token" if modifier in (":not", ":of-type") else one["type"]
        return quote(f"{one['name']}{modifier}", safe=":.") + "=" + draw(values(of))
    if kind == 5:
        return draw(_chains(claims, type_)) + "=" + draw(values("string"))
    if kind == 6:
        return "_filter=" + quote(draw(_filters(claims, type_)), safe="", errors="replace")
    if kind == 7:
        return draw(_includes(claims, type_))
    return draw(_results(claims, type_))


@st.composite
def _chains(draw: DrawFn, claims: Claims, type_: str) -> str:
    """A chain, or `_has`, to a depth of six."""
    if draw(st.booleans()) or not claims.types[type_].get("searchRevInclude"):
        led = [each["name"] for each in claims.parameters[type_] if each["type"] == "reference"]
        first = draw(st.sampled_from(led)) if led else "subject"
        more = st.sampled_from(
            ("subject", "patient", "subject:Patient", "general-practitioner", "organization", "partof", "based-on")
        )
        return ".".join(
            (first, *draw(st.lists(more, max_size=5)), draw(st.sampled_from(("name", "_id", "identifier", "date", "x"))))
        )
    found, here = "", type_
    for _ in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(claims.types.get(here, {}).get("searchRevInclude") or claims.led))
        here, code = name.split(":")
        found += f"_has:{here}:{code}:"
    return found + draw(st.sampled_from(("_id", "status", "date", "code", "subject.name", "x", "")))


def _filters(claims: Claims, type_: str) -> SearchStrategy[str]:
    """Expressions of section 3.1.3, nested, and what only looks like one."""
    names = st.sampled_from(
        [each["name"] for each in claims.parameters[type_]]
        + ["subject.name", "_has:Observation:subject:code", "x", "patient[name eq x].birthdate"]
    )
    operators = st.sampled_from(
        ("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "ni", "re", "xx")
    )
    given = st.sampled_from(
        (
            '"One"',
            "2026-01-05",
            "5",
            "true",
            "http://loinc.org|1-8",
            "Patient/one",
            '"',
            '"\\"',
            "1e400",
            "",
            '"%\' OR 1=1 --"',
            '"' + "a" * 5000 + '"',
        )
    )
    one = st.builds("{} {} {}".format, names, operators, given)
    right = st.sampled_from(
        ("_id eq one", 'name co "One"', "birthdate ge 1960", "code eq http://loinc.org|1-8", "subject.name sw One")
    )
    words = st.lists(st.sampled_from((" and ", " or ", " and not (", " or (", ")")), max_size=4)
    nested = st.tuples(st.lists(one | right, min_size=5, max_size=5), words).map(_joined)
    hostile = st.sampled_from(
        (
            "(" * 5000,
            "not (" * 300 + "a eq b" + ")" * 300,
            "a eq b and " * 600 + "a eq b",
            "\x00",
            "a eq b; DROP TABLE resource",
            "[[[[",
            "a[" * 100,
        )
    )
    return nested | nested | nested | hostile


def _joined(given: tuple[list[str], list[str]]) -> str:
    """Expressions with these words between them, and the brackets that are left open closed."""
    ones, words = given
    text = ones[0]
    for word, one in zip(words, ones[1:], strict=False):
        text += word + ("" if word == ")" else one)
    return text + ")" * (text.count(" (") - text.count(")"))


@st.composite
def _includes(draw: DrawFn, claims: Claims, type_: str) -> str:
    """`_include` and `_revinclude`, in circles too."""
    way = draw(st.sampled_from(("_include", "_revinclude")))
    claimed = claims.types[type_].get("searchInclude" if way == "_include" else "searchRevInclude", ())
    circles = (
        "*",
        "Observation:has-member",
        "Organization:partof",
        "Observation:*",
        "Patient:link",
        "x",
        ":",
        "Observation:subject:Patient",
        "a:b:c:d",
        "",
    )
    return (
        way
        + draw(st.sampled_from(("", ":iterate", ":recurse", ":x")))
        + "="
        + quote(draw(st.sampled_from((*circles, *claimed[:20]))))
    )


@st.composite
def _results(draw: DrawFn, claims: Claims, type_: str) -> str:
    codes = [each["name"] for each in claims.parameters[type_]]
    given: dict[str, SearchStrategy[str]] = {
        "_count": st.sampled_from(("0", "1", "2", "1000", "1001", "-1", "9" * 40, "1.5", "x", "", "٣", "1e3")),
        "_sort": st.sampled_from(codes).map("-{}".format) | st.lists(st.sampled_from(codes), max_size=12).map(",".join) | st.sampled_from(("--_id", "subject.name", "-", "subject:x", "patient.name")),
        "_total": st.sampled_from(("none", "estimate", "accurate", "x")),
        "_summary": st.sampled_from(("true", "text", "data", "count", "false", "x")),
        "_elements": st.sampled_from(("id", "name,x", "Patient.name", "*", ",", "a" * 5000, "name.family")),
        "_format": st.sampled_from(("json", "xml", "application/fhir+json", "application/fhir xml", "html", "\x00", "json;fhirVersion=9")),
        "_pretty": st.sampled_from(("true", "false", "x")),
        "_type": st.sampled_from(("Patient", "Patient,Observation", "x", "Patient,,", "*", "AuditEvent", "Binary")),
        "_cursor": st.sampled_from(("AAAA", "", "x" * 5000, "\u0000", "=")),
        "_since": st.sampled_from(RIGHT["date"]), "_at": st.sampled_from(RIGHT["date"]),
        "_list": st.sampled_from(("one", "$current-problems", "x/y", "\x00")), "_contained": st.sampled_from(("true", "both", "false")),
        "_text": st.just("x"), "_content": st.just("x"), "_query": st.just("x"), "_containedType": st.just("x"),
    }  # fmt: skip
    name = draw(st.sampled_from(tuple(given)))
    return f"{name}={quote(draw(given[name]), safe='', errors='replace')}"


@st.composite
def searches(draw: DrawFn, claims: Claims) -> Asked:
    """A search or history of a type, of a compartment or of all, by GET or POST."""
    type_ = draw(claims.type_names)
    plain = st.sampled_from(
        (type_, type_, type_, "", f"Patient/one/{type_}", f"Encounter/one/{type_}", "Patient/one/*", f"{type_}/{type_}/{type_}")
    )
    history = st.sampled_from(
        (
            f"{type_}/_history",
            "_history",
            f"{type_}/one/_history",
            f"{type_}/one",
            f"{type_}/one/_history/1",
            f"{type_}/one/_history/{'9' * 40}",
        )
    )
    query = "&".join(draw(st.lists(pairs(claims, type_), max_size=4)))
    if draw(st.integers(0, 4)) == 0:
        path = draw(plain)
        return Asked(
            "POST", f"{path}/_search".lstrip("/"), query.encode(), {"Content-Type": FORM, **draw(headers(("Prefer", "Accept")))}
        )
    path = draw(plain | plain | history)
    return Asked(
        draw(st.sampled_from(("GET", "GET", "HEAD"))),
        f"{path}?{query}",
        None,
        draw(headers(("Prefer", "Accept", "If-None-Match"))),
    )


# --- headers

_QUERIES: Final = (
    "identifier=x",
    "_id=one",
    "?name=One",
    "",
    "x=y",
    "name=\xff",
    "name=%00",
    "name=One&_sort=name",
    "_has:Observation:subject:code=x",
    "a" * 5000,
)
HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "If-Match": ('W/"1"', '"1"', "1", "*", "", "W/", 'W/"', 'W/"-1"', f'W/"{"9" * 40}"', 'W/"a"', 'W/"1", W/"2"', "\xff", "'; --", 'W/"٣"'.encode().decode("latin-1")),
    "If-None-Match": ("*", 'W/"1"', "1", "", "W/", f'W/"{"9" * 40}"', "\xff", 'W/"1",,*'),
    "If-None-Exist": _QUERIES,
    "If-Modified-Since": ("Mon, 05 Jan 2026 09:30:00 GMT", "Mon, 99 Foo 2026 09:30:00 GMT", "0", "Fri, 31 Dec 9999 23:59:59 -2359", "Sat, 01 Jan 0001 00:00:00 +2359", "\xff", ""),
    "Prefer": ("return=minimal", "return=representation", "return=OperationOutcome", "return=x", "handling=lenient", "handling=strict", "respond-async", "=", ";;,,", "\xff", "a" * 5000),
    "Accept": (JSON, XML, "application/json", "*/*", "text/html,*/*;q=0.1", "text/csv", "application/fhir+json;q=0", "application/fhir+xml;q=nan", "application/*;q=1e400", ";", ",", "\xff", "*/*," * 999,
               "application/fhir+json;fhirVersion=5.0", "application/pdf", ""),
    "Content-Type": (JSON, XML, "application/json", "application/json;charset=utf-16", "text/plain", "", ";", "\xff", "application/fhir+json;fhirVersion=3.0", FORM, "multipart/form-data",
                     "application/json-patch+json", "application/xml-patch+xml", "application/fhir+json;;;=;charset"),
    "Content-Encoding": ("gzip", "br", "identity", "gzip, gzip", "\xff", ""),
    "Accept-Encoding": ("gzip", "identity;q=0", "*;q=0", "\xff"),
    "Range": ("bytes=0-1", "bytes=9-1", "bytes=-", "x"),
    "X-Security-Context": ("Patient/one", "Patient/nobody", "x", "\xff", "http://example.org/Patient/one", "Patient/one/_history/1"),
}  # fmt: skip


def headers(names: tuple[str, ...] = tuple(HEADERS)) -> SearchStrategy[dict[str, str]]:
    """At most two of these, most often none."""
    some = st.lists(st.sampled_from(names), max_size=2, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: st.sampled_from(HEADERS[name]) for name in chosen})
    )
    return st.just({}) | some
