"""`$meta`, `$meta-add` and `$meta-delete` (OperationDefinition Resource-meta, Resource-meta-add, Resource-meta-delete): tags, labels, profiles."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.json import parse
from server.access.decisions import Interaction
from server.errors import Forbidden, NotSupported
from server.records import labels, resources
from server.work.fhir import completeness, offered, permission, reading
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.inputs import Inputs
from server.work.fhir.refusals import ParameterError
from server.work.fhir.update import update

Json = dict[str, Any]
PARAMETERS: Final = ("meta",)
_CODINGS: Final = ("security", "tag")
_LISTS: Final = ("profile", *_CODINGS)
_NOTHING: Final = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "not-applicable"}
"""For no element may be empty (FHIR R4 section 2.24, ele-1)."""


def meta(connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs) -> Outcome:
    """OperationDefinition Resource-meta: the resource, whose meta is to be told. Raises `NotFound`, `Gone`, `Forbidden`."""
    inputs.only(())
    return reading.read(connection, caller, type_, id_)


def in_use(connection: Connection, caller: Caller, type_: str, inputs: Inputs) -> tuple[Json, frozenset[str]]:
    """OperationDefinition Resource-meta, of a type or (empty) of the system: all profiles, tags and labels of resources that the caller may read.

    With the patients whose resources alone were looked at. Raises `Forbidden`, `NotSupported`, `TooCostly`, and `Unavailable` while rows of them
    are in the making.
    """
    inputs.only(())
    made = caller.decision
    if type_ == "AuditEvent":
        raise NotSupported("which profiles AuditEvents have is not looked up; those of IHE BALP are what there is")
    if type_:
        permission.require(made, type_, Interaction.READ)
    types = [type_] if type_ else _granted(caller, labels.types(connection))
    completeness.require(connection, {(each, code) for each in types for code in labels.CODES})
    found = labels.in_use(connection, types, permission.allowed(made, Interaction.READ))
    patients = [permission.confined(made, each, Interaction.READ) for each in types]
    told: Json = {name: values for name, values in found.items() if values}
    return told or {"extension": [_NOTHING]}, frozenset(id_ for each in patients for id_ in each or ())


def _granted(caller: Caller, types: Sequence[str]) -> list[str]:
    """Those that the caller may read. Raises `Forbidden` where that is no type at all, whether or not there are resources of it."""
    if not any(permission.is_granted(caller.decision, each, Interaction.READ) for each in offered.types()):
        raise Forbidden("the token grants no scope that includes 'r' for any type")
    return [each for each in types if permission.is_granted(caller.decision, each, Interaction.READ)]


def add(connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs) -> Outcome:
    """OperationDefinition Resource-meta-add: a version with the profiles, tags and labels of `meta` too. What it has already stays as it is."""
    given, resource = _given(inputs), _current(connection, caller, type_, id_)
    has: Json = resource.get("meta", {})
    made = {name: [*has.get(name, []), *_missing(name, has, given)] for name in _LISTS}
    return _changed(connection, caller, resource, made)


def remove(connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs) -> Outcome:
    """OperationDefinition Resource-meta-delete: a version without the profiles, tags and labels of `meta`. What it has not is passed over."""
    given, resource = _given(inputs), _current(connection, caller, type_, id_)
    has: Json = resource.get("meta", {})
    gone = {name: {_key(each) for each in given.get(name, [])} for name in _LISTS}
    made = {name: [each for each in has.get(name, []) if _key(each) not in gone[name]] for name in _LISTS}
    return _changed(connection, caller, resource, made)


def parameters(resource: Json) -> Json:
    """The answer of all three: Parameters with the resource's meta as `return`."""
    return {"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": resource.get("meta", {})}]}


def _given(inputs: Inputs) -> Json:
    """Profiles, tags and labels to add or remove."""
    inputs.only(PARAMETERS)
    given = inputs.part("meta")
    if given is None:
        raise ParameterError("meta", "meta is missing: a Parameters resource with a valueMeta named meta", "required")
    for name in _LISTS:
        found = given.get(name, [])
        if not isinstance(found, list) or not all(isinstance(each, str if name == "profile" else dict) for each in found):
            raise ParameterError("meta", f"meta.{name} is not what R4 has there", "structure")
    return given


def _current(connection: Connection, caller: Caller, type_: str, id_: str) -> Json:
    """What is there, to be changed and written again in this transaction."""
    caller.require(type_, Interaction.UPDATE)
    found = resources.locked(connection, type_, id_) if reading.FHIR_ID.fullmatch(id_) else None
    stored = reading.judged(connection, caller, type_, found, Interaction.UPDATE)
    return parse(stored.body, limit=len(stored.body))


def _changed(connection: Connection, caller: Caller, resource: Json, made: Json) -> Outcome:
    kept = {name: value for name, value in resource.get("meta", {}).items() if name not in _LISTS}
    meta = {**kept, **{name: values for name, values in made.items() if values}}
    return update(connection, caller, str(resource["resourceType"]), str(resource["id"]), {**resource, "meta": meta})


def _missing(name: str, has: Json, given: Json) -> list[Any]:
    there = {_key(each) for each in has.get(name, [])}
    return [each for each in given.get(name, []) if _key(each) not in there]


def _key(each: Any) -> tuple[str, str]:
    """What tells profiles, tags and labels apart: a URL, or system and code."""
    return (str(each.get("system", "")), str(each.get("code", ""))) if isinstance(each, dict) else ("", str(each))
