"""`$meta`, `$meta-add` and `$meta-delete` (OperationDefinition Resource-meta, Resource-meta-add, Resource-meta-delete): tags, labels, profiles."""

from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir.json import parse
from server.access.decisions import Interaction
from server.records import resources
from server.work.fhir import reading
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.inputs import Inputs
from server.work.fhir.refusals import ParameterError
from server.work.fhir.update import update

Json = dict[str, Any]
PARAMETERS: Final = ("meta",)
_CODINGS: Final = ("security", "tag")
_LISTS: Final = ("profile", *_CODINGS)


def meta(connection: Connection, caller: Caller, type_: str, id_: str, inputs: Inputs) -> Outcome:
    """OperationDefinition Resource-meta: the resource, whose meta is to be told. Raises `NotFound`, `Gone`, `Forbidden`."""
    inputs.only(())
    return reading.read(connection, caller, type_, id_)


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
    stored = reading.judged(caller, type_, found, Interaction.UPDATE)
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
