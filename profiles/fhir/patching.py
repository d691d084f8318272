"""The patch interaction (FHIR R4 section 3.1.0.6): one resource, one patch of any kind that the standard knows, the resource that comes of it."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from profiles.fhir import fhirpath_patch, json_patch, xml_patch
from profiles.fhir.issues import Issue
from profiles.fhir.json import Malformed, parse
from profiles.fhir.patch_error import PatchError, inapplicable, malformed
from profiles.fhir.plain_json import copied
from profiles.fhir.xml import from_xml
from profiles.fhir.xml_reading import parsed

__all__ = ["MEDIA_TYPES", "PatchError", "asks", "patched", "patched_by_parameters"]

Json = dict[str, Any]
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(\[[0-9]+\])?(\.[A-Za-z][A-Za-z0-9]*(\[[0-9]+\])?)*", re.ASCII)
"""A path of FHIRPath that says where, and nothing of what is there."""
_FRAME: Final = b'{"operations":'
_GENERATED: Final = ("generated", "extensions")


def patched(resource: Json, body: bytes, media_type: str) -> Json:
    """FHIR R4 section 3.1.0.6: what a patch makes of `resource`, which stays as it is. The result is not yet checked as a resource: it is an update.

    `media_type` says what `body` is: JSON Patch, XML Patch, or a FHIRPath Patch in JSON or XML; parameters such as `charset` are passed over. A narrative
    that was generated from what the patch changes is taken out, as the standard proposes, for it would say what is no longer so.
    Raises `PatchError` with its status: 415 for another media type, 400 for a malformed patch, 422 for one that can't be applied here, whose test fails, or
    that changes what a patch may not (`resourceType`, `id`, `meta.versionId`).
    """
    carry_out = MEDIA_TYPES.get(media_type.partition(";")[0].strip().lower())
    if carry_out is None:
        why = f"a patch is of one of the media types {', '.join(MEDIA_TYPES)}"
        raise PatchError(Issue("error", "not-supported", "", why), 415)
    return _finished(resource, carry_out(copied(resource), body))


def patched_by_parameters(resource: Json, parameters: Json) -> Json:
    """Section 3.1.0.11.1: as `patched`, by the Parameters resource of a Bundle's entry, which is parsed already."""
    return _finished(resource, _by_parameters(copied(resource), parameters))


def asks(given: tuple[bytes, str] | Json) -> bool:
    """Whether a patch, a body with its media type or Parameters, is carried out only where elements have values that it names.

    Such are JSON Patch's `test`, XML Patch's conditions, and of FHIRPath all but names and indexes. False for what is no patch.
    """
    try:
        return any(_asking(given))
    except (PatchError, Malformed):
        return False


def _asking(given: tuple[bytes, str] | Json) -> Iterator[bool]:
    if isinstance(given, tuple):
        body, kind = given[0], given[1].partition(";")[0].strip().lower()
        if kind == "application/json-patch+json":
            yield from (isinstance(each, dict) and each.get("op") == "test" for each in _operations(body))
            return
        if kind == "application/xml-patch+xml":
            yield from ("=" in (each.get("sel") or "") for each in parsed(body))
            return
        given = from_xml(body) if kind == "application/fhir+xml" else parse(body)
    for operation in _objects(given.get("parameter")):
        for part in _objects(operation.get("part")):
            yield part.get("name") == "path" and not _PLAIN.fullmatch(str(part.get("valueString")))


def _objects(value: object) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _finished(before: Json, made: Any) -> Json:
    _check_identity(before, made)
    return _with_true_narrative(before, made)


def _json_patch(resource: Json, body: bytes) -> Any:
    return _tidied(json_patch.apply(resource, _operations(body)))


def _operations(body: bytes) -> list[Any]:
    body = body.removeprefix(b"\xef\xbb\xbf")
    if not body.lstrip().startswith(b"["):
        raise malformed("a JSON Patch is an array of operations (RFC 6902 section 3)")
    try:
        framed = parse(_FRAME + body + b"}")
    except Malformed as problem:
        text = re.sub(r"(?<=line 1, column )\d+", lambda match: str(int(match[0]) - len(_FRAME)), str(problem))
        raise malformed(text) from None
    if framed.keys() != {"operations"}:
        raise malformed("a JSON Patch is an array of operations, and nothing else (RFC 6902 section 3)")
    found: list[Any] = framed["operations"]
    return found


def _fhirpath_patch(read: Callable[[bytes], Json]) -> Callable[[Json, bytes], Any]:
    def carry_out(resource: Json, body: bytes) -> Any:
        try:
            parameters = read(body)
        except Malformed as problem:
            raise PatchError(problem.issue, 400) from None
        return _by_parameters(resource, parameters)

    return carry_out


def _by_parameters(resource: Json, parameters: Json) -> Json:
    if parameters.get("resourceType") != "Parameters":
        raise malformed("a patch in FHIR's own format is a Parameters resource (fhirpatch.html)")
    return fhirpath_patch.apply(resource, parameters)


MEDIA_TYPES: Final[dict[str, Callable[[Json, bytes], Any]]] = {
    "application/json-patch+json": _json_patch,
    "application/xml-patch+xml": xml_patch.apply,
    "application/fhir+json": _fhirpath_patch(parse),
    "application/fhir+xml": _fhirpath_patch(from_xml),
}


def _tidied(value: Any) -> Any:
    """FHIR R4 section 2.6.2.1 of json.html: nothing is empty. What an operation emptied goes, but an array keeps the places of its other elements."""
    if isinstance(value, dict):
        kept = {name: _tidied(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in ({}, [])}
    if isinstance(value, list):
        each = [_tidied(one) for one in value]
        filled = [one for one in each if one not in ({}, [])]
        # Arrays with null belong to others, place by place
        return filled if None not in each else each
    return value


def _check_identity(before: Json, after: Any) -> None:
    if not isinstance(after, dict):
        raise inapplicable("the result is no resource")
    name = str(before.get("resourceType", ""))
    for path, old, new in (
        ("resourceType", before.get("resourceType"), after.get("resourceType")),
        ("id", before.get("id"), after.get("id")),
        ("meta.versionId", _version(before), _version(after)),
    ):
        if old != new:
            raise inapplicable(f"{path} can't be changed by a patch", f"{name}.{path}", "business-rule")


def _version(resource: Json) -> Any:
    meta = resource.get("meta")
    return meta.get("versionId") if isinstance(meta, dict) else None


def _with_true_narrative(before: Json, after: Json) -> Json:
    """Section 3.1.0.6: a server shall ensure that the narrative is not clinically unsafe after a patch."""
    narrative = after.get("text")
    if not isinstance(narrative, dict) or narrative != before.get("text") or _content(before) == _content(after):
        return after
    if narrative.get("status") == "additional":
        why = "the narrative says more than the elements: patch text too, so that it stays true"
        raise inapplicable(why, f"{before['resourceType']}.text", "business-rule")
    if narrative.get("status") in _GENERATED:
        del after["text"]
    return after


def _content(resource: Json) -> Json:
    return {name: value for name, value in resource.items() if name not in ("text", "meta")}
