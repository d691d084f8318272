"""Whose a study is when its images say another patient: merged patients and moved studies."""

from sqlalchemy import Connection, delete, select, union_all, update

from server.records.catalogue import PATIENT, STUDY
from server.store.db import insert, micros
from server.store.tables import FormerPatient, PatientMerge

FORMER = FormerPatient.__table__  # type: ignore[attr-defined]
MERGE = PatientMerge.__table__  # type: ignore[attr-defined]


def merge(connection: Connection, source_pk: int, target_pk: int) -> None:
    """HL7 v2 ADT A40: from now on what comes for `source_pk` is the target's. Chains are kept short."""
    row = {"target_pk": target_pk, "at": micros()}
    connection.execute(delete(MERGE).where(MERGE.c.source_pk == target_pk))
    connection.execute(update(MERGE).where(MERGE.c.target_pk == source_pk).values(**row))
    connection.execute(
        insert(connection, MERGE).values(source_pk=source_pk, **row).on_conflict_do_update(index_elements=["source_pk"], set_=row)
    )


def merged(connection: Connection, patient_pk: int) -> int:
    """Whose the studies of this patient are: her own, or those of whom she was merged into."""
    found = connection.execute(select(MERGE.c.target_pk).where(MERGE.c.source_pk == patient_pk)).scalar_one_or_none()
    return int(found) if found is not None else patient_pk


def is_same(connection: Connection, id_: str, other_id: str) -> bool:
    """Whether the Patient of the first id is that of the second, or was merged into it."""
    return id_ == other_id or replaced_by(connection, id_) == other_id


def replaced_by(connection: Connection, id_: str) -> str | None:
    """The id of the Patient into whom this one was merged, None where she was not."""
    target = PATIENT.alias()
    found = (
        select(target.c.id)
        .join(MERGE, MERGE.c.target_pk == target.c.pk)
        .join(PATIENT, MERGE.c.source_pk == PATIENT.c.pk)
        .where(PATIENT.c.id == id_)
    )
    patient: str | None = connection.execute(found).scalar_one_or_none()
    return patient


def same(connection: Connection, id_: str) -> frozenset[str]:
    """The ids of all Patients who are this one: of whom she was merged into, and of all who were merged into that one."""
    target = replaced_by(connection, id_) or id_
    former, into = PATIENT.alias(), PATIENT.alias()
    found = (select(former.c.id).join(MERGE, MERGE.c.source_pk == former.c.pk).join(into, MERGE.c.target_pk == into.c.pk)).where(
        into.c.id == target
    )
    return frozenset({id_, target, *connection.execute(found).scalars()})


def rows(connection: Connection, patient_pk: int) -> list[int]:
    """The rows that are this patient's: her own, and those of who was merged into her; none where she was merged herself."""
    if merged(connection, patient_pk) != patient_pk:
        return []
    return [patient_pk, *connection.execute(select(MERGE.c.source_pk).where(MERGE.c.target_pk == patient_pk)).scalars()]


def former(connection: Connection, id_: str) -> frozenset[str]:
    """The ids of the Patients who were merged into this one."""
    return frozenset() if replaced_by(connection, id_) else same(connection, id_) - {id_}


def numbers(connection: Connection, id_: str) -> tuple[str, ...]:
    """The Patient IDs by which images name this patient, those of who was merged into her last; none that this server made up for want of one."""
    own = select(PATIENT.c.pk).where(PATIENT.c.id == id_)
    into_her = select(MERGE.c.source_pk).join(PATIENT, MERGE.c.target_pk == PATIENT.c.pk).where(PATIENT.c.id == id_)
    named = PATIENT.alias()
    is_made_up = select(STUDY.c.pk).where(STUDY.c.uid == named.c.value).exists()
    found = select(named.c.value).where(named.c.pk.in_(union_all(own, into_her)), named.c.value != "", ~is_made_up)
    rows = connection.execute(found.order_by((named.c.id != id_), named.c.pk))
    return tuple(dict.fromkeys(rows.scalars()))


def move(connection: Connection, study_pk: int, patient_pk: int) -> bool:
    """The study is that patient's; its images keep naming the former one, and more of them may come. Returns whether it was another's."""
    former = connection.execute(select(STUDY.c.patient_pk).where(STUDY.c.pk == study_pk)).scalar_one()
    if former == patient_pk:
        return False
    note_former(connection, study_pk, former)
    connection.execute(update(STUDY).where(STUDY.c.pk == study_pk).values(patient_pk=patient_pk))
    return True


def follow(connection: Connection, study_uid: str, former_pk: int, patient_pk: int) -> None:
    """A study that came for `former_pk` while she was merged into `patient_pk` goes along."""
    mine = (STUDY.c.uid == study_uid) & (STUDY.c.patient_pk == former_pk)
    connection.execute(update(STUDY).where(mine).values(patient_pk=patient_pk))


def note_former(connection: Connection, study_pk: int, patient_pk: int) -> None:
    """The images of the study name this patient, whose it is not."""
    connection.execute(insert(connection, FORMER).values(study_pk=study_pk, patient_pk=patient_pk).on_conflict_do_nothing())


def was_patient(connection: Connection, study_pk: int, patient_pk: int) -> bool:
    """Whether the images of a study may name this patient though it is another's now."""
    wanted = (FORMER.c.study_pk == study_pk) & (FORMER.c.patient_pk == patient_pk)
    return connection.execute(select(FORMER.c.study_pk).where(wanted)).first() is not None


def names_another(connection: Connection, study_pk: int) -> bool:
    """Whether some images of the study name another patient than it belongs to."""
    return connection.execute(select(FORMER.c.study_pk).where(FORMER.c.study_pk == study_pk).limit(1)).first() is not None
