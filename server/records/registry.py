"""The Document Registry's rows: objects in versions, Associations, and the documents of the Repository (ITI TF-3 section 4.2).

Whose an object is says `patient_pk`; the patient id that it shows is that patient's now, whoever she was merged into meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Join,
    Select,
    String,
    Table,
    any_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)

from profiles.document import Association, Code, DocumentEntry, Folder, SubmissionSet
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from server.records.belonging import MERGE
from server.records.catalogue import PATIENT
from server.records.registry_values import Kind, Registered, dumped, kind_of, loaded, terms
from server.store.many import Adding, many
from server.store.prepared import Prepared
from server.store.tables import RegistryAssociation, RegistryObject, RegistryTerm, RepositoryDocument

OBJECT = RegistryObject.__table__  # type: ignore[attr-defined]
TERM = RegistryTerm.__table__  # type: ignore[attr-defined]
ASSOCIATION = RegistryAssociation.__table__  # type: ignore[attr-defined]
DOCUMENT = RepositoryDocument.__table__  # type: ignore[attr-defined]
Origin = Literal["study", "xds", "fhir"]
_NOTHING = dict.fromkeys(("object_type", "time", "service_start", "service_stop", "source_id", "hash"), "")
_TOGETHER = 500
"""Engines limit how many values one statement may carry."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is now. `patient` is the resource id that access is decided by, `created` in microseconds."""

    pk: int
    value: Registered
    patient: str
    patient_pk: int
    origin: Origin
    created: int
    study_pk: int | None = None

    @property
    def entry(self) -> DocumentEntry:
        """The Document Entry that it is."""
        assert isinstance(self.value, DocumentEntry)
        return self.value


def add(
    connection: Connection, value: Registered, *, patient_pk: int, origin: Origin, now: int, study_pk: int | None = None
) -> int:
    """A new object, or a new version of one (`logical_id`, `version`). Returns its pk. `now` is in microseconds."""
    return add_all(connection, [value], patient_pk=patient_pk, origin=origin, now=now, study_pk=study_pk)[0]


def add_all(
    connection: Connection,
    values: Sequence[Registered],
    *,
    patient_pk: int,
    origin: Origin,
    now: int,
    study_pk: int | None = None,
) -> list[int]:
    """As `add`, of many of one patient, with a few statements for all of them. Returns their pks, in order."""
    of_all = {"patient_pk": patient_pk, "origin": origin, "study_pk": study_pk, "created": now}
    pks: list[int] = _ADDING.add(connection, [{**_NOTHING, **_row(each), **of_all} for each in values])
    many(TERM).insert(
        connection,
        [(pk, number, *term) for pk, value in zip(pks, values, strict=True) for number, term in enumerate(terms(value))],
    )
    return pks


def _row(value: Registered) -> dict[str, Any]:
    row = {
        "kind": kind_of(value), "entry_uuid": value.entry_uuid, "unique_id": value.unique_id, "status": value.status,
        "logical_id": getattr(value, "logical_id", "") or value.entry_uuid, "version": getattr(value, "version", 1),
        "body": dumped(value),
    }  # fmt: skip
    match value:
        case DocumentEntry():
            more = {"object_type": value.object_type, "time": value.creation_time, "hash": value.hash.lower()}
            return row | more | {"service_start": value.service_start, "service_stop": value.service_stop}
        case SubmissionSet():
            return row | {"time": value.submission_time, "source_id": value.source_id}
        case Folder():
            return row | {"time": value.last_update}


def associate(connection: Connection, associations: Sequence[Association]) -> None:
    """New Associations."""
    rows = [
        {
            "entry_uuid": each.entry_uuid, "type": each.type, "source": each.source, "target": each.target, "status": each.status,
            "body": dumped(each),
        }
        for each in associations
    ]  # fmt: skip
    _ADD_ASSOCIATION.run_each(connection, rows)


def _names(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.name != "pk")


_ADDING: Final = Adding(OBJECT, ("entry_uuid",), "pk")
_ADD_ASSOCIATION = Prepared(lambda _: ASSOCIATION.insert(), _names(ASSOCIATION))


def set_status(connection: Connection, entry_uuids: Iterable[str], status: str) -> None:
    """Of objects and Associations alike."""
    ids = list(entry_uuids)
    for table in (OBJECT, ASSOCIATION):
        connection.execute(update(table).where(table.c.entry_uuid.in_(ids)).values(status=status))


def set_time(connection: Connection, entry_uuids: Iterable[str], time: str) -> None:
    """ITI TF-3 section 4.2.3.4.6: lastUpdateTime of Folders, DTM in UTC."""
    connection.execute(
        update(OBJECT).where(OBJECT.c.entry_uuid.in_(list(entry_uuids)), OBJECT.c.kind == "folder").values(time=time)
    )


def give(connection: Connection, pks: Sequence[int], patient_pk: int) -> None:
    """These objects are that patient's from now on."""
    for start in range(0, len(pks), _TOGETHER):
        some = OBJECT.c.pk.in_(pks[start : start + _TOGETHER])
        connection.execute(update(OBJECT).where(some).values(patient_pk=patient_pk))


def rewrite(connection: Connection, values: Mapping[int, Registered]) -> None:
    """What is said of objects, by their pks, where no query looks for it."""
    for pk, value in values.items():
        connection.execute(update(OBJECT).where(OBJECT.c.pk == pk).values(body=dumped(value)))


def remove(connection: Connection, entry_uuids: Iterable[str]) -> None:
    """ITI-62: objects and Associations, but not what else leads to them: that is to be named too."""
    ids = list(entry_uuids)
    mine = select(OBJECT.c.pk).where(OBJECT.c.entry_uuid.in_(ids))
    connection.execute(delete(TERM).where(TERM.c.object_pk.in_(mine)))
    connection.execute(delete(OBJECT).where(OBJECT.c.entry_uuid.in_(ids)))
    connection.execute(delete(ASSOCIATION).where(ASSOCIATION.c.entry_uuid.in_(ids)))


# --- reading


class _Row(NamedTuple):
    """What is read of an object, and of the patient whose it is."""

    pk: int
    kind: Kind
    body: bytes
    status: str
    time: str
    logical_id: str
    version: int
    origin: Origin
    created: int
    study_pk: int | None
    whose: int
    id: str
    authority: str
    value: str


def objects(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Stored]:
    """Those objects, the newest first, no more than `limit`."""
    return [_stored(_Row(*row)) for row in connection.execute(_SELECTED.where(*where).limit(limit)).all()]


def _selection() -> "Select[Any]":
    """Rows as `_Row`. Whose an object is follows merges (ITI TF-2 section 3.18.4.1.2.3.9.1)."""
    whose = PATIENT.c.pk.label("whose"), PATIENT.c.id, PATIENT.c.authority, PATIENT.c.value
    found = select(*(OBJECT.c[name] for name in _Row._fields if name in OBJECT.c), *whose)
    return found.select_from(owned()).order_by(OBJECT.c.created.desc(), OBJECT.c.pk.desc())


def owned() -> Join:
    """Objects with the patients whose they are: those of whom hers was merged into."""
    merged = OBJECT.outerjoin(MERGE, MERGE.c.source_pk == OBJECT.c.patient_pk)
    found: Join = merged.join(PATIENT, PATIENT.c.pk == func.coalesce(MERGE.c.target_pk, OBJECT.c.patient_pk))
    return found


_SELECTED: Final = _selection()


def _stored(row: _Row) -> Stored:
    columns: dict[str, Any] = {
        "patient_id": PatientIdentifier(row.value, AssigningAuthority(row.authority)).cx,
        "status": row.status,
    }
    if row.kind == "folder":
        columns["last_update"] = row.time
    if row.kind != "submission":
        columns |= {"logical_id": row.logical_id, "version": row.version}
    return Stored(row.pk, loaded(row.kind, row.body, **columns), row.id, row.whose, row.origin, row.created, row.study_pk)


def registered_of(connection: Connection, patient_pks: Sequence[int]) -> list[str]:
    """The entryUUIDs of what XDS registered of these patients."""
    theirs = select(OBJECT.c.entry_uuid).where(OBJECT.c.patient_pk.in_(patient_pks), OBJECT.c.origin == "xds")
    return list(connection.execute(theirs).scalars())


def by_uuid(connection: Connection, entry_uuids: Iterable[str]) -> list[Stored]:
    """The objects of these entryUUIDs."""
    return _each(connection, _BY_UUID, entry_uuids)


def by_unique_id(connection: Connection, unique_ids: Iterable[str]) -> list[Stored]:
    """The objects of these uniqueIds."""
    return _each(connection, _BY_UNIQUE_ID, unique_ids)


def by_logical_id(connection: Connection, logical_ids: Iterable[str]) -> list[Stored]:
    """All versions of these objects."""
    return _each(connection, _BY_LOGICAL_ID, logical_ids)


def _each(connection: Connection, by: Prepared, ids: Iterable[str]) -> list[Stored]:
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return []
    given = orjson.dumps(wanted).decode() if connection.dialect.name == "sqlite" else wanted
    return [_stored(_Row(*row)) for row in by.rows(connection, {"ids": given})]


def _by(name: str) -> Prepared:
    """The objects whose column of this `name` has one of the values `ids`, however many: JSON for SQLite, a list for PostgreSQL."""
    column: ColumnElement[str] = OBJECT.c[name]

    def made(dialect: str) -> "Select[Any]":
        if dialect == "sqlite":
            return _SELECTED.where(column.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value)))
        return _SELECTED.where(column == any_(bindparam("ids", type_=ARRAY(String))))

    return Prepared(made, ("ids",))


_BY_UUID, _BY_UNIQUE_ID, _BY_LOGICAL_ID = map(_by, ("entry_uuid", "unique_id", "logical_id"))


def blobs(connection: Connection, unique_ids: Iterable[str]) -> dict[str, str]:
    """Where the documents of these uniqueIds are, of those that this Repository has: blob ids."""
    wanted, found = list(dict.fromkeys(unique_ids)), dict[str, str]()
    for start in range(0, len(wanted), _TOGETHER):
        some = select(DOCUMENT.c.unique_id, DOCUMENT.c.blob_id).where(DOCUMENT.c.unique_id.in_(wanted[start : start + _TOGETHER]))
        found |= {unique_id: blob_id for unique_id, blob_id in connection.execute(some)}
    return found


def associations(connection: Connection, ids: Iterable[str], *where: ColumnElement[bool]) -> list[Association]:
    """The Associations that begin or end at one of these, or have one of these ids."""
    wanted, found = list(dict.fromkeys(ids)), dict[str, Association]()
    for start in range(0, len(wanted), _TOGETHER):
        some = wanted[start : start + _TOGETHER]
        touching = or_(*(column.in_(some) for column in (ASSOCIATION.c.source, ASSOCIATION.c.target, ASSOCIATION.c.entry_uuid)))
        for row in connection.execute(select(ASSOCIATION).where(touching, *where).order_by(ASSOCIATION.c.pk)).all():
            found[row.entry_uuid] = _association(row)
    return list(found.values())


def _association(row: Any) -> Association:
    body = orjson.loads(row.body)
    code = body["documentation"]
    body["documentation"] = Code(**code) if code is not None else None
    body["extra"] = tuple((name, tuple(values)) for name, values in body["extra"])
    return Association(**{**body, "status": row.status})
