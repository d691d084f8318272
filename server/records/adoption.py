"""One resource, whoever came first: the Patient or ImagingStudy that a client made before its images came is the one that they are shown as.

A client's ImagingStudy is that only if it is of the images' patient. What is said of another patient's study is contradicted by the catalogue: it
stays where it is, without the study's identity, and nothing of it gets into the study.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Table, select, update

from profiles.fhir.business_identifiers import unique_identifiers
from profiles.study import Study
from profiles.vocabulary import DICOM_UID_SYSTEM
from server.errors import Unavailable
from server.records import belonging, identities, resources
from server.records.catalogue import PATIENT, STUDY

_ROWS: Final[Mapping[str, Table]] = {"Patient": PATIENT, "ImagingStudy": STUDY}


def patient_id(connection: Connection, authority: str, value: str) -> str:
    """The resource id of a patient that is new to the catalogue: of a client's Patient, or a new one. `authority` is the OID."""
    return _owner(connection, "Patient", f"urn:oid:{authority}", value) or str(uuid.uuid4())


def study_id(connection: Connection, uid: str, patient_pk: int) -> str:
    """The resource id of a study that is new to the catalogue: of a client's ImagingStudy of the same patient, or a new one."""
    owner = _owner(connection, "ImagingStudy", DICOM_UID_SYSTEM, f"urn:oid:{uid}")
    patient = connection.execute(select(PATIENT.c.id).where(PATIENT.c.pk == patient_pk)).scalar_one()
    return owner if owner is not None and _is_of(connection, owner, patient) else str(uuid.uuid4())


def adopted(connection: Connection, study_pk: int, study: Study) -> Study:
    """A study that is to be shown, by the ids that clients gave it and its patient before the catalogue had shown them.

    That is looked for when the rows are made (`records.placing`), and here once more, for what came in between. Whose resource has the
    study's UID though it is another patient's loses that identity.
    """
    patient, said = study.patient, study.patient.identifier.fhir()
    owner = _owner(connection, "Patient", str(said["system"]), str(said["value"]))
    if owner is not None and not _is_there(connection, "Patient", patient.id):
        connection.execute(update(PATIENT).where(PATIENT.c.id == patient.id).values(id=owner))
        patient = replace(patient, id=owner)
    id_ = study.id if study.version > 0 else _shown_as(connection, study, patient.id)
    if id_ != study.id:
        connection.execute(update(STUDY).where(STUDY.c.pk == study_pk).values(id=id_))
    return replace(study, id=id_, patient=patient)


def _shown_as(connection: Connection, study: Study, patient: str) -> str:
    """The id of a study of which nothing is shown: of whoever has its UID, else its own; a new one where both are another patient's."""
    value = f"urn:oid:{study.study_instance_uid}"
    found = identities.by_identity(connection, "ImagingStudy", DICOM_UID_SYSTEM, value)
    owner = found if found == study.id else _owner(connection, "ImagingStudy", DICOM_UID_SYSTEM, value)
    named = (each for each in (owner, study.id) if each is not None and _is_of(connection, each, patient))
    id_ = next(named, None) or str(uuid.uuid4())
    if owner is not None and owner != id_:
        identities.disown(connection, "ImagingStudy", DICOM_UID_SYSTEM, value)
    return id_


def require_sole(connection: Connection, shown: Mapping[str, Any]) -> None:
    """Of a resource that the catalogue has just made: raises `Unavailable` if a client made one of the same identity at the same moment.

    The work is to be done again then: `adopted` finds it.
    """
    type_ = str(shown["resourceType"])
    for system, value in unique_identifiers(shown) if type_ in _ROWS else ():
        owner = _owner(connection, type_, system, value)
        if owner not in (None, shown["id"]):
            raise Unavailable(f"a client wrote this {type_} at the same moment; try again")


def _owner(connection: Connection, type_: str, system: str, value: str) -> str | None:
    """The id of the resource that has this business identifier, unless another row of the catalogue is shown as that."""
    owner = identities.by_identity(connection, type_, system, value)
    rows = _ROWS[type_]
    if owner is None or connection.execute(select(rows.c.pk).where(rows.c.id == owner)).first() is not None:
        return None
    return owner


def _is_of(connection: Connection, id_: str, patient: str) -> bool:
    """Whether an ImagingStudy is, or was when it was deleted, that patient's; also where there is none."""
    said = resources.patient_of(connection, "ImagingStudy", id_)
    return said is None or belonging.is_same(connection, said, patient)


def _is_there(connection: Connection, type_: str, id_: str) -> bool:
    last = resources.last(connection, type_, id_)
    return last is not None and not last.deleted
