"""The catalogue: which patients, studies, series and instances there are. Every face is a projection of it.

An instance is admitted when its bytes are safe, and published with its study after the quiet period. What is not
published is invisible to every face, so no face ever shows half a study or disagrees with another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select, update

from profiles import study as values
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from server.errors import NotFound
from server.records import results
from server.store.prepared import Prepared
from server.store.tables import Blob as BlobRow
from server.store.tables import Instance, Original, Patient, Series, Study

PATIENT = Patient.__table__  # type: ignore[attr-defined]
STUDY = Study.__table__  # type: ignore[attr-defined]
SERIES = Series.__table__  # type: ignore[attr-defined]
INSTANCE = Instance.__table__  # type: ignore[attr-defined]
BLOB = BlobRow.__table__  # type: ignore[attr-defined]
ORIGINAL = Original.__table__  # type: ignore[attr-defined]

PUBLISHED = INSTANCE.c.published == 1
WAITING = INSTANCE.c.published == 0
REJECTED = INSTANCE.c.published == 2
"""Withdrawn (`server.records.rejections`): kept, and hidden from every face."""

EMPTIED = b"{}"
"""`attributes` of a study or series that was purged (`scrub`); any other has its UID in it at least."""


class StoredInstance(NamedTuple):
    """One instance with what it takes to send it. `patient` is the resource id that access is decided by. Studies have thousands: a tuple is made soonest."""

    pk: int
    study_uid: str
    series_uid: str
    uid: str
    sop_class: str
    transfer_syntax: str
    frames: int
    blob_id: str
    size: int
    dataset_offset: int
    patient: str


_STORED = (
    INSTANCE.c.pk,
    STUDY.c.uid.label("study_uid"),
    SERIES.c.uid.label("series_uid"),
    INSTANCE.c.uid,
    INSTANCE.c.sop_class,
    INSTANCE.c.transfer_syntax,
    INSTANCE.c.frames,
    INSTANCE.c.blob_id,
    BLOB.c.size,
    INSTANCE.c.dataset_offset,
    PATIENT.c.id.label("patient"),
)
_PORTIONS = 1, 20, 500
"""How many instances are looked for at once: what is missing to one of these is filled up."""
_JOINED = INSTANCE.join(SERIES, INSTANCE.c.series_pk == SERIES.c.pk).join(STUDY, INSTANCE.c.study_pk == STUDY.c.pk).join(
    PATIENT, STUDY.c.patient_pk == PATIENT.c.pk
).join(BLOB, INSTANCE.c.blob_id == BLOB.c.id)  # fmt: skip


def instances(
    connection: Connection, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None
) -> list[StoredInstance]:
    """The published instances of a study, series, or the one named, in series and instance order. Empty where none is."""
    named = {"study": study_uid, "series": series_uid, "instance": sop_uid}
    given = {name: uid for name, uid in named.items() if uid is not None}
    return [StoredInstance(*row) for row in _located(tuple(given)).rows(connection, given)]


@cache
def _located(names: tuple[str, ...]) -> Prepared:
    """Built once: building a statement takes as long as a frame."""
    columns = {"study": STUDY.c.uid, "series": SERIES.c.uid, "instance": INSTANCE.c.uid}
    statement = (
        select(*_STORED)
        .select_from(_JOINED)
        .where(PUBLISHED, *(columns[name] == bindparam(name) for name in names))
        .order_by(_last_if_none(SERIES.c.number), SERIES.c.uid, _last_if_none(INSTANCE.c.number), INSTANCE.c.uid)
    )
    return Prepared(lambda _: statement, names)


def by_sop_uid(connection: Connection, uids: Sequence[str]) -> dict[str, StoredInstance]:
    """The published instances among `uids`, by their SOP Instance UID."""
    found: dict[str, StoredInstance] = {}
    for start in range(0, len(uids), _PORTIONS[-1]):
        some = list(uids[start : start + _PORTIONS[-1]])
        size = next(size for size in _PORTIONS if size >= len(some))
        given = {f"uid{number}": uid for number, uid in enumerate(some + some[:1] * (size - len(some)))}
        found |= {instance.uid: instance for instance in map(StoredInstance._make, _among(size).rows(connection, given))}
    return found


@cache
def _among(size: int) -> Prepared:
    """Built once for each of `_PORTIONS`."""
    names = tuple(f"uid{number}" for number in range(size))
    statement = select(*_STORED).select_from(_JOINED).where(PUBLISHED, INSTANCE.c.uid.in_(list(map(bindparam, names))))
    return Prepared(lambda _: statement, names)


def under(
    connection: Connection,
    allowed: ColumnElement[bool],
    *,
    patient: str | None = None,
    studies: Sequence[str] = (),
    series: Sequence[str] = (),
    uids: Sequence[str] = (),
) -> list[StoredInstance]:
    """The published instances that are in all that is named: a Patient ID, studies, series, SOP Instance UIDs. Ordered as `instances`.

    `allowed` is the caller's Decision over `STUDY` and `PATIENT`. At most one of the three lists may have more than 500 UIDs.
    """
    wanted = [PUBLISHED, allowed]
    if patient is not None:
        wanted += [PATIENT.c.value == patient, PATIENT.c.value != STUDY.c.uid]
    lists = sorted(((STUDY.c.uid, studies), (SERIES.c.uid, series), (INSTANCE.c.uid, uids)), key=lambda pair: len(pair[1]))
    wanted += [column.in_(values_) for column, values_ in lists[:2] if values_]
    column, longest = lists[2]
    found: list[StoredInstance] = []
    for start in range(0, max(len(longest), 1), 500):
        part = longest[start : start + 500]
        rows = connection.execute(
            select(*_STORED)
            .select_from(_JOINED)
            .where(*wanted, *([column.in_(part)] if part else []))
            .order_by(STUDY.c.pk, _last_if_none(SERIES.c.number), SERIES.c.uid, _last_if_none(INSTANCE.c.number), INSTANCE.c.uid)
        )
        found += [StoredInstance(*row) for row in rows]
    return found


def stored(connection: Connection, sop_uid: str) -> StoredInstance | None:
    """The instance of that UID, published or not, with the bytes that came: corrected since or not.

    For the doors in, which must know what they would collide with.
    """
    row = connection.execute(
        select(*_STORED, ORIGINAL.c.blob_id.label("first"), ORIGINAL.c.dataset_offset.label("first_offset"))
        .select_from(_JOINED.outerjoin(ORIGINAL, ORIGINAL.c.instance_pk == INSTANCE.c.pk))
        .where(INSTANCE.c.uid == sop_uid)
    ).first()
    if row is None:
        return None
    *values_, first, offset = row
    found = StoredInstance(*values_)
    return found if first is None else found._replace(blob_id=first, dataset_offset=offset)


def studies_of(connection: Connection, uids: Sequence[str]) -> dict[str, str]:
    """The Study Instance UIDs of those of these instances that are here, published or not, by their SOP Instance UIDs."""
    found: dict[str, str] = {}
    for start in range(0, len(uids), _PORTIONS[-1]):
        some = uids[start : start + _PORTIONS[-1]]
        joined = select(INSTANCE.c.uid, STUDY.c.uid).join(STUDY, INSTANCE.c.study_pk == STUDY.c.pk)
        found |= {uid: study for uid, study in connection.execute(joined.where(INSTANCE.c.uid.in_(some)))}
    return found


def study_pk(connection: Connection, study_uid: str) -> int:
    """Row of a study, whether or not anything of it is visible. Raises `NotFound`."""
    found = connection.execute(select(STUDY.c.pk).where(STUDY.c.uid == study_uid)).scalar_one_or_none()
    if found is None:
        raise NotFound("no such study")
    return int(found)


def study_patient(connection: Connection, study_uid: str) -> str:
    """Resource id of the patient of a published study. Raises `NotFound`."""
    found = connection.execute(
        select(PATIENT.c.id).join(STUDY, STUDY.c.patient_pk == PATIENT.c.pk).where(STUDY.c.uid == study_uid, STUDY.c.version > 0)
    ).scalar_one_or_none()
    if found is None:
        raise NotFound("no such study")
    return str(found)


def arriving_patient(connection: Connection, study_uid: str) -> str | None:
    """Resource id of the patient of a study of which nothing has been published yet; None for every other study, and for none."""
    found: str | None = connection.execute(
        select(PATIENT.c.id).join(STUDY, STUDY.c.patient_pk == PATIENT.c.pk).where(STUDY.c.uid == study_uid, STUDY.c.version == 0)
    ).scalar_one_or_none()
    return found


def load(connection: Connection, study_pk: int, *, prepared: bool = False) -> values.Study:
    """The study as published; with `prepared`, as it will be once its prepared instances are published too."""
    row = connection.execute(
        select(STUDY, *(c.label(f"patient_{c.name}") for c in PATIENT.c))
        .join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        .where(STUDY.c.pk == study_pk)
    ).one()
    ready = and_(WAITING, INSTANCE.c.dicom_json.is_not(None))
    visible: ColumnElement[bool] = or_(PUBLISHED, ready) if prepared else PUBLISHED
    members: dict[int, list[values.Instance]] = {}
    for found in connection.execute(
        select(
            INSTANCE.c.series_pk, INSTANCE.c.uid, INSTANCE.c.sop_class, INSTANCE.c.transfer_syntax, INSTANCE.c.number,
            INSTANCE.c.rows, INSTANCE.c.columns, INSTANCE.c.frames, INSTANCE.c.title,
        )
        .where(INSTANCE.c.study_pk == study_pk, visible)
        .order_by(_last_if_none(INSTANCE.c.number), INSTANCE.c.uid)
    ):  # fmt: skip
        members.setdefault(found[0], []).append(values.Instance(*found[1:]))
    series = tuple(
        values.Series(
            series_instance_uid=found.uid, modality=found.modality, number=found.number, description=found.description,
            body_part=found.body_part, laterality=found.laterality, date=found.date, time=found.time,
            instances=tuple(members[found.pk]),
        )
        for found in connection.execute(
            select(SERIES).where(SERIES.c.study_pk == study_pk).order_by(_last_if_none(SERIES.c.number), SERIES.c.uid)
        )
        if found.pk in members
    )  # fmt: skip
    identifier = PatientIdentifier(row.patient_value, AssigningAuthority(row.patient_authority, row.patient_namespace))
    return values.Study(
        study_instance_uid=row.uid,
        patient=values.Patient(identifier, row.patient_name, row.patient_birth_date, row.patient_sex, row.patient_id),
        study_id=row.study_id,
        accession_number=row.accession_number,
        accession_authority=row.accession_authority,
        date=row.date,
        time=row.time,
        timezone=row.timezone,
        description=row.description,
        referring_physician=row.referring_physician,
        institution=row.institution,
        series=series,
        id=row.id,
        version=row.version,
        modalities=tuple(sorted({found.modality for found in series if found.modality})),
    )


def pending(connection: Connection, study_pk: int, *, prepared: bool) -> list[tuple[int, str]]:
    """(pk, blob id) of the study's unpublished instances that are, or are not yet, prepared."""
    state = INSTANCE.c.dicom_json.is_not(None) if prepared else INSTANCE.c.dicom_json.is_(None)
    rows = connection.execute(
        select(INSTANCE.c.pk, INSTANCE.c.blob_id)
        .where(INSTANCE.c.study_pk == study_pk, INSTANCE.c.published == 0, state)
        .order_by(INSTANCE.c.pk)
    )
    return [(row.pk, row.blob_id) for row in rows]


def prepare(
    connection: Connection, pk: int, blob_id: str, *, attributes: bytes, dicom_json: bytes, frame_table: bytes | None
) -> None:
    """Keeps what was made of a waiting instance's bytes `blob_id`: DICOM JSON (zstd), QIDO attributes, frame offsets.

    Nothing is kept where it was corrected, withdrawn or purged meanwhile; it is `pending` as before then, if it waits still.
    """
    connection.execute(
        update(INSTANCE)
        .where(INSTANCE.c.pk == pk, INSTANCE.c.blob_id == blob_id, WAITING)
        .values(attributes=attributes, dicom_json=dicom_json, frame_table=frame_table)
    )


def hashed(connection: Connection, blob_id: str, sha256: bytes) -> None:
    """Keeps the SHA-256 of a blob that was made after the acknowledgement; the first one stays."""
    connection.execute(update(BLOB).where(BLOB.c.id == blob_id, BLOB.c.sha256.is_(None)).values(sha256=sha256))


def publish(connection: Connection, study_pk: int, study: values.Study, instance_pks: Sequence[int], *, updated: int) -> bool:
    """Makes `instance_pks` visible and the study's counts those of `study`. False if the study was published or changed meanwhile.

    The caller's transaction has to end then, with nothing kept.
    The version of a study with nothing left to show is negative; its next publication counts on from there.
    """
    version = abs(study.version) + 1
    moved = connection.execute(
        update(STUDY)
        .where(STUDY.c.pk == study_pk, STUDY.c.version == study.version)
        .values(
            version=version if study.series else -version,
            updated=updated,
            modalities="".join(f"\\{m}" for m in study.modalities) + "\\" if study.modalities else "",
            series_count=len(study.series),
            instance_count=study.instance_count,
        )
    )
    if not moved.rowcount:
        return False
    for start in range(0, len(instance_pks), 500):
        some = instance_pks[start : start + 500]
        if connection.execute(update(INSTANCE).where(INSTANCE.c.pk.in_(some), WAITING).values(published=1)).rowcount != len(some):
            return False
    connection.execute(update(SERIES).where(SERIES.c.study_pk == study_pk, SERIES.c.instance_count > 0).values(instance_count=0))
    for series in study.series:
        connection.execute(
            update(SERIES).where(SERIES.c.uid == series.series_instance_uid).values(instance_count=len(series.instances))
        )
    results.refresh(connection, study_pk, study, instance_pks)
    return True


def was_shown(connection: Connection, study_pk: int) -> bool:
    """Whether the study was ever published, whatever is left of it."""
    return bool(connection.execute(select(STUDY.c.updated).where(STUDY.c.pk == study_pk)).scalar_one())


def outrun(connection: Connection, study_pk: int) -> None:
    """A study of which nothing is to be seen was changed: whoever is about to publish it (`publish`) has to look again."""
    connection.execute(update(STUDY).where(STUDY.c.pk == study_pk).values(version=-func.abs(STUDY.c.version) - 1))


def scrub(connection: Connection, study_pk: int) -> bool:
    """Forgets what series, and the study, without any instance were about. Returns whether the whole study is empty now.

    The rows stay: an association that stores into them at this moment remembers their keys, and SQLite would give these out again.
    """
    filled = select(INSTANCE.c.series_pk).where(INSTANCE.c.study_pk == study_pk)
    connection.execute(
        update(SERIES)
        .where(SERIES.c.study_pk == study_pk, SERIES.c.pk.not_in(filled))
        .values(description="", body_part="", laterality="", date="", time="", attributes=EMPTIED, result=None)
    )
    if connection.execute(filled.limit(1)).first() is not None:
        return False
    connection.execute(
        update(STUDY)
        .where(STUDY.c.pk == study_pk)
        .values(
            study_id="", accession_number="", accession_authority="", date="", time="", timezone="", description="",
            referring_physician="", referring_folded="", institution="", attributes=EMPTIED,
        )
    )  # fmt: skip
    return True


@dataclass(frozen=True, slots=True)
class Source:
    """Where an instance came from: `sender` is the peer's AE title or client id."""

    blob_id: str
    sender: str
    patient_pk: int


def source(connection: Connection, instance_pk: int) -> Source | None:
    """The bytes and the sender of an instance, None where it is gone."""
    row = connection.execute(
        select(INSTANCE.c.blob_id, INSTANCE.c.source, STUDY.c.patient_pk)
        .join(STUDY, INSTANCE.c.study_pk == STUDY.c.pk)
        .where(INSTANCE.c.pk == instance_pk)
    ).first()
    return Source(row.blob_id, row.source.partition(" ")[2], row.patient_pk) if row is not None else None


def blob_ids(connection: Connection) -> set[str]:
    """Every blob that a row names."""
    return set(connection.execute(select(BLOB.c.id)).scalars())


def names_blob(connection: Connection, blob_id: str) -> bool:
    """Whether a row names this blob."""
    return connection.execute(select(BLOB.c.id).where(BLOB.c.id == blob_id)).first() is not None


def counts(connection: Connection) -> dict[str, int]:
    """How many published studies and instances there are, and how many instances wait."""
    return {
        "studies": int(connection.execute(select(func.count()).select_from(STUDY).where(STUDY.c.version > 0)).scalar_one()),
        "instances": int(connection.execute(select(func.count()).select_from(INSTANCE).where(PUBLISHED)).scalar_one()),
        "pending": int(connection.execute(select(func.count()).select_from(INSTANCE).where(WAITING)).scalar_one()),
    }


def _last_if_none(column: ColumnElement[int | None]) -> ColumnElement[int]:
    # The engines put NULL at different ends.
    return func.coalesce(column, 1 << 62)


def patient_id(connection: Connection, patient_pk: int) -> str:
    """Resource id of a patient's row."""
    return str(connection.execute(select(PATIENT.c.id).where(PATIENT.c.pk == patient_pk)).scalar_one())


def study_id(connection: Connection, study_pk: int) -> str:
    """Resource id of a study's row: its ImagingStudy."""
    return str(connection.execute(select(STUDY.c.id).where(STUDY.c.pk == study_pk)).scalar_one())


def patient_pk(connection: Connection, study_pk: int) -> int:
    """Row of the patient of a study's row."""
    return int(connection.execute(select(STUDY.c.patient_pk).where(STUDY.c.pk == study_pk)).scalar_one())


_FRAME_TABLE = Prepared(lambda _: select(INSTANCE.c.frame_table).where(INSTANCE.c.pk == bindparam("pk")), ("pk",))


def frame_table(connection: Connection, instance_pk: int) -> bytes | None:
    """The stored frame table (`profiles.frames.FrameTable`) of a prepared instance."""
    ((found,),) = _FRAME_TABLE.rows(connection, {"pk": instance_pk})
    return bytes(found) if found is not None else None


def dicom_json(connection: Connection, instance_pks: Sequence[int]) -> Iterator[bytes]:
    """The packed DICOM JSON of each of `instance_pks`, in their order."""
    for start in range(0, len(instance_pks), 100):
        part = instance_pks[start : start + 100]
        rows = connection.execute(select(INSTANCE.c.pk, INSTANCE.c.dicom_json).where(INSTANCE.c.pk.in_(part)))
        found = {pk: bytes(body) for pk, body in rows}
        yield from (found[pk] for pk in part)


def some_dicom_json(connection: Connection, instance_pks: Sequence[int], most: int) -> list[bytes]:
    """The packed DICOM JSON of the first of `instance_pks`: at least one, a hundred at most, and together `most` bytes.

    Empty for an instance that is gone.
    """
    part = instance_pks[:100]
    sizes = select(INSTANCE.c.pk, func.length(INSTANCE.c.dicom_json)).where(INSTANCE.c.pk.in_(part))
    known = {pk: size or 0 for pk, size in connection.execute(sizes)}
    total, count = 0, 0
    for pk in part:
        total += known.get(pk, 0)
        if count and total > most:
            break
        count += 1
    wanted = part[:count]
    rows = connection.execute(select(INSTANCE.c.pk, INSTANCE.c.dicom_json).where(INSTANCE.c.pk.in_(wanted)))
    found = {pk: bytes(body) for pk, body in rows if body}
    return [found.get(pk, b"") for pk in wanted]
