"""What create, update and patch have in common: a resource is checked before anything is written, and whose it has become is checked after."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, or_, select, tuple_

from profiles.audit_event import REST_CREATE, Kind, Subtype
from profiles.fhir import references, validation
from profiles.fhir.business_identifiers import unique_identifiers
from profiles.fhir.issues import Issue, a, is_refused
from profiles.fhir.json import parse
from profiles.smart import consent
from server.access.decisions import Interaction
from server.errors import AccessError, Forbidden, Invalid, NotFound, PreconditionFailed
from server.records import parameters, resources
from server.records.identities import by_identity
from server.records.resources import RESOURCE, Stored
from server.records.trail import Audited
from server.work.fhir import projections
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.permission import require_resource
from server.work.registry import from_fhir

Method = Literal["POST", "PUT", "PATCH"]
Resource = dict[str, Any]
_REQUESTS = ("transaction", "batch")
_AT_ONCE = 500


def checked(resource: Resource, type_: str) -> None:
    """FHIR R4 section 2.10: raises `Invalid` unless it is a valid resource of the type, of a kind that is stored."""
    issues = validation.check(resource, type_=type_)
    if is_refused(issues):
        raise Invalid(issues)
    _require_kind(resource, type_)


def _require_kind(resource: Resource, type_: str) -> None:
    if type_ == "Bundle" and resource.get("type") in _REQUESTS:
        why = "a Bundle of this type is carried out, not stored: POST it to the base URL"
        raise Invalid([Issue("error", "business-rule", "Bundle.type", why)], 422)


def matches(etag: str, version: int) -> bool:
    """FHIR R4 section 3.1.0.5: whether the value of If-Match or If-None-Match names this version."""
    named = [each.strip().removeprefix("W/") for each in etag.split(",")]
    return "*" in named or f'"{version}"' in named


def require_version(if_match: str, before: Stored | None, if_none_match: str = "") -> None:
    """FHIR R4 section 3.1.0.5, Managing Resource Contention, RFC 9110 sections 13.1.1 and 13.1.2.

    Raises `PreconditionFailed` unless If-Match, where it is given, names what is there now, and if If-None-Match does: `*` is anything.
    """
    there = before if before is not None and not before.deleted else None
    if if_match and (there is None or not matches(if_match, there.version)):
        raise PreconditionFailed(
            "If-Match names another version than the current one; read the resource, and change what you read"
        )
    if if_none_match and there is not None and matches(if_none_match, there.version):
        raise PreconditionFailed("If-None-Match names what is there already; leave it out to update that")


def put(
    connection: Connection,
    caller: Caller,
    resource: Resource,
    before: Stored | None,
    *,
    method: Method,
    interaction: Interaction,
    audit: tuple[Kind, Subtype],
) -> Outcome:
    """Stores a checked resource as the next version of `before`, which the transaction has locked; None where nothing was.

    Raises `Forbidden` if it would become another patient's or names somebody (`_require_no_naming`), `Contradiction` if the catalogue says
    otherwise, `Invalid` for references to nowhere where they are refused; the transaction is to be rolled back then.
    """
    type_ = str(resource["resourceType"])
    _require_kind(resource, type_)
    if before is not None and not before.deleted:
        resource = projections.merge(connection, before, resource)
    else:
        before = None
    is_confined = caller.is_confined(type_, interaction)
    if is_confined:
        _require_no_naming(type_, resource, before)
    if caller.rules.references == "check":
        require_targets(connection, caller, resource)
    if type_ == "SearchParameter":
        parameters.check(connection, resource)
    # A conflict would tell who is confined to one patient that somebody else has a document of this identifier.
    yields = is_confined or _has_unseen_namesakes(connection, caller, resource)
    stored = resources.put(connection, resource, method=method, base=caller.base, yields=yields)
    if before is None:
        caller.require_new(type_, interaction, stored.patient)
    else:
        caller.require_patient(type_, interaction, stored.patient)
    _require_within(connection, caller, stored, interaction)
    from_fhir.asked(connection, stored)
    return outcome(
        connection,
        caller,
        stored,
        is_new=before is None,
        is_changed=before is None or before.version != stored.version,
        audit=audit,
    )


def _has_unseen_namesakes(connection: Connection, caller: Caller, resource: Resource) -> bool:
    """Whether a business identifier of the resource is that of one which consents withhold. That stays whose it is, and nobody is told."""
    type_, kept = str(resource["resourceType"]), caller.decision.withheld
    if kept.is_nothing:
        return False
    found = (by_identity(connection, type_, system, value) for system, value in unique_identifiers(resource))
    ids = {each for each in found if each is not None and each != resource.get("id")}
    told = select(RESOURCE.c.id).where(RESOURCE.c.type == type_, RESOURCE.c.id.in_(ids), kept.told(type_, RESOURCE))
    return bool(ids) and ids != set(connection.execute(told).scalars())


def _require_within(connection: Connection, caller: Caller, stored: Stored, interaction: Interaction) -> None:
    """Raises `Forbidden` if a resource has become one that the caller's scopes, which name some of the type only, do not open."""
    if not caller.decision.may_be(connection, stored.type, interaction, stored.id):
        raise Forbidden("the token opens some resources of the type only, and this would be none of them", stored.patients)


def created(connection: Connection, caller: Caller, stored: Stored) -> Outcome:
    """What came of a create, if the caller may make it. Raises `Forbidden`."""
    caller.require_new(stored.type, Interaction.CREATE, stored.patient)
    if caller.is_confined(stored.type, Interaction.CREATE):
        _require_no_naming(stored.type, parse(stored.body), None)
    _require_within(connection, caller, stored, Interaction.CREATE)
    from_fhir.asked(connection, stored)
    return outcome(connection, caller, stored, is_new=True, is_changed=True, audit=("create", REST_CREATE))


def _require_no_naming(type_: str, resource: Resource, before: Stored | None) -> None:
    """Raises `Forbidden` if who is confined to one patient says by what identifiers images are known to be hers, or no longer says so.

    By those of a Patient and an ImagingStudy the catalogue finds whose images are (`records.adoption`): they are for those to say who are
    trusted with all patients. A DocumentReference's identify nothing but itself.
    """
    if type_ == "DocumentReference":
        return
    had = unique_identifiers(parse(before.body)) if before is not None else ()
    if set(unique_identifiers(resource)) != set(had):
        raise Forbidden(
            f"a patient/ scope does not say by which identifiers {a(type_)} is known; leave them as they are",
            frozenset([before.patient] if before is not None else ()),
        )


def outcome(
    connection: Connection, caller: Caller, stored: Stored, *, is_new: bool, is_changed: bool, audit: tuple[Kind, Subtype]
) -> Outcome:
    """201 for what was not there, else 200. What came of it unchanged has no new location.

    To change is not to read: what was there before is told to those who may read it.
    """
    if not is_new:
        stored = for_readers(connection, caller, stored)
    version = f"{stored.type}/{stored.id}/_history/{stored.version}"
    return Outcome(
        status=201 if is_new else 200,
        stored=stored,
        location=f"{caller.base}/{version}" if is_changed else "",
        issues=_not_enforced(caller, stored) if stored.type == "Consent" else (),
        audited=(Audited(*audit, version, stored.patient),),
    )


def _not_enforced(caller: Caller, stored: Stored) -> tuple[Issue, ...]:
    """What of a Consent is not understood, and so held against whom it would permit something."""
    found = consent.read(parse(stored.body), stored.patient, caller.base).warnings if stored.body else ()
    return tuple(Issue("warning", "not-supported", each.path, each.detail) for each in found)


def for_readers(connection: Connection, caller: Caller, stored: Stored) -> Stored:
    """What is stored, without its content for those who may not read it."""
    try:
        require_resource(connection, caller.decision, stored.type, Interaction.READ, stored.id, stored.patient)
    except (AccessError, NotFound):
        return replace(stored, body=b"", summary=None)
    return stored


def require_targets(connection: Connection, caller: Caller, resource: Resource) -> None:
    """Raises `Invalid` with each reference to a resource of this server that is not there (FHIR R4 section 2.3.0.1)."""
    why = "the reference leads to a resource that is not here; create it first, or both in one transaction"
    missing = [Issue("error", "not-found", path, why) for path, _ in nowhere(connection, caller, resource)]
    if missing:
        raise Invalid(missing, 422)


def nowhere(connection: Connection, caller: Caller, resource: Resource) -> list[tuple[str, str]]:
    """The FHIRPath of each reference to a resource of this server that is not there, and the type that it leads to."""
    leads = {}
    for each in references.found(resource):
        target = references.parse_reference(each.text, caller.base) if each.type == "Reference" else None
        if target is not None and target.id and target.type and not target.url:
            leads[each.path] = (target.type, target.id)
    there, targets = {(str(resource["resourceType"]), str(resource.get("id")))}, sorted(set(leads.values()))
    for first in range(0, len(targets), _AT_ONCE):
        wanted = tuple_(RESOURCE.c.type, RESOURCE.c.id).in_(targets[first : first + _AT_ONCE])
        found = select(RESOURCE.c.type, RESOURCE.c.id).where(wanted, RESOURCE.c.deleted == 0, *_told(caller, targets))
        there |= {(row.type, row.id) for row in connection.execute(found)}
    return [(path, target[0]) for path, target in leads.items() if target not in there]


def _told(caller: Caller, targets: Iterable[tuple[str, str]]) -> list[ColumnElement[bool]]:
    """That consents do not withhold a resource of these types: to the caller such a one is not there."""
    kept = caller.decision.withheld
    types = sorted({type_ for type_, _ in targets})
    return [] if kept.is_nothing else [or_(*(and_(RESOURCE.c.type == each, kept.told(each, RESOURCE)) for each in types))]
