"""One row for each object of the Document Registry in each of its versions, and the documents of the Repository apart.

Revision 0014.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TOGETHER = 500
_CODES = ("class_code", "type_code", "format_code", "facility_type", "practice_setting", "content_type")
_LISTS = ("confidentiality", "event_codes")


def upgrade() -> None:
    _objects()
    _others()
    _take_in(op.get_bind())
    for table in ("document_entry", "submission_set", "document_association"):
        op.drop_table(table)


def _objects() -> None:
    texts = ("kind", "origin", "entry_uuid", "logical_id", "unique_id", "status", "object_type", "time", "service_start")
    op.create_table(
        "registry_object",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in (*texts, "service_stop", "source_id", "hash")),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("patient_pk", sa.BigInteger(), nullable=False),
        sa.Column("study_pk", sa.BigInteger(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["patient_pk"], ["patient.pk"], name=op.f("fk_registry_object_patient_pk")),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_registry_object_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_registry_object")),
        sa.UniqueConstraint("entry_uuid", name=op.f("uq_registry_object_entry_uuid")),
    )
    op.create_index("ix_registry_object_patient", "registry_object", ["patient_pk", "kind", "status"])
    op.create_index("ix_registry_object_logical", "registry_object", ["logical_id", "version"])
    for column in ("unique_id", "study_pk"):
        op.create_index(op.f(f"ix_registry_object_{column}"), "registry_object", [column])
    op.create_table(
        "registry_term",
        sa.Column("object_pk", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "value", "scheme")),
        sa.ForeignKeyConstraint(["object_pk"], ["registry_object.pk"], name=op.f("fk_registry_term_object_pk")),
        sa.PrimaryKeyConstraint("object_pk", "number", name=op.f("pk_registry_term")),
    )
    op.create_index("ix_registry_term_value", "registry_term", ["kind", "value", "scheme", "object_pk"])


def _others() -> None:
    op.create_table(
        "registry_association",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("entry_uuid", "type", "source", "target", "status")),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_registry_association")),
        sa.UniqueConstraint("entry_uuid", name=op.f("uq_registry_association_entry_uuid")),
    )
    for column in ("source", "target"):
        op.create_index(op.f(f"ix_registry_association_{column}"), "registry_association", [column])
    op.create_table(
        "repository_document",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("unique_id", "blob_id", "mime_type", "sha1")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("patient_pk", "size", "created")),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_repository_document_blob_id")),
        sa.ForeignKeyConstraint(["patient_pk"], ["patient.pk"], name=op.f("fk_repository_document_patient_pk")),
        sa.PrimaryKeyConstraint("unique_id", name=op.f("pk_repository_document")),
    )
    for column in ("patient_pk", "blob_id"):
        op.create_index(op.f(f"ix_repository_document_{column}"), "repository_document", [column])


# --- what is there


def _take_in(connection: sa.Connection) -> None:
    """Manifests, with their Submission Sets and Associations, all of the catalogue's own making."""
    for table, kind in (("document_entry", "document"), ("submission_set", "submission")):
        for rows in _some(connection, table):
            for row in rows:
                _take(connection, kind, row, orjson.loads(row.body))
    for rows in _some(connection, "document_association"):
        new = _table("registry_association", "entry_uuid", "type", "source", "target", "status", "body")
        connection.execute(
            new.insert(),
            [
                {
                    **{name: getattr(row, name) for name in ("entry_uuid", "type", "source", "target", "body")},
                    "status": orjson.loads(row.body)["status"],
                }
                for row in rows
            ],
        )  # fmt: skip


def _take(connection: sa.Connection, kind: str, row: Any, body: dict[str, Any]) -> None:
    new = _table(
        "registry_object", "pk", "kind", "origin", "entry_uuid", "logical_id", "unique_id", "status", "object_type", "time", "version",
        "service_start", "service_stop", "source_id", "hash", "patient_pk", "study_pk", "created", "body",
    )  # fmt: skip
    is_document = kind == "document"
    values = {
        "kind": kind, "origin": "study", "entry_uuid": row.entry_uuid, "logical_id": row.entry_uuid, "unique_id": row.unique_id,
        "status": row.status if is_document else body["status"], "object_type": body.get("object_type", ""),
        "time": body["creation_time" if is_document else "submission_time"], "version": 1,
        **{name: body.get(name, "") for name in ("service_start", "service_stop", "source_id", "hash")},
        "patient_pk": row.patient_pk, "study_pk": row.study_pk if is_document else None,
        "created": row.created if is_document else 0, "body": row.body,
    }  # fmt: skip
    pk = connection.execute(new.insert().values(values).returning(new.c.pk)).scalar_one()
    if found := [{"object_pk": pk, "number": number, **term} for number, term in enumerate(_terms(body))]:
        connection.execute(_table("registry_term", "object_pk", "number", "kind", "value", "scheme").insert(), found)
    if is_document:
        kept = _table("repository_document", "unique_id", "blob_id", "mime_type", "sha1", "patient_pk", "size", "created")
        connection.execute(
            kept.insert().values(
                unique_id=row.unique_id, blob_id=row.blob_id, mime_type=body["mime_type"], sha1=body["hash"], size=body["size"],
                patient_pk=row.patient_pk, created=row.created,
            )
        )  # fmt: skip


def _terms(body: dict[str, Any]) -> Iterator[dict[str, str]]:
    for name in (*_CODES, *_LISTS):
        given = body.get(name)
        for code in given if isinstance(given, list) else [given] if given else []:
            yield {"kind": name, "value": code["code"], "scheme": code["scheme"]}
    for author in body.get("authors", ()):
        yield {"kind": "authors", "value": author["person"], "scheme": ""}
    for reference in body.get("reference_ids", ()):
        yield {"kind": "reference_ids", "value": reference, "scheme": ""}
    if body.get("title") and "mime_type" in body:
        yield {"kind": "title", "value": body["title"], "scheme": ""}


def _some(connection: sa.Connection, name: str) -> Iterator[list[Any]]:
    """All rows of a table, some at a time."""
    columns = {
        "document_entry": ("entry_uuid", "unique_id", "study_pk", "patient_pk", "status", "created", "blob_id"),
        "submission_set": ("entry_uuid", "unique_id", "patient_pk"),
        "document_association": ("entry_uuid", "type", "source", "target"),
    }[name]
    table, after = _table(name, "pk", *columns, "body"), 0
    while rows := list(connection.execute(sa.select(table).where(table.c.pk > after).order_by(table.c.pk).limit(_TOGETHER))):
        after = rows[-1].pk
        yield rows


def _table(name: str, *columns: str) -> Any:
    return sa.table(name, *(sa.column(each) for each in columns))


def downgrade() -> None:
    """What partners submitted has no place in the tables before this."""
    connection = op.get_bind()
    objects = _table("registry_object", "origin")
    if connection.execute(sa.select(objects.c.origin).where(objects.c.origin != "study").limit(1)).first() is not None:
        raise RuntimeError("documents that were submitted have no place in the schema before this; restore a backup instead")
    _former_tables()
    for statement in _GIVING_BACK:
        op.execute(statement)
    _give_back_patient_ids(connection)
    for table in ("registry_term", "registry_object", "registry_association", "repository_document"):
        op.drop_table(table)


_GIVING_BACK = (
    (
        "INSERT INTO document_entry (pk, entry_uuid, unique_id, study_pk, patient_pk, patient_cx, status, created, blob_id, body) "
        "SELECT o.pk, o.entry_uuid, o.unique_id, o.study_pk, o.patient_pk, '', o.status, o.created, d.blob_id, o.body "
        "FROM registry_object o JOIN repository_document d ON d.unique_id = o.unique_id WHERE o.kind = 'document'"
    ),
    (
        "INSERT INTO submission_set (pk, entry_uuid, unique_id, patient_pk, body) "
        "SELECT pk, entry_uuid, unique_id, patient_pk, body FROM registry_object WHERE kind = 'submission'"
    ),
    (
        "INSERT INTO document_association (pk, entry_uuid, type, source, target, body) "
        "SELECT pk, entry_uuid, type, source, target, body FROM registry_association"
    ),
)


def _former_tables() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    tables = {
        "document_entry": (
            ("entry_uuid", "unique_id", "patient_cx", "status", "blob_id"),
            ("patient_pk", "created"),
            ("study_pk",),
        ),
        "submission_set": (("entry_uuid", "unique_id"), ("patient_pk",), ()),
        "document_association": (("entry_uuid", "type", "source", "target"), (), ()),
    }
    for name, (texts, numbers, optional) in tables.items():
        op.create_table(
            name,
            sa.Column("pk", key, autoincrement=True, nullable=False),
            *(sa.Column(each, sa.String(), nullable=False) for each in texts),
            *(sa.Column(each, sa.BigInteger(), nullable=False) for each in numbers),
            *(sa.Column(each, sa.BigInteger(), nullable=True) for each in optional),
            sa.Column("body", sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint("pk", name=op.f(f"pk_{name}")),
            *(
                sa.UniqueConstraint(each, name=op.f(f"uq_{name}_{each}"))
                for each in ("entry_uuid", "unique_id") if each in texts
            ),
            *(
                sa.ForeignKeyConstraint([each], [target], name=op.f(f"fk_{name}_{each}"))
                for each, target in (("patient_pk", "patient.pk"), ("study_pk", "study.pk"), ("blob_id", "blob.id"))
                if each in (*texts, *numbers, *optional)
            ),
        )  # fmt: skip
        for each in ("patient_pk", "study_pk", "source", "target"):
            if each in (*texts, *numbers, *optional):
                op.create_index(op.f(f"ix_{name}_{each}"), name, [each])
    op.create_index("ix_document_entry_patient", "document_entry", ["patient_cx", "status"])


def _give_back_patient_ids(connection: sa.Connection) -> None:
    entries = _table("document_entry", "pk", "patient_cx")
    for rows in _some(connection, "document_entry"):
        for row in rows:
            patient = orjson.loads(row.body)["patient_id"]
            connection.execute(entries.update().where(entries.c.pk == row.pk).values(patient_cx=patient))
