"""What the DICOM catalogue owns of FHIR resources, and how a client's elements and the catalogue's live in one resource.

- ImagingStudy: `OWNED` is the catalogue's, and comes anew with every publication; all else is the clients' and stays. A referrer with a
  reference or identifier is a client's, one with only a name the catalogue's. Further identifiers are the clients'.
- Patient: the identifier by which images name the patient is the catalogue's; name, birth date and sex come from images only where no
  client said them. A correction (HL7 ADT A08) is said by somebody, and replaces them.
- Endpoint, and the DocumentReference of a manifest: all is the catalogue's but tags, security labels and profiles.

A client may leave out what the catalogue owns, it is kept; what it says otherwise is refused, naming the element. What has rows in the
catalogue is not deleted by FHIR: DICOMweb, a rejection note or the lifecycle does that behind every face at once.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, select, update

from profiles.study import Study
from profiles.vocabulary import ACCESSION_IDENTIFIER_TYPE, DICOM_UID_SYSTEM
from server.errors import Conflict, Contradiction
from server.records import resources
from server.records.catalogue import PATIENT, STUDY
from server.records.resources import Stored
from server.store.tables import DocumentEntry, Installation

Resource = dict[str, Any]
_ENTRY = DocumentEntry.__table__  # type: ignore[attr-defined]
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
DEMOGRAPHICS: Final = ("name", "gender", "birthDate")
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
        return _with_identifiers(given, _identifiers_of_patient(connection, before), "Patient")
    return _merged_whole(before, given)


def require_deletable(connection: Connection, current: Stored) -> None:
    """Raises `Conflict` for what the catalogue owns, with the way to delete it."""
    if not _is_catalogued(connection, current.type, current.id):
        return
    ways = {
        "ImagingStudy": "its images are here; delete the study by DICOMweb (DELETE /dicomweb/studies/{uid}) or reject it, and it is withdrawn",
        "Patient": "the patient has studies here; delete or move those, or merge the patient into another",
        "Endpoint": "it is this server's own Endpoint",
        "DocumentReference": "it is the manifest of a study that is here; it goes with the study",
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
    return _with_identifiers(made, [each for each in before.get("identifier", ()) if _is_of_study(each)], "ImagingStudy")


def _with_identifiers(given: Resource, owned: list[Resource], type_: str) -> Resource:
    """With those of the catalogue first. Another value in the same system contradicts only the Study Instance UID."""
    others = [each for each in given.get("identifier", ()) if not any(_same(each, one) for one in owned)]
    uids = {each["value"] for each in owned if each.get("system") == DICOM_UID_SYSTEM}
    if uids and any(each.get("system") == DICOM_UID_SYSTEM for each in others):
        raise _contradiction(type_, "identifier")
    said = [next((each for each in given.get("identifier", ()) if _same(each, one)), one) for one in owned]
    return {**given, "identifier": [*said, *others]} if said or others else given


def _merged_whole(before: Resource, given: Resource) -> Resource:
    for element in sorted({*before, *given} - _UNOWNED):
        if element in given and given[element] != before.get(element):
            raise _contradiction(str(given["resourceType"]), element)
    made = {key: value for key, value in before.items() if key != "meta"}
    return {**made, "meta": given["meta"]} if given.get("meta") else made


def _contradiction(type_: str, element: str) -> Contradiction:
    return Contradiction(
        f"{type_}.{element} is of the DICOM catalogue: leave it out, or as it is; images are corrected by DICOMweb or HL7",
        f"{type_}.{element}",
    )


# --- the catalogue's writes


def published(connection: Connection, projection: Mapping[str, Any], *, now: int, base: str = "", forget: bool = False) -> Stored:
    """Stores what the catalogue says, with what clients added; `forget` leaves nothing of that."""
    type_, id_ = str(projection["resourceType"]), str(projection["id"])
    current = resources.locked(connection, type_, id_)
    made = dict(projection)
    if current is not None and not current.deleted and not forget:
        made = _ADDED.get(type_, _with_meta)(resources.unstamped(current.body), made)
    return resources.put(connection, made, now=now, base=base, yields=True)


def corrected(connection: Connection, projection: Mapping[str, Any], *, now: int | None = None) -> Stored:
    """As `published`, of a Patient whose demographics somebody said: they replace what was there. What `projection` has not stays."""
    current = resources.locked(connection, "Patient", str(projection["id"]))
    made = dict(projection)
    if current is not None and not current.deleted:
        before = resources.unstamped(current.body)
        kept = {key: value for key, value in before.items() if key not in DEMOGRAPHICS}
        made = {**kept, **made, "identifier": _identifiers(before, made)}
    return resources.put(connection, made, now=now, yields=True)


def adopted(connection: Connection, study_pk: int, study: Study) -> Study:
    """The study by the ids that clients gave it and its patient before the catalogue had shown them: whoever came first, it is one resource.

    That is looked for when the rows are made (`records.placing`), and here once more, for what came in between.
    """
    patient = study.patient
    said = patient.identifier.fhir()
    patient_id = _adopted(connection, PATIENT, "Patient", patient.id, str(said["system"]), str(said["value"]))
    if patient_id != patient.id:
        connection.execute(update(PATIENT).where(PATIENT.c.id == patient.id).values(id=patient_id))
    study_id = _adopted(connection, STUDY, "ImagingStudy", study.id, DICOM_UID_SYSTEM, f"urn:oid:{study.study_instance_uid}")
    if study_id != study.id:
        connection.execute(update(STUDY).where(STUDY.c.pk == study_pk).values(id=study_id))
    return replace(study, id=study_id, patient=replace(patient, id=patient_id))


def _adopted(connection: Connection, table: Table, type_: str, id_: str, system: str, value: str) -> str:
    owner = resources.by_identity(connection, type_, system, value)
    if owner is None or owner == id_ or resources.known(connection, type_, id_):
        return id_
    taken = connection.execute(select(table.c.pk).where(table.c.id == owner)).first() is not None
    return id_ if taken else owner


def _study_with_added(before: Resource, projection: Resource) -> Resource:
    added = {key: value for key, value in before.items() if key not in OWNED and key != "identifier"}
    if _is_by_name(added.get("referrer")):
        del added["referrer"]
    made = {**projection, **added}
    others = [each for each in before.get("identifier", ()) if not _is_of_study(each)]
    return {**made, "identifier": [*projection.get("identifier", ()), *others]}


def _patient_with_added(before: Resource, projection: Resource) -> Resource:
    return {**projection, **before, "identifier": _identifiers(before, projection)}


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


def _is_by_name(reference: Mapping[str, Any] | None) -> bool:
    return reference is not None and "reference" not in reference and "identifier" not in reference


# --- what is in the catalogue


def _is_catalogued(connection: Connection, type_: str, id_: str) -> bool:
    match type_:
        case "ImagingStudy":
            return _there(connection, STUDY, (STUDY.c.id == id_) & (STUDY.c.version != 0))
        case "Patient":
            return _there(connection, STUDY.join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk), PATIENT.c.id == id_)
        case "DocumentReference":
            return _there(connection, _ENTRY, _ENTRY.c.entry_uuid == f"urn:uuid:{id_}")
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
