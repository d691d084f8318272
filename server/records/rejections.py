"""Instances that were withdrawn: hidden and kept, or purged and kept from coming back unseen (IHE RAD TF-1, IOCM).

A rejected instance keeps its row with `published` 2, so every face passes over it. A purged one has only its tombstone here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Connection, bindparam, delete, select, update

from profiles.vocabulary import KEY_OBJECT_SELECTION
from server.errors import RejectedInstance
from server.records.catalogue import BLOB, INSTANCE, ORIGINAL, REJECTED, SERIES, STUDY
from server.store.db import insert, micros
from server.store.prepared import Prepared
from server.store.tables import Erasure, LegalHold, Rejection

REJECTION = Rejection.__table__  # type: ignore[attr-defined]
ERASURE = Erasure.__table__  # type: ignore[attr-defined]
HOLD = LegalHold.__table__  # type: ignore[attr-defined]

QUALITY: Final = "113001"
PATIENT_SAFETY: Final = "113037"
WRONG_WORKLIST: Final = "113038"
RETENTION: Final = "113039"
DELETED: Final = "deleted"
REASONS: Final = {
    QUALITY: "Rejected for Quality Reasons",
    PATIENT_SAFETY: "Rejected for Patient Safety Reasons",
    WRONG_WORKLIST: "Incorrect Modality Worklist Entry",
    RETENTION: "Data Retention Policy Expired",
}
"""PS3.16 CID 7011, coding scheme DCM: the titles of a rejection note."""
_REJECTED: Final = select(REJECTION.c.reason, REJECTION.c.purged).where(REJECTION.c.uid == bindparam("uid"))
_KNOWN: Final = Prepared(lambda _: _REJECTED, ("uid",))
_TOGETHER = 500
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Affected:
    """An instance that is to be withdrawn, restored or purged."""

    pk: int
    uid: str
    series_uid: str
    study_uid: str
    state: int
    """`instance.published`."""


def affected(
    connection: Connection, study_uid: str, series_uid: str | None = None, uids: Sequence[str] | None = None
) -> list[Affected]:
    """The instances of a study, series or those named, whatever their state."""
    wanted = [STUDY.c.uid == study_uid]
    if series_uid is not None:
        wanted.append(SERIES.c.uid == series_uid)
    query = (
        select(INSTANCE.c.pk, INSTANCE.c.uid, SERIES.c.uid, STUDY.c.uid, INSTANCE.c.published)
        .join(SERIES, INSTANCE.c.series_pk == SERIES.c.pk)
        .join(STUDY, INSTANCE.c.study_pk == STUDY.c.pk)
        .where(*wanted)
        .order_by(INSTANCE.c.pk)
    )
    if uids is None:
        return [Affected(*row) for row in connection.execute(query)]
    return [Affected(*row) for some in _portions(uids) for row in connection.execute(query.where(INSTANCE.c.uid.in_(some)))]


def reject(connection: Connection, found: Sequence[Affected], *, reason: str, who: str, note: str = "") -> None:
    """Hides them. Whoever was rejected before stays as it is."""
    now = micros()
    for each in _portions([one for one in found if one.state != 2]):
        pks = [one.pk for one in each]
        # What was never shown is made ready anew when it is restored: `restore` knows it by this.
        connection.execute(update(INSTANCE).where(INSTANCE.c.pk.in_(pks), INSTANCE.c.published == 0).values(dicom_json=None))
        connection.execute(update(INSTANCE).where(INSTANCE.c.pk.in_(pks)).values(published=2))
        _mark(connection, each, reason=reason, who=who, note=note, at=now, purged=0)


def restore(connection: Connection, found: Sequence[Affected]) -> None:
    """Shows rejected ones again; what had never been published waits as before, for the caller to enqueue."""
    for each in _portions([one for one in found if one.state == 2]):
        pks = [one.pk for one in each]
        connection.execute(update(INSTANCE).where(INSTANCE.c.pk.in_(pks), INSTANCE.c.dicom_json.is_(None)).values(published=0))
        connection.execute(update(INSTANCE).where(INSTANCE.c.pk.in_(pks), REJECTED).values(published=1))
        connection.execute(delete(REJECTION).where(REJECTION.c.uid.in_([one.uid for one in each])))


def purge(connection: Connection, found: Sequence[Affected], *, reason: str, who: str) -> list[str]:
    """Removes rows of instances and blobs, leaving a tombstone each. Returns the blobs whose files are to be erased."""
    now, blobs = micros(), list[str]()
    for each in _portions(found):
        pks = [one.pk for one in each]
        some = list(connection.execute(select(INSTANCE.c.blob_id).where(INSTANCE.c.pk.in_(pks))).scalars())
        some += connection.execute(select(ORIGINAL.c.blob_id).where(ORIGINAL.c.instance_pk.in_(pks))).scalars()
        connection.execute(delete(ORIGINAL).where(ORIGINAL.c.instance_pk.in_(pks)))
        connection.execute(delete(INSTANCE).where(INSTANCE.c.pk.in_(pks)))
        _mark(connection, each, reason=reason, who=who, note="", at=now, purged=now)
        forget_blobs(connection, some)
        blobs += some
    return blobs


def forget_blobs(connection: Connection, blob_ids: Sequence[str]) -> None:
    """Removes the rows of blobs that nothing names any more; their files are erased after the commit."""
    now = micros()
    for some in _portions(blob_ids):
        connection.execute(delete(BLOB).where(BLOB.c.id.in_(some)))
        connection.execute(ERASURE.insert(), [{"blob_id": blob_id, "at": now} for blob_id in some])


def erasable(connection: Connection, limit: int = _TOGETHER) -> list[str]:
    """Blobs whose rows are gone and whose files are to be removed."""
    return list(connection.execute(select(ERASURE.c.blob_id).order_by(ERASURE.c.at).limit(limit)).scalars())


def all_erasable(connection: Connection) -> set[str]:
    """Every such blob: for the sweep, which must not set them aside."""
    return set(connection.execute(select(ERASURE.c.blob_id)).scalars())


def erased(connection: Connection, blob_ids: Sequence[str]) -> None:
    for some in _portions(blob_ids):
        connection.execute(delete(ERASURE).where(ERASURE.c.blob_id.in_(some)))


def lift(connection: Connection, study_uid: str, series_uid: str | None = None, uid: str | None = None) -> int:
    """Removes tombstones, so that what was purged may be sent again. Returns how many."""
    wanted = [REJECTION.c.study_uid == study_uid, REJECTION.c.purged > 0]
    if series_uid is not None:
        wanted.append(REJECTION.c.series_uid == series_uid)
    if uid is not None:
        wanted.append(REJECTION.c.uid == uid)
    return len(connection.execute(delete(REJECTION).where(*wanted).returning(REJECTION.c.uid)).all())


def refusals(connection: Connection, uids: Sequence[str]) -> dict[str, RejectedInstance]:
    """Which of `uids` must not come in (again), each with its error. For the doors, once per group of arrivals.

    What was deleted because its time was over may come back.
    """
    found: dict[str, RejectedInstance] = {}
    for uid in uids:
        for reason, purged in _KNOWN.rows(connection, {"uid": uid}):
            if not (reason == RETENTION and purged):
                why = "deleted" if reason == DELETED else f"rejected ({reason}, DCM)"
                found[uid] = RejectedInstance(
                    f"this SOP Instance UID was {why} here; restore it first", "rejected or deleted here before"
                )
    return found


def notes(connection: Connection, instance_pks: Sequence[int]) -> list[int]:
    """Those among the instances that are Key Object Selections: they may be rejection notes."""
    return [
        pk
        for some in _portions(instance_pks)
        for pk in connection.execute(
            select(INSTANCE.c.pk).where(INSTANCE.c.pk.in_(some), INSTANCE.c.sop_class == KEY_OBJECT_SELECTION)
        ).scalars()
    ]


def held(connection: Connection, study_uids: Iterable[str]) -> set[str]:
    """The studies among `study_uids` that are under a legal hold."""
    wanted = sorted(set(study_uids))
    return {
        uid
        for some in _portions(wanted)
        for uid in connection.execute(select(HOLD.c.study_uid).where(HOLD.c.study_uid.in_(some))).scalars()
    }


def hold(connection: Connection, study_uid: str, *, why: str, who: str) -> None:
    """Puts a study under a legal hold; again changes the reason."""
    values = {"why": why, "who": who, "at": micros()}
    connection.execute(
        insert(connection, HOLD)
        .values(study_uid=study_uid, **values)
        .on_conflict_do_update(index_elements=["study_uid"], set_=values)
    )


def release(connection: Connection, study_uid: str) -> bool:
    """Ends a legal hold. Returns whether there was one."""
    return bool(connection.execute(delete(HOLD).where(HOLD.c.study_uid == study_uid).returning(HOLD.c.study_uid)).all())


def _mark(connection: Connection, found: Sequence[Affected], *, reason: str, who: str, note: str, at: int, purged: int) -> None:
    changing = {"reason": reason, "who": who, "at": at, "purged": purged, **({"note": note} if note else {})}
    for one in found:
        connection.execute(
            insert(connection, REJECTION)
            .values(
                uid=one.uid, study_uid=one.study_uid, series_uid=one.series_uid, reason=reason, note=note, who=who, at=at,
                purged=purged,
            )
            .on_conflict_do_update(index_elements=["uid"], set_=changing)
        )  # fmt: skip


def _portions(keys: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (keys[start : start + _TOGETHER] for start in range(0, len(keys), _TOGETHER))
