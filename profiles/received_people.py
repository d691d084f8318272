"""People and organizations that FHIR names, as the HL7 v2 values of sharing metadata: XCN, XON, XTN, CX and PID (ITI TF-3 table 4.2.3.1.7-2).

The way back of `profiles.document_reference.author_reference`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from profiles.document import Author
from profiles.document_reference import scheme
from profiles.identifiers import hl7_escape, oid_of

Json = dict[str, Any]
Find = Callable[[str], Json | None]
"""The resource that a reference leads to, where it is known."""
_SEXES: Final = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
_USES: Final = {"home": "PRN", "work": "WPN", "mobile": "ORN"}
_INTERNET: Final = frozenset({"email"})


def author(reference: Mapping[str, Any], find: Find) -> Author:
    """ITI TF-3 section 4.2.3.1.4, author: of a Practitioner, a PractitionerRole, an Organization, a Patient, a device, or what only has a name."""
    found = find(str(reference.get("reference", "")))
    kind = str((found or reference).get("resourceType") or reference.get("type", ""))
    if found is None:
        named = (institution if kind == "Organization" else person)(_named(reference))
        return Author(institutions=(named,)) if kind == "Organization" and named else Author(named)
    telecoms = tuple(filter(None, map(_telecom, found.get("telecom", ()))))
    if kind == "Organization":
        return Author(institutions=(institution(found),), telecoms=telecoms)
    if kind != "PractitionerRole":
        return Author(person(found), telecoms=telecoms)
    who = author(found.get("practitioner", {}), find)
    where = author({"type": "Organization", **found.get("organization", {})}, find)
    return Author(
        who.person, where.institutions, tuple(map(_concept, found.get("code", ()))), tuple(map(_concept, found.get("specialty", ()))),
        telecoms or who.telecoms,
    )  # fmt: skip


def signer(reference: Mapping[str, Any], find: Find) -> str:
    """ITI TF-3 section 4.2.3.2.14, legalAuthenticator: XCN."""
    return author(reference, find).person


def person(resource: Mapping[str, Any]) -> str:
    """XCN of who has a name and identifiers."""
    id_, authority = _identified(resource)
    family, given = _name(resource)
    return f"{id_}^{family}^{given}^^^^^^{authority}".rstrip("^") if id_ or family or given else ""


def institution(resource: Mapping[str, Any]) -> str:
    """XON of an Organization."""
    name = resource.get("name", "")
    id_, authority = _identified(resource)
    if not isinstance(name, str):
        name = ""
    return f"{hl7_escape(name)}^^^^^{authority}^^^^{id_}".rstrip("^")


def patient_id(resource: Mapping[str, Any]) -> str:
    """CX of the first identifier that an OID's authority gave; empty where there is none."""
    id_, authority = _identified(resource)
    return f"{id_}^^^{authority}" if id_ and authority else ""


def patient_info(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """ITI TF-3 section 4.2.3.2.23, sourcePatientInfo: PID-3, PID-5, PID-7, PID-8 and PID-11, as far as they are said."""
    family, given = _name(resource)
    fields = {
        "PID-3": patient_id(resource),
        "PID-5": f"{family}^{given}^^^" if family or given else "",
        "PID-7": str(resource.get("birthDate", "")).replace("-", ""),
        "PID-8": _SEXES.get(str(resource.get("gender", "")), ""),
        "PID-11": next(map(_address, resource.get("address", ())), ""),
    }
    return tuple(f"{name}|{value}" for name, value in fields.items() if value)


def recipient(reference: Mapping[str, Any], find: Find) -> str:
    """ITI TF-3 section 4.2.3.3.7, intendedRecipient: `XON|XCN|XTN`; what was shown as a text alone (`profiles.document_list`) is that text."""
    text = str(reference.get("display", ""))
    if "reference" not in reference and "identifier" not in reference and "|" in text:
        return text
    found = author(reference, find)
    return "|".join(
        (*found.institutions[:1], *([""] if not found.institutions else []), found.person, *found.telecoms[:1])
    ).rstrip("|")


def _named(reference: Mapping[str, Any]) -> Json:
    """What a logical reference says: its identifier and its display."""
    made: Json = {"identifier": [reference["identifier"]]} if "identifier" in reference else {}
    text = str(reference.get("display", ""))
    if reference.get("type") == "Organization":
        return {**made, "name": text}
    given, _, family = text.rpartition(" ")
    return {**made, "name": [{"family": family, "given": [given] if given else []}]} if text else made


def _identified(resource: Mapping[str, Any]) -> tuple[str, str]:
    """The first identifier: its value, and who gave it as HD; the authority is empty where it is no OID."""
    given = resource.get("identifier", ())
    found = [each for each in ([given] if isinstance(given, dict) else given) if each.get("value")]
    named = [(hl7_escape(str(each["value"])), oid_of(str(each.get("system", "")))) for each in found]
    value, oid = next((each for each in named if each[1]), named[0] if named else ("", ""))
    return value if oid else oid_of(value) or value, f"&{oid}&ISO" if oid else ""


def _name(resource: Mapping[str, Any]) -> tuple[str, str]:
    names = resource.get("name") or resource.get("deviceName") or ()
    first = names[0] if isinstance(names, list) and names else {}
    text = str(first.get("text", "")) or (str(first["name"]) if "name" in first else "")
    family, given = str(first.get("family", "")), " ".join(map(str, first.get("given", ())))
    if not family and not given and text:
        given, _, family = text.rpartition(" ")
    return hl7_escape(family), hl7_escape(given)


def _telecom(point: Mapping[str, Any]) -> str:
    """XTN: `^^Internet^address` of an e-mail address, else the number as its twelfth component."""
    value, use = hl7_escape(str(point.get("value", ""))), _USES.get(str(point.get("use", "")), "")
    if not value:
        return ""
    if point.get("system") in _INTERNET:
        return f"^^Internet^{value}"
    return f"^{use}^PH^^^^^^^^^{value}"


def _concept(concept: Mapping[str, Any]) -> str:
    """A role or specialty: `code^^^&oid&ISO` where an OID has its codes, else its words."""
    for each in concept.get("coding", ()):
        code = hl7_escape(str(each.get("code", "")))
        oid = scheme(str(each.get("system", "")))
        if code:
            return f"{code}^^^&{oid}&ISO" if oid[:1].isdigit() else code
    return str(concept.get("text", ""))


def _address(address: Mapping[str, Any]) -> str:
    parts = (
        " ".join(map(str, address.get("line", ()))),
        "",
        *(str(address.get(name, "")) for name in ("city", "state", "postalCode", "country")),
    )
    return "^".join(map(hl7_escape, parts)).rstrip("^")
