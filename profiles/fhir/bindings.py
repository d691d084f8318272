"""Whether an element's code is in a value set (FHIR R4 section 4.1): codes, Codings and CodeableConcepts alike."""

from typing import Any

from profiles.fhir.fhirpath_run import MemberOf
from profiles.fhir.fhirpath_values import Node
from profiles.r4.terminology import Terminology


def codings(node: Node) -> list[tuple[str | None, str]]:
    """(system, code) of each code in an element; the system is None for a code that has none by its type."""
    value = node.value
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return []
    found: list[Any] = value.get("coding", []) if node.type == "CodeableConcept" else [value]
    return [(str(each.get("system", "")), str(each["code"])) for each in found if isinstance(each, dict) and "code" in each]


def member_of(terminology: Terminology) -> MemberOf:
    """The answer of `memberOf()`: true where one of the element's codes is in the value set, None where that can't be said."""

    def answer(node: Node, value_set: str) -> bool | None:
        answers = [terminology.contains(value_set, system, code) for system, code in codings(node)]
        return True if True in answers else None if None in answers else False

    return answer
