"""Authors and source patients of a Document Entry as resources that its DocumentReference contains (IHE MHD 4.2): the way there of `received_people`."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from profiles.document import Author
from profiles.identifiers import InvalidIdentifier, PatientIdentifier

Json = dict[str, Any]
_CODED: Final = re.compile(r"([^\^&\\]+)\^\^\^&([0-9.]+)&ISO", re.ASCII)
_SEXES: Final = {"M": "male", "F": "female", "O": "other", "U": "unknown"}
_USES: Final = {"PRN": "home", "WPN": "work", "ORN": "mobile"}
_ESCAPES: Final = {"\\E\\": "\\", "\\F\\": "|", "\\S\\": "^", "\\T\\": "&", "\\R\\": "~"}
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)


def contained_author(author: Author, id: str, system: Callable[[str], str]) -> list[Json]:
    """ITI TF-3 section 4.2.3.1.4, author: the resource `id`, then what it leads to; empty where a Reference alone says it all.

    A Practitioner with telecoms, an Organization with telecoms, or a PractitionerRole. It has a place for one institution: the first. `system` gives the code system of an OID.
    """
    who, where = _practitioner(author.person), _organization(next(iter(author.institutions), ""))
    telecoms = [point for text in author.telecoms if (point := _point(text))]
    is_role = bool(author.roles or author.specialties or (who and where) or not (who or where))
    if not is_role:
        return [{**(who or where), "id": id, "telecom": telecoms}] if telecoms else []
    role: Json = {"resourceType": "PractitionerRole", "id": id}
    parts = []
    for name, part in (("practitioner", who), ("organization", where)):
        if part:
            role[name] = {"reference": f"#{id}-{name}"}
            parts.append({**part, "id": f"{id}-{name}"})
    said = {
        "code": [_concept(each, system) for each in author.roles],
        "specialty": [_concept(each, system) for each in author.specialties],
        "telecom": telecoms,
    }
    role |= {name: values for name, values in said.items() if values}
    return [role, *parts] if len(role) > 2 else []


def contained_patient(source_id: str, info: Sequence[str], id: str) -> Json | None:
    """ITI TF-3 section 4.2.3.2.23, sourcePatientInfo: the Patient `id`; None where it says no more than the source's id."""
    fields = dict(each.partition("|")[::2] for each in reversed(info))
    patient = _demographics(fields)
    if not patient:
        return None
    made: Json = {"resourceType": "Patient", "id": id}
    with suppress(InvalidIdentifier):  # somebody else's entry: what is no CX is left out
        made["identifier"] = [dict(PatientIdentifier.from_cx(source_id or fields.get("PID-3", "")).fhir())]
    return made | patient


def _demographics(fields: Mapping[str, str]) -> Json:
    family, given, *_ = [*map(_text, fields.get("PID-5", "").split("^")), "", ""]
    made: Json = {}
    if name := _name(family, given):
        made["name"] = [name]
    if sex := _SEXES.get(fields.get("PID-8", "")):
        made["gender"] = sex
    if born := re.match(r"([0-9]{4})([0-9]{2})?([0-9]{2})?", fields.get("PID-7", ""), re.ASCII):
        made["birthDate"] = "-".join(filter(None, born.groups()))
    line, _, city, state, code, country, *_ = [*map(_text, fields.get("PID-11", "").split("^")), *[""] * 6]
    address: Json = {"line": [line] if line else [], "city": city, "state": state, "postalCode": code, "country": country}
    if said := {name: value for name, value in address.items() if value}:
        made["address"] = [said]
    return made


def _practitioner(xcn: str) -> Json:
    fields = [*xcn.split("^"), *[""] * 9]
    name = _name(_text(fields[1]), _text(fields[2]))
    said: Json = {"identifier": _identifier(fields[0], fields[8]), "name": [name] if name else []}
    found = {key: value for key, value in said.items() if value}
    return {"resourceType": "Practitioner", **found} if found else {}


def _organization(xon: str) -> Json:
    fields = [*xon.split("^"), *[""] * 10]
    said: Json = {"identifier": _identifier(fields[9], fields[5]), "name": _text(fields[0])}
    found = {key: value for key, value in said.items() if value}
    return {"resourceType": "Organization", **found} if found else {}


def _identifier(value: str, authority: str) -> list[Json]:
    value, parts = _text(value), authority.split("&")
    if not value:
        return []
    if len(parts) == 3 and parts[2] == "ISO" and parts[1]:
        return [{"system": f"urn:oid:{parts[1]}", "value": value}]
    is_oid = _OID.fullmatch(value)  # XON.10 may be an OID itself
    return [{"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{value}"} if is_oid else {"value": value}]


def _name(family: str, given: str) -> Json:
    return {**({"family": family} if family else {}), **({"given": [given]} if given else {})}


def _point(xtn: str) -> Json:
    """ContactPoint of an XTN: an e-mail address, a whole number, or a number in its parts."""
    fields = [*map(_text, xtn.split("^")), *[""] * 12]
    if fields[3]:
        return {"system": "email", "value": fields[3]}
    number = fields[11] or fields[0] or " ".join(filter(None, fields[4:7]))
    use = _USES.get(fields[1])
    return {"system": "phone", "value": number, **({"use": use} if use else {})} if number else {}


def _concept(text: str, system: Callable[[str], str]) -> Json:
    """A role or specialty: what an OID has the code of, else its words as they are."""
    if found := _CODED.fullmatch(text):
        return {"coding": [{"system": system(found[2]), "code": found[1]}]}
    return {"text": text}


def _text(field: str) -> str:
    return re.sub(r"\\[EFSTR]\\", lambda found: _ESCAPES[found[0]], field)
