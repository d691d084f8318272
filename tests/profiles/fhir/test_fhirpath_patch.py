"""FHIRPath Patch: the cases of the official suite (FHIR/fhir-test-cases, r4/patch/fhir-path-tests.xml) by name, the rules of fhirpatch.html, bad patches."""

from typing import Any

import pytest

from profiles.fhir.fhirpath_patch import apply
from profiles.fhir.json import parse
from profiles.fhir.patch_error import PatchError
from profiles.fhir.plain_json import copied

Json = dict[str, Any]


def patient(**elements: Any) -> Json:
    return {"resourceType": "Patient", **elements}


def operation(type_: str, path: str | None, *, value: Any = None, **parts: Any) -> Json:
    """An operation; `value` is a part without its name, others are integers or texts."""
    listed: list[Json] = [{"name": "type", "valueCode": type_}]
    if path is not None:
        listed.append({"name": "path", "valueString": path})
    listed += [
        {"name": name, **({"valueInteger": each} if isinstance(each, int) else {"valueString": each})}
        for name, each in parts.items()
    ]
    if value is not None:
        listed.append({"name": "value", **value})
    return {"name": "operation", "part": listed}


def parameters(*operations: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": list(operations)} if operations else {"resourceType": "Parameters"}


def identifiers(*numbers: int) -> Json:
    return patient(identifier=[{"system": "http://example.org", "value": f"value {each}"} for each in numbers])


def moved(source: int, destination: int) -> Json:
    return operation("move", "Patient.identifier", source=source, destination=destination)


THIRD = {"valueIdentifier": {"system": "http://example.org", "value": "value 3"}}
CONTACT = patient(contact=[{"name": {"text": "a name"}, "gender": "male"}])
NAME_PART = {"part": [{"name": "name", "valueHumanName": {"text": "a name"}}]}

OFFICIAL = {
    "No Difference": (patient(birthDate="1920-01-01"), (), patient(birthDate="1920-01-01")),
    "Replace Primitive": (
        patient(birthDate="1920-01-01"),
        (operation("replace", "Patient.birthDate", value={"valueDate": "1930-01-01"}),),
        patient(birthDate="1930-01-01"),
    ),
    "Delete Primitive": (patient(birthDate="1920-01-01"), (operation("delete", "Patient.birthDate"),), patient()),
    "Add Primitive": (
        patient(),
        (operation("add", "Patient", name="birthDate", value={"valueDate": "1930-01-01"}),),
        patient(birthDate="1930-01-01"),
    ),
    "Replace Nested Primitive #1": (
        CONTACT,
        (operation("replace", "Patient.contact[0].gender", value={"valueCode": "female"}),),
        patient(contact=[{"name": {"text": "a name"}, "gender": "female"}]),
    ),
    "Replace Nested Primitive #2": (
        CONTACT,
        (operation("replace", "Patient.contact[0].name.text", value={"valueString": "the name"}),),
        patient(contact=[{"name": {"text": "the name"}, "gender": "male"}]),
    ),
    "Delete Nested Primitive #1": (
        CONTACT,
        (operation("delete", "Patient.contact[0].gender"),),
        patient(contact=[{"name": {"text": "a name"}}]),
    ),
    "Delete Nested Primitive #2": (
        CONTACT,
        (operation("delete", "Patient.contact[0].name.text"),),
        patient(contact=[{"gender": "male"}]),
    ),
    "Add Nested Primitive": (
        patient(contact=[{"name": {"text": "a name"}}]),
        (operation("add", "Patient.contact[0]", name="gender", value={"valueCode": "male"}),),
        CONTACT,
    ),
    "Add Complex": (
        patient(),
        (operation("add", "Patient", name="maritalStatus", value={"valueCodeableConcept": {"text": "married"}}),),
        patient(maritalStatus={"text": "married"}),
    ),
    "Replace Complex": (
        patient(maritalStatus={"id": "1", "text": "married"}),
        (operation("replace", "Patient.maritalStatus", value={"valueCodeableConcept": {"id": "2", "text": "not married"}}),),
        patient(maritalStatus={"id": "2", "text": "not married"}),
    ),
    "Delete Complex": (patient(maritalStatus={"text": "married"}), (operation("delete", "Patient.maritalStatus"),), patient()),
    "Add Anonymous Type": (
        patient(),
        (operation("add", "Patient", name="contact", value=NAME_PART),),
        patient(contact=[{"name": {"text": "a name"}}]),
    ),
    "Delete Anonymous Type": (
        patient(contact=[{"name": {"text": "a name"}}]),
        (operation("delete", "Patient.contact[0]"),),
        patient(),
    ),
    "List unchanged": (identifiers(1, 2), (), identifiers(1, 2)),
    "List unchanged, contents changed": (
        patient(identifier=[{"id": "a", "value": "value 1"}, {"id": "b", "value": "value 2"}]),
        (
            operation("replace", "Patient.identifier[0].value", value={"valueString": "value 2"}),
            operation("replace", "Patient.identifier[1].value", value={"valueString": "value 1"}),
        ),
        patient(identifier=[{"id": "a", "value": "value 2"}, {"id": "b", "value": "value 1"}]),
    ),
    "Add to list": (
        identifiers(1, 2),
        (operation("insert", "Patient.identifier", index=2, value=THIRD),),
        identifiers(1, 2, 3),
    ),
    "Insert in list #1": (
        identifiers(1, 2),
        (operation("insert", "Patient.identifier", index=1, value=THIRD),),
        identifiers(1, 3, 2),
    ),
    "Insert in list #2": (
        identifiers(1, 2),
        (operation("insert", "Patient.identifier", index=0, value=THIRD),),
        identifiers(3, 1, 2),
    ),
    "Delete from List #1": (identifiers(1, 2, 3), (operation("delete", "Patient.identifier[0]"),), identifiers(2, 3)),
    "Delete from List #2": (identifiers(1, 2, 3), (operation("delete", "Patient.identifier[1]"),), identifiers(1, 3)),
    "Delete from List #3": (identifiers(1, 2, 3), (operation("delete", "Patient.identifier[2]"),), identifiers(1, 2)),
    "Reorder List #1": (identifiers(1, 2, 3, 4), (moved(3, 1),), identifiers(1, 4, 2, 3)),
    "Reorder List #2": (identifiers(1, 2, 3, 4), (moved(3, 0),), identifiers(4, 1, 2, 3)),
    "Reorder List #3": (identifiers(1, 2, 3, 4), (moved(3, 2),), identifiers(1, 2, 4, 3)),
    "Reorder List #4": (identifiers(1, 2, 3, 4), (moved(0, 3),), identifiers(2, 3, 4, 1)),
    "Reorder List #5": (identifiers(1, 2, 3, 4), (moved(1, 0), moved(2, 1)), identifiers(2, 3, 1, 4)),
    "Reorder List #6": (identifiers(1, 2, 3, 4), (moved(3, 0), moved(3, 1), moved(3, 2)), identifiers(4, 3, 2, 1)),
    "Operation on missing element #2": (
        patient(),
        (operation("add", "Patient", name="identifier", value=THIRD),),
        identifiers(3),
    ),
    "Full Resource": (
        patient(text={"status": "generated", "div": "<div>Chalmers</div>"}, name=[{"family": "Chalmers"}, {"given": ["Jim"]}]),
        (
            operation("replace", "Patient.text.div", value={"valueString": "<div>Chalmers1</div>"}),
            operation("replace", "Patient.name[0].family", value={"valueString": "Chalmers1"}),
        ),
        patient(text={"status": "generated", "div": "<div>Chalmers1</div>"}, name=[{"family": "Chalmers1"}, {"given": ["Jim"]}]),
    ),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_suite(name: str) -> None:
    before, operations, after = OFFICIAL[name]
    assert apply(copied(before), parameters(*operations)) == after


def test_official_suite_operation_on_missing_element() -> None:
    before = patient(identifier=[{"use": "official", "value": "123"}])
    path = "Patient.identifier.where(use = 'official').period"
    with pytest.raises(PatchError, match="leads to no elements") as caught:
        apply(before, parameters(operation("add", path, name="end", value={"valueDate": "2021-12-01"})))
    assert caught.value.status == 422


# `birthDate` with an extension, a list of primitives where one has an extension alone
RICH = patient(
    birthDate="1920-01-01",
    _birthDate={"extension": [{"url": "urn:t", "valueTime": "10:00:00"}]},
    deceasedBoolean=False,
    name=[{"given": ["A", None, "C"], "_given": [None, {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}, None]}],
    contained=[{"resourceType": "Organization", "id": "o", "name": "Old"}],
    managingOrganization={"reference": "#o"},
)

CASES = {
    "a choice is added by the name of the element and the type of the value": (
        patient(),
        operation("add", "Patient", name="deceased", value={"valueDateTime": "2020"}),
        {"deceasedDateTime": "2020"},
    ),
    "a choice may change its type": (
        RICH,
        operation("replace", "Patient.deceased", value={"valueDateTime": "2020"}),
        {"deceasedBoolean": None, "deceasedDateTime": "2020"},
    ),
    "a replaced primitive loses its extensions": (
        RICH,
        operation("replace", "Patient.birthDate", value={"valueDate": "2001"}),
        {"birthDate": "2001", "_birthDate": None},
    ),
    "a value brings its extensions along": (
        patient(),
        operation("add", "Patient", name="birthDate", value={"_valueDate": {"id": "x"}}),
        {"_birthDate": {"id": "x"}},
    ),
    "an extension is added to a primitive that had none": (
        patient(active=True),
        operation("add", "Patient.active", name="extension", value={"valueString": "x"}),
        None,
    ),
    "an extension is added to a primitive by parts": (
        patient(active=True),
        operation(
            "add", "Patient.active", name="extension", value={"part": [{"name": "url", "valueUri": "urn:e"}, {"name": "value", "valueCode": "c"}]}
        ),
        {"_active": {"extension": [{"url": "urn:e", "valueCode": "c"}]}},
    ),
    "an extension is added to one primitive of a list": (
        RICH,
        operation("add", "Patient.name.given[2]", name="id", value={"valueString": "third"}),
        {"name": [{"given": ["A", None, "C"], "_given": [None, {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}, {"id": "third"}]}]},
    ),
    "what a primitive has is deleted, its value stays": (
        RICH,
        operation("delete", "Patient.birthDate.extension"),
        {"_birthDate": None},
    ),
    "a primitive that is left with nothing goes": (
        RICH,
        operation("delete", "Patient.name.given[1].extension"),
        {"name": [{"given": ["A", "C"]}]},
    ),
    "the two arrays of primitives are moved together": (
        RICH,
        operation("move", "Patient.name[0].given", source=1, destination=0),
        {"name": [{"given": [None, "A", "C"], "_given": [{"extension": [{"url": "urn:x", "valueCode": "unknown"}]}, None, None]}]},
    ),
    "nothing to delete is no error": (patient(active=True), operation("delete", "Patient.name"), {}),
    "a contained resource is found by its reference": (
        RICH,
        operation("replace", "Patient.managingOrganization.resolve().name", value={"valueString": "New"}),
        {"contained": [{"resourceType": "Organization", "id": "o", "name": "New"}]},
    ),
    "a resource is contained": (
        patient(),
        operation("add", "Patient", name="contained", value={"resource": {"resourceType": "Organization", "id": "n"}}),
        {"contained": [{"resourceType": "Organization", "id": "n"}]},
    ),
    "parts of parts": (
        patient(),
        operation(
            "add", "Patient", name="communication",
            value={"part": [{"name": "language", "part": [{"name": "text", "valueString": "Deutsch"}]}, {"name": "preferred", "valueBoolean": True}]},
        ),
        {"communication": [{"language": {"text": "Deutsch"}, "preferred": True}]},
    ),
    "a condition selects": (
        identifiers(1, 2),
        operation("delete", "Patient.identifier.where(value = 'value 1')"),
        {"identifier": identifiers(2)["identifier"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str) -> None:
    before, one, changes = CASES[name]
    if changes is None:
        with pytest.raises(PatchError, match="Extension does"):
            apply(copied(before), parameters(one))
        return
    expected = {key: value for key, value in {**before, **changes}.items() if value is not None}
    assert apply(copied(before), parameters(one)) == expected


def test_decimals_keep_their_form() -> None:
    observation = {"resourceType": "Observation", "valueQuantity": {"value": 1}}
    patch = parse(
        b'{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},'
        b'{"name":"path","valueString":"Observation.value.value"},{"name":"value","valueDecimal":1.00}]}]}'
    )
    assert str(apply(observation, patch)["valueQuantity"]["value"]) == "1.00"


INAPPLICABLE = {
    "several elements": operation("replace", "Patient.name.given", value={"valueString": "x"}),
    "several elements to delete": operation("delete", "Patient.name.given"),
    "no element to replace": operation("replace", "Patient.gender", value={"valueCode": "male"}),
    "a computed value": operation("replace", "Patient.name.given.count()", value={"valueInteger": 1}),
    "the resource itself": operation("delete", "Patient"),
    "the resource itself, replaced": operation("replace", "Patient", value={"valueString": "x"}),
    "of a wrong type": operation("replace", "Patient.birthDate", value={"valueBoolean": True}),
    "of a wrong complex type": operation("add", "Patient", name="name", value={"valueAddress": {"city": "X"}}),
    "there already": operation("add", "Patient", name="birthDate", value={"valueDate": "2020"}),
    "there already as another type of the choice": operation("add", "Patient", name="deceasedDateTime", value={"valueDateTime": "2020"}),
    "not known to the type": operation("add", "Patient", name="surname", value={"valueString": "x"}),
    "given twice in parts": operation("add", "Patient", name="contact", value={"part": [{"name": "gender", "valueCode": "male"}] * 2}),
    "parts for a primitive": operation("replace", "Patient.birthDate", value=NAME_PART),
    "an index beyond the end": operation("insert", "Patient.name.given", index=4, value={"valueString": "x"}),
    "an index in an empty list": operation("insert", "Patient.identifier", index=0, value=THIRD),
    "a part of a list": operation("move", "Patient.name.given.where($this = 'A')", source=0, destination=0),
    "a source beyond the end": operation("move", "Patient.name.given", source=3, destination=0),
    "no list": operation("move", "Patient.birthDate", source=0, destination=0),
}  # fmt: skip


@pytest.mark.parametrize("name", INAPPLICABLE)
def test_what_does_not_fit_is_a_422(name: str) -> None:
    with pytest.raises(PatchError, match=r"operation 1 \(") as caught:
        apply(copied(RICH), parameters(INAPPLICABLE[name]))
    assert caught.value.status == 422


MALFORMED: dict[str, Any] = {
    "no operation": {"name": "something"},
    "no parts": {"name": "operation"},
    "another operation": operation("test", "Patient.name"),
    "no path": operation("delete", None),
    "no FHIRPath": operation("delete", "Patient.name["),
    "an unknown function": operation("delete", "Patient.name.remove()"),
    "no value": operation("replace", "Patient.birthDate"),
    "no name": operation("add", "Patient", value=THIRD),
    "an index that is no number": operation("insert", "Patient.identifier", index="1", value=THIRD),
    "a negative index": operation("insert", "Patient.identifier", index=-1, value=THIRD),
    "two values": operation("replace", "Patient.birthDate", value={"valueDate": "2020", "valueString": "x"}),
    "a value and parts": operation("replace", "Patient.birthDate", value={"valueDate": "2020", **NAME_PART}),
    "an unknown part": {"name": "operation", "part": [{"name": "sel", "valueString": "x"}]},
    "a part twice": {"name": "operation", "part": [{"name": "type", "valueCode": "delete"}] * 2},
    "parts that are no list": {"name": "operation", "part": {"name": "type"}},
    "a parameter that is no object": "operation",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_patch_is_a_400(name: str) -> None:
    with pytest.raises(PatchError) as caught:
        apply(copied(RICH), {"resourceType": "Parameters", "parameter": [MALFORMED[name]]})
    assert caught.value.status == 400
    assert caught.value.issue.expression.startswith("Parameters.parameter")


def test_operations_are_limited() -> None:
    with pytest.raises(PatchError, match="at most 1,000"):
        apply(patient(), parameters(*[operation("delete", "Patient.name")] * 1001))


def test_depth_is_limited() -> None:
    """Each operation goes one extension deeper into the last one."""
    part = {"part": [{"name": "url", "valueUri": "urn:e"}, {"name": "value", "valueCode": "c"}]}
    deeper = [operation("add", "Patient" + ".extension" * level, name="extension", value=part) for level in range(40)]
    with pytest.raises(PatchError, match="nested more than 64") as caught:
        apply(patient(), parameters(*deeper))
    assert caught.value.status == 422


def test_no_message_quotes_content() -> None:
    for one in INAPPLICABLE.values():
        with pytest.raises(PatchError) as caught:
            apply(
                patient(name=[{"given": ["Secretname", "Other"]}], deceasedBoolean=False, birthDate="1899-01-01"), parameters(one)
            )
        assert "Secretname" not in str(caught.value)
