"""Requests that write to a FHIR server, made of what its CapabilityStatement claims: bodies right, wrong and wounded, patches, operations, Bundles."""

import contextlib
import gzip
import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from peers.fhir_requests import HOSTILE, JSON, RIGHT, XML, Asked, Claims, Json, headers, pairs, searches
from peers.resources import WRONG, places, resources

from profiles.fhir.json import serialize
from profiles.fhir.xml import to_xml

# --- bodies

_DEEP: Final = 10_000
HOSTILE_BODIES: Final = (
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe{", b"\x00", b"[" * _DEEP, b'{"a":' * _DEEP, b'{"resourceType":"Patient","contact":[' * 2000,
    b'{"resourceType":"Patient","active":true,"active":false}', b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}', b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}',
    b'{"resourceType":"Observation","valueInteger":' + b"9" * 400 + b"}", b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1e999999999}}',
    b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1e308,"system":"http://unitsofmeasure.org","code":"Ym"}}',
    b'{"resourceType":"Patient","birthDate":"0000"}', b'{"resourceType":["Patient"]}', b'{"resourceType":{}}', b'{"resourceType":"__proto__"}', b'{"resourceType":"Element"}', b'{"resourceType":"DomainResource"}',
    b'{"resourceType":"Patient","id":1}', b'{"resourceType":"Patient","id":"../x"}', b'{"resourceType":"Patient","meta":[]}', b'{"resourceType":"Patient","meta":{"versionId":"x","lastUpdated":"y"}}',
    b'{"resourceType":"Patient","contained":[{"resourceType":"Patient","id":"a","contained":[]}]}', b'{"resourceType":"Patient","managingOrganization":{"reference":"#nothing"}}',
    b'<Patient xmlns="http://hl7.org/fhir">', b"<a>" * _DEEP, b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/><active value="false"/></Patient>',
    b'<!DOCTYPE p [<!ENTITY e SYSTEM "file:///etc/passwd">]><Patient xmlns="http://hl7.org/fhir"><name><text value="&e;"/></name></Patient>',
    b'<?xml version="1.0" encoding="nothing"?><Patient xmlns="http://hl7.org/fhir"/>', b'<Patient xmlns="http://hl7.org/fhir"><name><family value="&#0;"/></name></Patient>',
    b'<Patient xmlns="http://hl7.org/fhir"><contained><contained/></contained></Patient>', b'<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry/></Bundle>',
)  # fmt: skip
ODD: Final[tuple[Any, ...]] = (
    None,
    {},
    [],
    [[]],
    [None],
    "",
    " ",
    0,
    -1,
    2**63,
    True,
    1.5,
    "x",
    {"x": 1},
    "a\x00",
    ["x"],
    [{}],
    {"resourceType": "Patient"},
    {"reference": "Patient/nobody"},
    {"reference": "x" * 5000},
)


@st.composite
def _made(draw: DrawFn, type_: str, id_: str = "") -> Json:
    """A resource, mostly with this id, every other one with something wrong in it."""
    made = draw(resources(type_))
    if id_ or draw(st.booleans()):
        made["id"] = draw(st.sampled_from((id_ or "two",) * 8 + ("one", "x" * 64)))
    if draw(st.booleans()):
        return made
    found = list(places(made))
    for place in draw(st.lists(st.sampled_from(found), max_size=2)) if found else ():
        wrong = [
            each
            for each in WRONG.get(place.type, [])
            if not (isinstance(each, float) or (isinstance(each, str) and len(each) > 10_000))
        ]
        place.holder[place.name] = draw(st.sampled_from([*wrong, *ODD]))
    if draw(st.integers(0, 9)) == 0:
        made[draw(st.sampled_from(("nonsense", "_id", "resourceType", "meta", "text", "contained", "extension", "")))] = draw(
            st.sampled_from(ODD)
        )
    return made


def _written(resource: Json) -> bytes:
    return json.dumps(resource, default=float).encode(errors="surrogatepass")


@st.composite
def _sent(draw: DrawFn, resource: Json) -> tuple[bytes, str]:
    """A body and its media type: whole, or wounded."""
    body, media_type = _written(resource), JSON
    if draw(st.integers(0, 3)) == 0:
        with contextlib.suppress(Exception):  # what can't be written in XML stays in JSON
            body, media_type = to_xml(serialize(resource)), XML
    kind = draw(st.integers(0, 14))
    if kind == 0:
        return body[: draw(st.integers(0, len(body)))], media_type
    if kind == 1:
        place, byte = draw(st.integers(0, len(body))), draw(st.binary(max_size=2))
        return body[:place] + byte + body[place + 1 :], media_type
    if kind == 2:
        found = draw(st.sampled_from(HOSTILE_BODIES))
        return found, XML if found[:1] == b"<" else JSON
    return body, media_type


@st.composite
def writes(draw: DrawFn, claims: Claims) -> Asked:
    """Create, update, patch and delete, conditional and not, by any method with any body."""
    type_, id_ = draw(claims.type_names), draw(st.sampled_from(("one", "two")))
    method = draw(st.sampled_from(("POST", "POST", "PUT", "PUT", "PUT", "PATCH", "PATCH", "DELETE", "OPTIONS", "TRACE", "GET")))
    query = draw(st.sampled_from(("_id=one", "_id=two", "identifier=x", "name=One")) | pairs(claims, type_))
    usual = type_ if method == "POST" else f"{type_}/{id_}"
    odd = ("", f"{type_}/one?{query}", f"{type_}/{'x' * 65}", f"{type_}/%00", f"{type_}/one/_history/1", "Nothing/one", type_)
    path = draw(st.sampled_from((usual,) * 6 + (f"{type_}?{query}",) * 2) | st.sampled_from((usual, *odd)))
    if method == "PATCH":
        body, media_type = draw(_patches(type_))
    else:
        body, media_type = draw(_sent(draw(_made(type_, id_ if method == "PUT" else ""))))
    more = draw(headers())
    if more.get("Content-Encoding") == "gzip" and draw(st.booleans()):
        body = gzip.compress(body)
    return Asked(
        method, path, None if method in ("DELETE", "GET") and draw(st.booleans()) else body, {"Content-Type": media_type, **more}
    )


def _part(name: str, value: Json) -> Json:
    return {"name": name, **value}


@st.composite
def _patches(draw: DrawFn, type_: str) -> tuple[bytes, str]:
    kind = draw(st.integers(0, 3))
    odd = st.sampled_from(ODD)
    if kind == 0:
        paths = st.sampled_from(
            (
                "/active",
                "/name/0/family",
                "/name/-",
                "",
                "/",
                "/id",
                "/meta/versionId",
                "/resourceType",
                "/x/y/z",
                "/~2",
                "/name/99999999999999999999",
                "/name/-1",
                "/name/٣",
                1,
            )
        )
        one = st.fixed_dictionaries(
            {"op": st.sampled_from(("add", "remove", "replace", "move", "copy", "test", "x", 1))},
            optional={"path": paths, "from": paths, "value": odd},
        )
        return _written(draw(st.lists(one, max_size=4) | odd)), "application/json-patch+json"  # type: ignore[arg-type]
    if kind == 1:
        selector = draw(
            st.sampled_from(
                (
                    "f:Patient/f:active",
                    "/*",
                    "//*",
                    "f:Patient/f:name[1]/@id",
                    "f:Patient/f:name[99999999999999999999]",
                    "](",
                    "f:Patient" + "/*" * 3000,
                    "id(1)",
                    "",
                    "@",
                )
            )
        )
        name = draw(st.sampled_from(("add", "replace", "remove", "x")))
        return (
            f'<diff xmlns:f="http://hl7.org/fhir"><{name} sel="{selector}" pos="x"><active xmlns="http://hl7.org/fhir" value="true"/></{name}></diff>'.encode(),
            "application/xml-patch+xml",
        )
    if kind == 2:
        parts = [
            _part("type", {"valueCode": draw(st.sampled_from(("add", "insert", "delete", "replace", "move", "x")))}),
            _part("path", {"valueString": draw(st.sampled_from((type_, f"{type_}.name", f"{type_}.name[0]", "1/0", "'x'.matches('(a+)+$')", "%x", "((((", f"{type_}.id", "Patient.descendants()", "repeat(1)", "99999999999999999999.toString()")))}),
            _part("name", {"valueString": draw(st.sampled_from(("active", "family", "id", "x", "")))}),
            _part("value", draw(st.sampled_from(({"valueBoolean": True}, {"valueString": "x"}, {"part": [{"name": "family", "valueString": "x"}]}, {"valueHumanName": {"family": "a\x00"}}, {"resource": {}}, {})))),
            _part("index", {"valueInteger": draw(st.sampled_from((0, -1, 2**63, "1")))}),
        ]  # fmt: skip
        return _written(
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "operation", "part": draw(st.lists(st.sampled_from(parts), max_size=5, unique_by=str))}],
            }
        ), JSON
    return draw(_sent(draw(_made(type_))))


# --- operations and Bundles


@st.composite
def operations(draw: DrawFn, claims: Claims) -> Asked:
    """Operations with Parameters of any shape."""
    type_, name = draw(
        st.sampled_from(
            [each for each in claims.operations if each[0] in ("Patient", "Encounter", "Observation", "DocumentReference")]
        )
        | st.sampled_from(claims.operations)
        | st.tuples(claims.type_names, st.sampled_from([each for _, each in claims.operations] + ["x", "", "$"]))
    )
    names = st.sampled_from(
        (
            "resource",
            "meta",
            "mode",
            "profile",
            "start",
            "end",
            "_since",
            "_type",
            "_count",
            "patient",
            "period",
            "on-demand",
            "type",
            "_cursor",
            "x",
            "",
            "\x00",
        )
    )
    path = draw(
        st.sampled_from((f"{type_}/one/${name}",) * 4 + (f"{type_}/${name}",) * 3 + (f"{type_}/nobody/${name}", f"${name}"))
    )
    text = st.sampled_from(
        (
            *HOSTILE,
            *RIGHT["date"],
            "create",
            "update",
            "delete",
            "profile",
            "Patient/one",
            "one",
            "Patient,Observation",
            "http://hl7.org/fhir/StructureDefinition/Patient",
        )
    )
    if draw(st.integers(0, 2)) == 0:
        called = draw(st.lists(st.tuples(names, text), max_size=3))
        return Asked(
            draw(st.sampled_from(("GET", "GET", "DELETE", "PUT"))),
            f"{path}?{urlencode(called, errors='replace')}",
            None,
            draw(headers(("Accept", "Prefer"))),
        )
    one = st.builds(
        lambda name, value: {"name": name, **value}, names,
        st.builds(lambda kind, value: {kind: value}, st.sampled_from(("valueString", "valueCode", "valueMeta", "valueInteger", "valueDate", "valueX", "value", "part", "resource")), text | st.sampled_from(ODD)) | st.just({})
        | _made(type_).map(lambda made: {"resource": made})
        | st.sampled_from(({"valueMeta": {"tag": [{"code": "x"}]}}, {"valueMeta": {"tag": "x"}}, {"valueMeta": {"tag": [None]}}, {"valueMeta": {"tag": [{"system": 1}]}}, {"valueMeta": {"profile": ["x", 1]}}, {"valueMeta": {"security": {}}})),
    )  # fmt: skip
    given = draw(st.lists(one, max_size=4) | st.sampled_from(ODD))
    resource = draw(_made(type_)) if draw(st.integers(0, 3)) == 0 else {"resourceType": "Parameters", "parameter": given}
    body, media_type = draw(_sent(resource))
    return Asked("POST", path, body, {"Content-Type": media_type, **draw(headers())})


@st.composite
def bundles(draw: DrawFn, claims: Claims) -> Asked:
    """Batches and transactions of all the others."""
    entries = [draw(_entries(claims, place)) for place in range(draw(st.integers(0, 4)))]
    bundle: Json = {
        "resourceType": "Bundle",
        "type": draw(st.sampled_from(("transaction",) * 4 + ("batch",) * 10 + ("collection", "x", 1))),
        "entry": entries,
    }
    if draw(st.integers(0, 19)) == 0:
        bundle["entry"] = draw(st.sampled_from(ODD))
    body, media_type = draw(_sent(bundle))
    return Asked("POST", "", body, {"Content-Type": media_type, **draw(headers(("Prefer", "Accept", "Content-Encoding")))})


@st.composite
def _entries(draw: DrawFn, claims: Claims, place: int) -> Any:
    kinds: tuple[Callable[[Claims], SearchStrategy[Asked]], ...] = (searches, writes, operations)
    asked = draw(st.sampled_from(kinds).flatmap(lambda kind: kind(claims)))
    request: Json = {"method": asked.method, "url": asked.path}
    for header, name in (
        ("If-Match", "ifMatch"),
        ("If-None-Match", "ifNoneMatch"),
        ("If-None-Exist", "ifNoneExist"),
        ("If-Modified-Since", "ifModifiedSince"),
    ):
        if header in asked.headers:
            request[name] = asked.headers[header]
    entry: Json = {"request": request}
    if asked.method in ("POST", "PUT", "PATCH") or draw(st.integers(0, 9)) == 0:
        type_, _, id_ = asked.path.partition("?")[0].partition("/")
        made = draw(_made(type_ if type_ in claims.types else "Patient", id_ if id_ in ("one", "two") else ""))
        if draw(st.integers(0, 2)) == 0:
            made["subject"] = {
                "reference": draw(
                    st.sampled_from(
                        (
                            "urn:uuid:00000000-0000-4000-8000-000000000000",
                            "urn:uuid:00000000-0000-4000-8000-000000000001",
                            "Patient?name=One",
                            "Patient?x=y",
                            "Patient/nobody",
                        )
                    )
                )
            }
        entry["resource"] = made
    if draw(st.booleans()):
        entry["fullUrl"] = draw(
            st.sampled_from(
                (
                    f"urn:uuid:00000000-0000-4000-8000-00000000000{place}",
                    "urn:uuid:00000000-0000-4000-8000-000000000000",
                    "x",
                    "",
                    1,
                )
            )
        )
    if draw(st.integers(0, 14)) == 0:
        request[draw(st.sampled_from(("method", "url", "ifMatch", "ifNoneExist")))] = draw(st.sampled_from(ODD))
    if draw(st.integers(0, 29)) == 0:
        return draw(st.sampled_from(ODD))
    return entry
