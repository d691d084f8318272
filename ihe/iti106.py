"""Generate Metadata, ITI-106 (IHE MHD 4.2, section 2:3.106): a structured document to the DocumentReference that publishes it.

Of a FHIR document (a Bundle) what its Composition says, of a CDA document (a Binary) what its header says. `ihe.iti65.parse_document` reads the result.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from lxml.etree import _Element

from ihe import xml
from profiles.document import Code
from profiles.document_reference import concept
from profiles.received_document import Unreadable
from profiles.vocabulary import CONFIDENTIALITY_SYSTEM, URI_SYSTEM

Json = dict[str, Any]
DEFINITION: Final = "https://profiles.ihe.net/ITI/MHD/OperationDefinition/generate-metadata"
CDA_LIMIT: Final = 16 << 20
_HL7: Final = "urn:hl7-org:v3"

_CDA_TYPES: Final = frozenset(
    {"text/xml", "application/xml", "application/hl7-v3+xml", "application/hl7-cda+xml", "application/cda+xml"}
)
_TS: Final = re.compile(r"(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d)?(?:\.\d+)?)?([+-]\d{4})?", re.ASCII)
_GENDERS: Final = {"M": "male", "F": "female", "UN": "other"}


def document_reference(document: Json, *, serialized: bytes = b"") -> Json:
    """Section 2:3.106.4.1.3: the DocumentReference of a Bundle of type document, whose bytes are `serialized`, or of a Binary that is CDA.

    Raises `Unreadable` for what is neither.
    """
    if document.get("resourceType") == "Bundle" and document.get("type") == "document":
        return _of_bundle(document, serialized)
    if document.get("resourceType") == "Binary" and str(document.get("contentType", "")).partition(";")[0].strip() in _CDA_TYPES:
        return _of_cda(document)
    raise Unreadable(
        "document", "metadata are made here of FHIR documents (a Bundle of type document) and of CDA (a Binary with text/xml)"
    )


# --- FHIR documents


def _of_bundle(bundle: Json, serialized: bytes) -> Json:
    entries = [each for each in bundle.get("entry", ()) if "resource" in each]
    if not entries or entries[0]["resource"].get("resourceType") != "Composition":
        raise Unreadable("document.entry[0]", "the first entry of a document is its Composition (FHIR R4 section 3.3.1)")
    composition: Json = entries[0]["resource"]
    found = {str(each.get("fullUrl", "")): each["resource"] for each in entries}
    found |= {f"{each['resource'].get('resourceType')}/{each['resource'].get('id')}": each["resource"] for each in entries}
    made: Json = {
        "resourceType": "DocumentReference",
        "status": "current",
        "masterIdentifier": bundle.get("identifier", {}),
        "type": composition.get("type", {}),
        "category": composition.get("category", []),
        "date": composition.get("date", ""),
        "description": composition.get("title", ""),
        "securityLabel": [_confidentiality(composition["confidentiality"])] if "confidentiality" in composition else [],
        "content": [_content(serialized, "application/fhir+json", composition)],
    }
    made |= _named(composition, found)
    events = composition.get("event", ())
    context: Json = {
        "event": [code for each in events for code in each.get("code", ())],
        "period": next((each["period"] for each in events if "period" in each), {}),
    }
    made["context"] = {**context, "sourcePatientInfo": {"reference": "#patient"}}
    return _present(made)


def _named(composition: Json, found: Mapping[str, Json]) -> Json:
    """Subject, authors and who attested it, who are in the document."""
    patient = found.get(str(composition.get("subject", {}).get("reference", "")), {})
    identifiers = [each for each in patient.get("identifier", ()) if str(each.get("system", "")).startswith("urn:oid:")]
    contained: list[Json] = [{**patient, "resourceType": "Patient", "id": "patient"}]
    authors = [_contained(each, found, contained) for each in composition.get("author", ())]
    made: Json = {"contained": contained, "author": authors, "subject": {"identifier": identifiers[0]} if identifiers else {}}
    legal = next(
        (each["party"] for each in composition.get("attester", ()) if each.get("mode") == "legal" and "party" in each), None
    )
    return {**made, "authenticator": _contained(legal, found, contained)} if legal else made


def _contained(reference: Json, found: Mapping[str, Json], contained: list[Json]) -> Json:
    resource = found.get(str(reference.get("reference", "")))
    if resource is None:
        return {name: each for name, each in reference.items() if name != "reference"}
    made = {**resource, "id": f"who{len(contained)}"}
    contained.append(made)
    for name in ("practitioner", "organization"):
        if name in made:
            made[name] = _contained(made[name], found, contained)
    return {"reference": f"#{made['id']}"}


# --- CDA


def _of_cda(binary: Json) -> Json:
    try:
        data = base64.b64decode(str(binary.get("data", "")), validate=True)
        root = xml.parse(data, CDA_LIMIT)
    except (binascii.Error, ValueError, xml.XmlError):
        raise Unreadable("document.data", "the content of the Binary is not XML that is read here") from None
    if root.tag != f"{{{_HL7}}}ClinicalDocument":
        raise Unreadable("document.data", "the content of the Binary is not a CDA ClinicalDocument")
    patient = _one(root, "recordTarget/patientRole")
    language = _one(root, "languageCode")
    title = " ".join("".join(_text(root, "title")).split())
    at = _instant(_value(root, "effectiveTime"))
    attachment = {"language": language.get("code", "") if language is not None else "", "title": title, "creation": at}
    contained = [_patient_of(patient)]
    made: Json = {
        "resourceType": "DocumentReference",
        "status": "current",
        "masterIdentifier": _master(_one(root, "id")),
        "type": _concept(_one(root, "code")),
        "date": at if "T" in at else "",
        "description": title,
        "subject": next(({"identifier": each} for each in contained[0].get("identifier", ())), {}),
        "securityLabel": [_concept(_one(root, "confidentialityCode"))],
        "author": [_author(each, contained) for each in _all(root, "author/assignedAuthor")],
        "contained": contained,
        "content": [_content(data, "text/xml", attachment)],
        "context": _cda_context(root),
    }
    for signer in _all(root, "legalAuthenticator/assignedEntity")[:1]:
        made["authenticator"] = _author(signer, contained)
    return _present(made)


def _cda_context(root: _Element) -> Json:
    low, high = (_value(root, f"documentationOf/serviceEvent/effectiveTime/{each}") for each in ("low", "high"))
    period = _present({"start": _instant(low), "end": _instant(high)})
    facility = _one(root, "componentOf/encompassingEncounter/location/healthCareFacility/code")
    return _present({"period": period, "facilityType": _concept(facility), "sourcePatientInfo": {"reference": "#patient"}})


def _master(element: _Element | None) -> Json:
    root, extension = (element.get("root", ""), element.get("extension", "")) if element is not None else ("", "")
    return {"system": URI_SYSTEM, "value": f"urn:oid:{root}" + (f"^{extension}" if extension else "")} if root else {}


def _patient_of(role: _Element | None) -> Json:
    made: Json = {"resourceType": "Patient", "id": "patient"}
    if role is None:
        return made
    gender, born = _one(role, "patient/administrativeGenderCode"), _value(role, "patient/birthTime")
    return _present(
        {
            **made,
            "identifier": list(_identifiers(role)),
            "name": [_name(each) for each in _all(role, "patient/name")[:1]],
            "gender": _GENDERS.get(gender.get("code", ""), "") if gender is not None else "",
            "birthDate": f"{born[:4]}-{born[4:6]}-{born[6:8]}" if re.fullmatch(r"\d{8}.*", born) else "",
        }
    )


def _author(element: _Element, contained: list[Json]) -> Json:
    number = len(contained)
    organization = _one(element, "representedOrganization")
    person = _present(
        {
            "resourceType": "Practitioner",
            "id": f"who{number}",
            "identifier": list(_identifiers(element)),
            "name": [_name(each) for each in _all(element, "assignedPerson/name")[:1]],
        }
    )
    contained.append(person)
    if organization is None:
        return {"reference": f"#who{number}"}
    named = {"identifier": list(_identifiers(organization)), "name": "".join(_text(organization, "name")).strip()}
    contained.append(_present({"resourceType": "Organization", "id": f"of{number}", **named}))
    role = {"practitioner": {"reference": f"#who{number}"}, "organization": {"reference": f"#of{number}"}}
    contained.append({"resourceType": "PractitionerRole", "id": f"role{number}", **role})
    return {"reference": f"#role{number}"}


def _identifiers(element: _Element) -> Iterator[Json]:
    for each in _all(element, "id"):
        if each.get("root") and each.get("extension"):
            yield {"system": f"urn:oid:{each.get('root')}", "value": each.get("extension")}


def _name(element: _Element) -> Json:
    family, given = (
        "".join(_text(element, "family")).strip(),
        [part.strip() for part in _text(element, "given") if part.strip()],
    )
    return _present(
        {"family": family, "given": given, "text": "" if family else " ".join("".join(map(str, element.itertext())).split())}
    )


def _concept(element: _Element | None) -> Json:
    if element is None or not element.get("code"):
        return {}
    return concept(Code(element.get("code", ""), element.get("codeSystem", ""), element.get("displayName", "")))


def _instant(text: str) -> str:
    """FHIR dateTime of a TS: a time with its zone, or the day; without a zone nobody knows more."""
    found = _TS.fullmatch(text)
    if not found:
        return ""
    year, month, day, hour, minute, second, offset = found.groups()
    if not (hour and minute and offset):
        return "-".join(part for part in (year, month, day) if part)
    zone = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])) * (-1 if offset[0] == "-" else 1)
    try:
        when = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=timezone(zone))
        return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""


def _all(element: _Element, path: str) -> list[_Element]:
    return list(element.iterfind("/".join(f"{{{_HL7}}}{each}" for each in path.split("/"))))


def _one(element: _Element, path: str) -> _Element | None:
    return next(iter(_all(element, path)), None)


def _value(element: _Element, path: str) -> str:
    found = _one(element, path)
    return found.get("value", "") if found is not None else ""


def _text(element: _Element, path: str) -> list[str]:
    return ["".join(map(str, each.itertext())) for each in _all(element, path)]


# --- both


def _content(data: bytes, media_type: str, said: Json) -> Json:
    attachment = {
        "contentType": media_type,
        "language": said.get("language", ""),
        "data": base64.b64encode(data).decode("ascii"),
        "title": said.get("title", ""),
        "creation": said.get("creation") or said.get("date", ""),
    }
    return {"attachment": _present(attachment)}


def _confidentiality(code: str) -> Json:
    return {"coding": [{"system": CONFIDENTIALITY_SYSTEM, "code": code, "display": code}]}


def _present(made: Json) -> Json:
    """Without what is empty, as FHIR has it."""
    return {name: value for name, value in made.items() if value not in ("", [], {}, [{}])}
