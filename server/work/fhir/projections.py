"""What the DICOM catalogue owns of FHIR resources, and how a client's elements and the catalogue's live in one resource.

- ImagingStudy: `OWNED` is the catalogue's, and comes anew with every publication; all else is the clients' and stays. A referrer with a
  reference or identifier is a client's, one with only a name the catalogue's. Further identifiers are the clients'.
- Patient: the identifier by which images name the patient is the catalogue's; name, birth date and sex come from images only where no
  client said them. A correction (HL7 ADT A08) replaces those that it names. Of a patient who was merged into another (A40) `active` and
  the link to that one are the catalogue's too.
- Endpoint, the DocumentReference of a manifest, DocumentReference and List of what XDS registered: all is the catalogue's, or the registry's,
  but tags, security labels and profiles.

A client may leave out what the catalogue owns, it is kept; what it says otherwise is refused, naming the element. What is in the
catalogue is not deleted by FHIR: DICOMweb, a rejection note or the lifecycle does that behind every face at once. What was purged leaves an
ImagingStudy and a Patient that clients may delete, and of its manifests DocumentReferences (`entered-in-error`) that are nobody's entry
any more: clients may change and delete those as any other.
"""

import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, select, true

from profiles.patient import fhir_patient
from profiles.study import Patient
from profiles.vocabulary import ACCESSION_IDENTIFIER_TYPE, DICOM_UID_SYSTEM
from server.errors import Conflict, Contradiction
from server.records import adoption, belonging, resources
from server.records.catalogue import EMPTIED, PATIENT, STUDY
from server.records.index_rows import COMPARTMENT
from server.records.registry import OBJECT
from server.records.resources import Stored
from server.store.tables import Installation

Resource = dict[str, Any]
_INSTALLATION = Installation.__table__  # type: ignore[attr-defined]

OWNED: Final = (
    "status",
    "modality",
    "subject",
    "started",
    "endpoint",
    "numberOfSeries",
    "numberOfInstances",
    "description",
    "series",
)
"""Of an ImagingStudy; and of its `identifier` the Study Instance UID and the accession number, and its `referrer` by name."""
_REPLACED_BY: Final = "replaced-by"
_UNOWNED: Final = frozenset({"id", "meta", "resourceType"})


# --- clients' writes


def merge(connection: Connection, current: Stored, given: Resource) -> Resource:
    """What is stored where a client writes `given` over `current`: with what the catalogue owns. Raises `Contradiction`."""
    if not _is_catalogued(connection, current.type, current.id):
        return given
    before = resources.unstamped(current.body)
    if current.type == "ImagingStudy":
        return _merged_study(before, given)
    if current.type == "Patient":
        if belonging.replaced_by(connection, current.id) is not None:
            given = _still_replaced(before, given)
        return _with_identifiers(given, _identifiers_of_patient(connection, before))
    return _merged_whole(before, given)


def require_deletable(connection: Connection, current: Stored) -> None:
    """Raises `Conflict` for what the catalogue has, with the way to delete it."""
    if current.type == "Patient" and belonging.replaced_by(connection, current.id) is not None:
        raise Conflict(
            "this Patient is not deleted by FHIR: what comes for her is of the one whom she was merged into, and she says so"
        )
    if not _is_catalogued(connection, current.type, current.id, purged=False):
        return
    ways = {
        "ImagingStudy": "its images are here; delete the study by DICOMweb (DELETE /dicomweb/studies/{uid}), and this can be deleted too",
        "Patient": "the patient has studies here; delete or move those",
        "Endpoint": "it is this server's own Endpoint",
        "DocumentReference": "it is the manifest of a study that is here, and goes with it, or was registered by XDS, and is removed by that (ITI-62)",
        "List": "it was registered by XDS, and is removed by that (ITI-62)",
    }
    raise Conflict(f"this {current.type} is not deleted by FHIR: {ways[current.type]}")


def _merged_study(before: Resource, given: Resource) -> Resource:
    made = dict(given)
    for element in OWNED:
        if element in before:
            if element in given and given[element] != before[element]:
                raise _contradiction("ImagingStudy", element)
            made[element] = before[element]
        elif element in given:
            raise _contradiction("ImagingStudy", element)
    if _is_by_name(before.get("referrer")) and (_is_by_name(given.get("referrer")) or "referrer" not in given):
        if given.get("referrer", before["referrer"]) != before["referrer"]:
            raise _contradiction("ImagingStudy", "referrer")
        made["referrer"] = before["referrer"]
    owned = [each for each in before.get("identifier", ()) if _is_of_study(each)]
    for each in given.get("identifier", ()):
        if each not in owned and (_is_of_study(each) or any(_same(each, one) for one in owned)):
            raise _contradiction("ImagingStudy", "identifier")
    return _with_identifiers(made, owned)


def _with_identifiers(given: Resource, owned: list[Resource]) -> Resource:
    """With those of the catalogue first, as the client says them where it does."""
    others = [each for each in given.get("identifier", ()) if not any(_same(each, one) for one in owned)]
    said = [next((each for each in given.get("identifier", ()) if _same(each, one)), one) for one in owned]
    return {**given, "identifier": [*said, *others]} if said or others else given


def _still_replaced(before: Resource, given: Resource) -> Resource:
    """FHIR R4 section 8.1.8: a Patient that was merged into another is inactive and says which; other links are the clients'."""
    owned = [each for each in before.get("link", ()) if _is_replacement(each)]
    if given.get("active", False):
        raise _contradiction("Patient", "active")
    if any(_is_replacement(each) and each not in owned for each in given.get("link", ())):
        raise _contradiction("Patient", "link")
    others = [each for each in given.get("link", ()) if each not in owned]
    return {**given, "active": False, "link": [*owned, *others]}


def _merged_whole(before: Resource, given: Resource) -> Resource:
    for element in sorted({*before, *given} - _UNOWNED):
        if element in given and given[element] != before.get(element):
            raise _contradiction(str(given["resourceType"]), element)
    made = {key: value for key, value in before.items() if key != "meta"}
    return {**made, "meta": given["meta"]} if given.get("meta") else made


def _contradiction(type_: str, element: str) -> Contradiction:
    return Contradiction(
        f"{type_}.{element} is of the DICOM catalogue: leave it out, or as it is; images are corrected by DICOMweb or HL7"
        if type_ != "List"
        else f"{type_}.{element} is of the Document Registry: leave it out, or as it is; it is updated by XDS (ITI-57)",
        f"{type_}.{element}",
    )


# --- the catalogue's writes


def published(
    connection: Connection,
    projection: Mapping[str, Any],
    *,
    now: int | None = None,
    base: str,
    forget: bool = False,
    said: Collection[str] = (),
) -> Stored:
    """Stores what the catalogue says, with what clients added; `forget` leaves nothing of that but security labels. `base` is our FHIR base URL.

    Somebody corrected the elements that are `said`: what was there is replaced by them, also by their not being there. Raises `Unavailable`
    if a client made a resource of the same identity at the same moment: it is to be done again, and is that one then.
    """
    type_, id_ = str(projection["resourceType"]), str(projection["id"])
    current = resources.locked(connection, type_, id_, projection)
    made = dict(projection)
    if current is not None and not current.deleted:
        before = {key: value for key, value in resources.unstamped(current.body).items() if key not in said}
        made = labelled(before, made) if forget else _ADDED.get(type_, _with_meta)(before, made)
    stored = resources.put(connection, made, now=now, base=base, yields=True)
    if current is None or current.deleted:
        adoption.require_sole(connection, made)
    return stored


def replaced(connection: Connection, patient: Patient, by: str, *, base: str) -> Stored:
    """FHIR R4 section 8.1.8: as `published`, of a Patient who was merged into another; she is inactive and says which. `by` is that one's id."""
    current = resources.locked(connection, "Patient", patient.id)
    links = resources.unstamped(current.body).get("link", []) if current is not None and not current.deleted else []
    link = [
        {"other": {"reference": f"Patient/{by}"}, "type": _REPLACED_BY},
        *(each for each in links if not _is_replacement(each)),
    ]
    projection = {**fhir_patient(patient), "active": False, "link": link}
    return published(connection, projection, base=base, said=("active", "link"))


def is_only_of_images(connection: Connection, patient: Patient) -> bool:
    """Whether all that is here of a patient is what images said: her Patient but for `meta`, and nothing else that is valid in her compartment."""
    current = resources.locked(connection, "Patient", patient.id)
    if current is None or current.deleted:
        return True
    said = resources.unstamped(current.body)
    said.pop("meta", None)
    hers = (COMPARTMENT.c.name == "Patient", COMPARTMENT.c.id == patient.id, COMPARTMENT.c.type != "Patient")
    valid = resources.RESOURCE.c.status != "entered-in-error"
    others = COMPARTMENT.join(resources.RESOURCE, resources.RESOURCE.c.pk == COMPARTMENT.c.resource_pk)
    return said == fhir_patient(patient) and not _there(connection, others, and_(*hers, valid))


def _study_with_added(before: Resource, projection: Resource) -> Resource:
    added = {key: value for key, value in before.items() if key not in OWNED and key != "identifier"}
    if _is_by_name(added.get("referrer")):
        del added["referrer"]
    made = {**projection, **added}
    others = [each for each in before.get("identifier", ()) if not _is_of_study(each)]
    return {**made, "identifier": [*projection.get("identifier", ()), *others]}


def _patient_with_added(before: Resource, projection: Resource) -> Resource:
    return {**projection, **before, "identifier": _identifiers(before, projection)}


def labelled(before: Resource, made: Resource) -> Resource:
    """With the security labels of before too: who may not know of what it was may not know of what is left of it, or of what comes in its place."""
    meta: Resource = made.get("meta", {})
    labels = [*meta.get("security", ()), *before.get("meta", {}).get("security", ())]
    return {**made, "meta": {**meta, "security": labels}} if labels else made


def _with_meta(before: Resource, projection: Resource) -> Resource:
    return {**projection, "meta": before["meta"]} if "meta" in before else projection


_ADDED: Final = {"ImagingStudy": _study_with_added, "Patient": _patient_with_added}


def _identifiers(before: Resource, projection: Resource) -> list[Resource]:
    """As they were; those that are not among them are added."""
    had: list[Resource] = list(before.get("identifier", ()))
    return [*had, *(each for each in projection.get("identifier", ()) if not any(_same(each, one) for one in had))]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one.get("system"), one.get("value")) == (other.get("system"), other.get("value"))


def _is_of_study(identifier: Mapping[str, Any]) -> bool:
    """The Study Instance UID, or an accession number."""
    codings = identifier.get("type", {}).get("coding", ())
    return identifier.get("system") == DICOM_UID_SYSTEM or any(each.get("code") == ACCESSION_IDENTIFIER_TYPE for each in codings)


def _is_replacement(link: Mapping[str, Any]) -> bool:
    return link.get("type") == _REPLACED_BY


def _is_by_name(reference: Mapping[str, Any] | None) -> bool:
    return reference is not None and "reference" not in reference and "identifier" not in reference


# --- what is in the catalogue


def _is_catalogued(connection: Connection, type_: str, id_: str, *, purged: bool = True) -> bool:
    """Whether the catalogue says, or has said, what the resource is; not `purged`: of a study of which nothing is left too."""
    left = true() if purged else STUDY.c.attributes != EMPTIED
    match type_:
        case "ImagingStudy":  # one that was never shown is still the client's who made it
            return _there(connection, STUDY, and_(STUDY.c.id == id_, STUDY.c.updated != 0, left))
        case "Patient":
            if _there(connection, STUDY.join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk), and_(PATIENT.c.id == id_, left)):
                return True
            return belonging.replaced_by(connection, id_) is not None
        case "DocumentReference" | "List":
            return _there(connection, OBJECT, and_(OBJECT.c.entry_uuid == f"urn:uuid:{id_}", OBJECT.c.origin != "fhir"))
        case "Endpoint":
            root = connection.execute(select(_INSTALLATION.c.value).where(_INSTALLATION.c.key == "root")).scalar()
            return id_ == str(uuid.uuid5(uuid.NAMESPACE_OID, f"{root}.7"))
    return False


def _there(connection: Connection, source: Any, condition: ColumnElement[bool]) -> bool:
    return connection.execute(select(1).select_from(source).where(condition).limit(1)).first() is not None


def _identifiers_of_patient(connection: Connection, before: Resource) -> list[Resource]:
    """Those by which images name the patient, as they are written."""
    rows = connection.execute(select(PATIENT.c.authority, PATIENT.c.value).where(PATIENT.c.id == before["id"]))
    named = {(f"urn:oid:{row.authority}", row.value) for row in rows}
    return [each for each in before.get("identifier", ()) if (each.get("system"), each.get("value")) in named]
