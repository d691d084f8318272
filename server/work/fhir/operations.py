"""The operations that this server has (FHIR R4 section 3.2), as a table: routes and CapabilityStatement are made from it, and each is called by it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from sqlalchemy import Connection

from profiles.fhir.issues import outcome
from profiles.fhir.json import parse, serialize
from server.records.trail import Audited
from server.work.fhir import access_history as accesses
from server.work.fhir import meta as metas
from server.work.fhir import validate as validating
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.docref import docref
from server.work.fhir.everything import everything
from server.work.fhir.inputs import Inputs
from server.work.fhir.listing import Listing
from server.work.fhir.offered import MethodNotOffered, NotOffered, known

Level = Literal["system", "type", "instance"]
_CORE: Final = "http://hl7.org/fhir/OperationDefinition/"


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `id` is empty at type level, `type` too at system level; `key` seals page links."""

    type: str
    id: str
    inputs: Inputs
    key: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a call: a resource as JSON, or a Bundle in parts. `patients` are those whose data are told.

    `audited` is for the trail, of what was read or written; without it the call is one of a query. Where there is a `trial`, what comes of that, in a
    transaction for writing, is what came of the call.
    """

    body: bytes | Listing
    patients: frozenset[str] = frozenset()
    audited: tuple[Audited, ...] = ()
    trial: "Callable[[Connection], Done] | None" = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: `$name` at `levels`, of the resource types `types` (none: of every type), as `definition` describes it.

    What does not affect state may be called by GET (section 3.2.0.1). `single` is the parameter that a body is which is no Parameters resource.
    """

    name: str
    definition: str
    run: Callable[[Connection, Caller, Call], Done]
    levels: tuple[Level, ...]
    types: tuple[str, ...] = ()
    affects_state: bool = False
    single: str = ""
    documentation: str = ""

    def is_of(self, type_: str) -> bool:
        """Whether resources of this type have it. What the trail wrote stays. A Binary is read and written by itself: only one that is sent is looked at."""
        if type_ == "Binary":
            return self.name == "validate"
        if self.affects_state and type_ == "AuditEvent":
            return False
        return not self.types or type_ in self.types


def find(name: str, type_: str, id_: str = "", *, method: str = "POST") -> Operation:
    """The operation of that name (without `$`) for a resource, a type, or with neither for the system.

    Raises `NotOffered`, and `MethodNotOffered` for a GET of one that changes something.
    """
    level: Level = "instance" if id_ else "type" if type_ else "system"
    of = known(type_) if type_ else ""
    found = next((each for each in OPERATIONS if each.name == name and level in each.levels and each.is_of(of)), None)
    if found is None:
        names = sorted({f"${each.name}" for each in OPERATIONS if level in each.levels and each.is_of(type_)})
        there = f"{type_ or 'the system'} has {', '.join(names) or 'none'} there"
        raise NotOffered(f"this server has no such operation here; {there}")
    if found.affects_state and method != "POST":
        raise MethodNotOffered(f"${name} changes something: it is called by POST (FHIR R4 section 3.2.0.1)", "POST")
    if method not in ("GET", "HEAD", "POST"):
        raise MethodNotOffered("operations are called by GET and POST (FHIR R4 section 3.2.0.1)", "GET, HEAD, POST")
    return found


def _everything(connection: Connection, caller: Caller, call: Call) -> Done:
    found = everything(connection, caller, call.type, call.id, call.inputs, key=call.key)
    return Done(found.listing, found.patients)


def _docref(connection: Connection, caller: Caller, call: Call) -> Done:
    found = docref(connection, caller, call.inputs, key=call.key)
    return Done(found.listing, found.patients)


def _access_history(connection: Connection, caller: Caller, call: Call) -> Done:
    return Done(accesses.access_history(connection, caller, call.id, call.inputs, key=call.key), frozenset([call.id]))


def _validate(connection: Connection, caller: Caller, call: Call) -> Done:
    found = validating.validate(connection, caller, call.type, call.id, call.inputs)
    patients = frozenset([found.stored.patient]) - {""} if found.stored is not None else frozenset[str]()
    done, trial = Done(serialize(outcome(found.issues)), patients), found.trial
    if trial is None:
        return done

    def tried(writing: Connection) -> Done:
        return replace(done, body=serialize(outcome(tuple(dict.fromkeys(found.issues + trial(writing))))))

    return replace(done, trial=tried)


def _meta(connection: Connection, caller: Caller, call: Call) -> Done:
    if not call.id:
        found, patients = metas.in_use(connection, caller, call.type, call.inputs)
        return Done(serialize(metas.parameters({"meta": found})), patients)
    return _told(metas.meta(connection, caller, call.type, call.id, call.inputs))


def _meta_add(connection: Connection, caller: Caller, call: Call) -> Done:
    return _told(metas.add(connection, caller, call.type, call.id, call.inputs))


def _meta_delete(connection: Connection, caller: Caller, call: Call) -> Done:
    return _told(metas.remove(connection, caller, call.type, call.id, call.inputs))


def _told(found: Outcome) -> Done:
    told = metas.parameters(parse(found.body, limit=len(found.body)))
    return Done(serialize(told), frozenset(each.patient for each in found.audited if each.patient), found.audited)


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "everything", f"{_CORE}Patient-everything", _everything, ("type", "instance"), ("Patient",),
        documentation="Of one patient, or at type level of all that the token opens; in pages. start, end, _since, _type, _count. AuditEvents are not in it.",
    ),
    Operation(
        "everything", f"{_CORE}Encounter-everything", _everything, ("instance",), ("Encounter",),
        documentation="What is in the encounter's compartment, with its patient and whatever else that refers to; in pages. _since, _type, _count.",
    ),
    Operation(
        "docref", "http://hl7.org/fhir/us/core/OperationDefinition/docref", _docref, ("type",), ("DocumentReference",),
        documentation="The patient's current documents. Nothing is made on demand: on-demand=true finds nothing.",
    ),
    Operation(
        "access-history", accesses.DEFINITION, _access_history, ("instance",), ("Patient",),
        documentation="Who saw what of the patient and when, in plain words, refused attempts too; for who may search the patient's AuditEvents. start, end, _count, cursor.",
    ),
    Operation("validate", f"{_CORE}Resource-validate", _validate, ("type", "instance"), single="resource"),
    Operation(
        "meta", f"{_CORE}Resource-meta", _meta, ("system", "type", "instance"),
        documentation="Of the system or a type: the profiles, tags and security labels that resources have which the token opens to read, AuditEvents aside.",
    ),
    Operation("meta-add", f"{_CORE}Resource-meta-add", _meta_add, ("instance",), affects_state=True),
    Operation("meta-delete", f"{_CORE}Resource-meta-delete", _meta_delete, ("instance",), affects_state=True),
)  # fmt: skip
