"""DocumentReference and List as sharing metadata: the way back of `profiles.document_reference` and `profiles.document_list` (IHE MHD 4.2)."""

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal

from profiles import received_people as people
from profiles import timestamps
from profiles.document import APND, APPROVED, RPLC, SIGNS, XFRM, Code, DocumentEntry, Folder, SubmissionSet
from profiles.document_list import DESIGNATION_TYPE, INTENDED_RECIPIENT, LIST_TYPES, SOURCE_ID
from profiles.document_reference import scheme
from profiles.identifiers import hl7_escape, oid_of, uuid_oid
from profiles.received_people import Find
from profiles.vocabulary import (
    ACCESSION_IDENTIFIER_TYPE,
    DICOM_UID_SYSTEM,
    REFERENCE_ACCESSION,
    REFERENCE_STUDY_INSTANCE_UID,
    URI_SYSTEM,
)

Json = dict[str, Any]
_TYPES: Final = {"replaces": RPLC, "transforms": XFRM, "appends": APND, "signs": SIGNS}
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{40}")


class Unreadable(ValueError):
    """What has no place in sharing metadata. `path` is FHIRPath below the resource, such as `content[0].attachment.hash`."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path, self.why = path, why


def document_entry(resource: Json, *, id: str, patient_id: str, find: Find, is_limited: bool = False) -> DocumentEntry:
    """ITI TF-3 section 4.2.3.2: the Document Entry `id` of a DocumentReference whose subject has `patient_id`, a CX.

    `find` leads from references to resources that are not contained. What is not said is left empty; hash and size are as the sender says.
    Raises `Unreadable`.
    """
    find = contained(resource, find)
    content = _content(resource)
    attachment, context = content.get("attachment", {}), resource.get("context", {})
    source = _source_patient(context, find)
    title, comments = str(attachment.get("title", "")), str(resource.get("description", ""))
    period = context.get("period", {})
    return DocumentEntry(
        id,
        unique_id(resource.get("masterIdentifier", {})),
        patient_id,
        source_patient_id=people.patient_id(source),
        class_code=_first(resource.get("category", ())),
        type_code=_code_of(resource.get("type", {})),
        format_code=_coded(content.get("format", {})),
        confidentiality=_codes(resource.get("securityLabel", ())),
        facility_type=_code_of(context.get("facilityType", {})),
        practice_setting=_code_of(context.get("practiceSetting", {})),
        mime_type=str(attachment.get("contentType", "")),
        language=str(attachment.get("language", "")),
        creation_time=_time(attachment.get("creation") or resource.get("date", ""), "content[0].attachment.creation"),
        hash=_sha1(str(attachment.get("hash", ""))),
        size=attachment.get("size"),
        title=title,
        service_start=_time(period.get("start", ""), "context.period.start"),
        service_stop=_time(period.get("end", ""), "context.period.end"),
        event_codes=_codes(context.get("event", ())),
        reference_ids=tuple(filter(None, (_reference_id(each, find) for each in context.get("related", ())))),
        source_patient_info=people.patient_info(source),
        authors=tuple(people.author(each, find) for each in resource.get("author", ())),
        comments="" if comments == title else comments,
        legal_authenticator=people.signer(resource.get("authenticator", {}), find),
        is_limited=is_limited,
    )


def relations(resource: Json) -> list[tuple[str, str]]:
    """ITI TF-3 section 4.2.2.2: types of Associations with the reference that each leads to. Raises `Unreadable`."""
    found = []
    for number, each in enumerate(resource.get("relatesTo", ())):
        target = each.get("target", {}).get("reference", "")
        if not target:
            raise Unreadable(
                f"relatesTo[{number}].target", "an Association leads to a document by a reference, such as DocumentReference/7"
            )
        found.append((_TYPES[each["code"]], target))
    return found


def list_kind(resource: Mapping[str, Any]) -> Literal["submissionset", "folder", ""]:
    """What a List is in sharing metadata."""
    for each in resource.get("code", {}).get("coding", ()):
        if each.get("system") == LIST_TYPES and each.get("code") in ("submissionset", "folder"):
            return each["code"]  # type: ignore[no-any-return]
    return ""


def submission_set(resource: Json, *, id: str, patient_id: str, find: Find, is_limited: bool = False) -> SubmissionSet:
    """ITI TF-3 section 4.2.3.3: the Submission Set of a List. Raises `Unreadable`."""
    find = contained(resource, find)
    source: Json = next((each.get("valueIdentifier", {}) for each in _extensions(resource, SOURCE_ID)), {})
    return SubmissionSet(
        id,
        _usual(resource),
        patient_id,
        unique_id(source),
        _time(resource.get("date", ""), "date"),
        content_type=_first([each.get("valueCodeableConcept", {}) for each in _extensions(resource, DESIGNATION_TYPE)]),
        title=str(resource.get("title", "")),
        authors=tuple(people.author(each, find) for each in filter(None, [resource.get("source")])),
        comments=_notes(resource),
        intended_recipients=tuple(
            people.recipient(each.get("valueReference", {}), find) for each in _extensions(resource, INTENDED_RECIPIENT)
        ),
        is_limited=is_limited,
    )


def folder(resource: Json, *, id: str, patient_id: str, is_limited: bool = False) -> Folder:
    """ITI TF-3 section 4.2.3.4: the Folder of a List."""
    return Folder(
        id,
        _usual(resource),
        patient_id,
        codes=_codes([each.get("valueCodeableConcept", {}) for each in _extensions(resource, DESIGNATION_TYPE)]),
        title=str(resource.get("title", "")),
        comments=_notes(resource),
        status=APPROVED,
        is_limited=is_limited,
    )


def contained(resource: Json, find: Find) -> Find:
    """`find`, and what the resource contains."""
    inside = {f"#{each.get('id')}": each for each in resource.get("contained", ())}
    return lambda text: inside.get(text) if text.startswith("#") else find(text)


def official(resource: Json) -> str:
    """The entryUUID that the sender gave (`use` official, a UUID); empty where there is none."""
    for each in resource.get("identifier", ()):
        if each.get("use") == "official" and each.get("system") == URI_SYSTEM and str(each.get("value")).startswith("urn:uuid:"):
            return str(each["value"])
    return ""


def unique_id(identifier: Mapping[str, Any]) -> str:
    """A uniqueId: of `urn:oid:` the OID, of `urn:uuid:` the OID of that UUID, of an OID's own identifiers `oid^value`."""
    value, system = str(identifier.get("value", "")), str(identifier.get("system", ""))
    if value.startswith("urn:oid:"):
        return value.removeprefix("urn:oid:")
    if value.startswith("urn:uuid:"):
        try:
            return uuid_oid(uuid.UUID(value))
        except ValueError:
            return value
    oid = oid_of(system)
    return f"{oid}^{value}" if oid and value else value


def _usual(resource: Json) -> str:
    """The uniqueId of a List: the identifier whose use is usual, or the first that is none of use official."""
    rest = [each for each in resource.get("identifier", ()) if each.get("use") not in ("official", "secondary")]
    return unique_id(next((each for each in rest if each.get("use") == "usual"), rest[0] if rest else {}))


def _content(resource: Json) -> Json:
    contents = resource.get("content", [])
    if len(contents) != 1:
        why = "a Document Entry is of one document: send one content, and others as DocumentReferences of their own"
        raise Unreadable("content", why)
    found: Json = contents[0]
    return found


def _extensions(resource: Json, url: str) -> list[Json]:
    return [each for each in resource.get("extension", ()) if each.get("url") == url]


def _notes(resource: Json) -> str:
    return "\n".join(str(each.get("text", "")) for each in resource.get("note", ()))


def _source_patient(context: Json, find: Find) -> Json:
    given = context.get("sourcePatientInfo", {})
    found = find(str(given.get("reference", "")))
    return found or ({"identifier": [given["identifier"]]} if "identifier" in given else {})


def _reference_id(related: Json, find: Find) -> str:
    """ITI TF-3 section 4.2.3.2.28: CXi of what has an identifier; a reference alone names nothing outside of this server."""
    found = find(str(related.get("reference", ""))) or {}
    identifier: Json = related.get("identifier") or next(iter(found.get("identifier", ())), {})
    value, system = str(identifier.get("value", "")), str(identifier.get("system", ""))
    if system == DICOM_UID_SYSTEM and (uid := oid_of(value)):
        return f"{uid}^^^^{REFERENCE_STUDY_INSTANCE_UID}"
    codings = identifier.get("type", {}).get("coding", ())
    kind = next((str(each.get("code", "")) for each in codings), "")
    kind = REFERENCE_ACCESSION if kind == ACCESSION_IDENTIFIER_TYPE else kind
    oid = oid_of(system)
    return f"{hl7_escape(value)}^^^{f'&{oid}&ISO' if oid else ''}^{kind}".rstrip("^") if value else ""


def _codes(concepts: Any) -> tuple[Code, ...]:
    return tuple(filter(None, map(_code_of, concepts)))


def _first(concepts: Any) -> Code | None:
    return next(iter(_codes(concepts)), None)


def _code_of(concept: Json) -> Code | None:
    found = next((each for each in concept.get("coding", ()) if each.get("code")), None)
    return _coded({"display": concept.get("text"), **found}) if found else None


def _coded(coding: Json) -> Code | None:
    if not coding.get("code"):
        return None
    return Code(str(coding["code"]), scheme(str(coding.get("system", ""))), str(coding.get("display") or coding["code"]))


def _time(text: str, path: str) -> str:
    if not text:
        return ""
    found = timestamps.dtm_of_fhir(text)
    if found is None:
        raise Unreadable(path, "a time needs its zone, and a day that there is")
    return found


def _sha1(text: str) -> str:
    """base64 of 20 bytes; some write base64 of 40 hex digits."""
    if not text:
        return ""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if _HEX.fullmatch(found):
        return found.decode("ascii").lower()
    if len(found) != 20:
        raise Unreadable("content[0].attachment.hash", "the hash is the SHA-1 of the document, base64 of its 20 bytes")
    return found.hex()
