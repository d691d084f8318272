"""FHIR resources of every type: deleted ones, how versions came, and what every search parameter walks.

Revision 0008.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBER, _DOUBLE, _TEXT = sa.BigInteger, sa.Double, sa.String


def _ordered() -> Any:
    return sa.String().with_variant(sa.String(collation="C"), "postgresql")


# Table -> its columns; all of them are its key.
_WALKED: dict[str, tuple[tuple[str, Any], ...]] = {
    "text_value": (("parameter", _NUMBER), ("folded", _ordered), ("resource_pk", _NUMBER), ("exact", _ordered)),
    "date_value": (("parameter", _NUMBER), ("low", _NUMBER), ("high", _NUMBER), ("resource_pk", _NUMBER)),
    "quantity_value": (("unit", _NUMBER), ("low", _DOUBLE), ("high", _DOUBLE), ("resource_pk", _NUMBER)),
    "reference_value": (
        ("parameter", _NUMBER), ("target_type", _TEXT), ("target_id", _ordered), ("date", _NUMBER), ("resource_pk", _NUMBER),
    ),
    "composite_value": (("hash", _NUMBER), ("low", _DOUBLE), ("high", _DOUBLE), ("text", _ordered), ("resource_pk", _NUMBER)),
    "compartment": (("name", _TEXT), ("id", _TEXT), ("type", _TEXT), ("date", _NUMBER), ("resource_pk", _NUMBER)),
}  # fmt: skip
_TOKEN = ("hash", "date", "resource_pk", "exact")
_BY_RESOURCE = {
    "text_value": ["resource_pk", "parameter"],
    "date_value": ["resource_pk", "parameter"],
    "quantity_value": ["resource_pk", "unit"],
    "reference_value": ["resource_pk", "parameter"],
    "composite_value": ["resource_pk"],
    "compartment": ["resource_pk"],
}


def upgrade() -> None:
    with op.batch_alter_table("resource", schema=None) as batch_op:
        batch_op.add_column(sa.Column("deleted", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("summary", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("indexed", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("resource_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("type", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("method", sa.String(), nullable=False, server_default="PUT"))
        batch_op.add_column(sa.Column("patient", sa.String(), nullable=False, server_default=""))
    _of_versions()
    with op.batch_alter_table("resource_version", schema=None) as batch_op:
        batch_op.create_index("ix_resource_version_type", ["type", "updated", "resource_pk", "version"], unique=False)
        batch_op.create_index("ix_resource_version_updated", ["updated", "resource_pk", "version"], unique=False)
    _tokens()
    for name, columns in _WALKED.items():
        op.create_table(
            name,
            *(sa.Column(column, type_(), autoincrement=False, nullable=False) for column, type_ in columns),
            sa.PrimaryKeyConstraint(*(column for column, _ in columns), name=op.f(f"pk_{name}")),
            sqlite_with_rowid=False,
        )
        with op.batch_alter_table(name, schema=None) as batch_op:
            batch_op.create_index(f"ix_{name}_resource_pk", _BY_RESOURCE[name], unique=False)
    _reindexing()


def _tokens() -> None:
    """`token` in its new form. Rows of the former one stay until those of their resource are made anew."""
    rows = "SELECT hash, date, resource_pk, 0 AS exact FROM token"
    _remade(rows, _TOKEN, ["resource_pk", "exact"], sqlite_with_rowid=False)


def _former_tokens() -> None:
    """`token` as revision 0007 has it.

    The hash of system and code has lost its sign: a row with each is written, one of which nobody looks for.
    """
    former = (
        "SELECT {} AS hash, resource.date AS date, resource.pk AS resource_pk FROM token "
        "JOIN resource ON resource.pk = token.resource_pk WHERE {}"
    )
    exact = "CASE WHEN token.exact < 0 THEN -1 - token.exact ELSE token.exact END"
    coded = ((each, "token.exact <> 0") for each in (exact, f"{exact} - 9223372036854775807 - 1"))
    rows = " UNION ".join(former.format(*each) for each in (("token.hash", "1 = 1"), *coded))
    referring = sa.ForeignKeyConstraint(["resource_pk"], ["resource.pk"], name=op.f("fk_token_resource_pk"))
    _remade(rows, _TOKEN[:3], ["resource_pk"], referring)


def _remade(rows: str, columns: tuple[str, ...], indexed: list[str], *constraints: sa.Constraint, **options: bool) -> None:
    """`token` made anew with these columns, all of them its key, and these rows; `indexed` is its other index."""
    op.execute(f"CREATE TABLE former_token AS {rows}")
    op.drop_table("token")
    op.create_table(
        "token",
        *(sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False) for name in columns),
        *constraints,
        sa.PrimaryKeyConstraint(*columns, name=op.f("pk_token")),
        **options,
    )
    op.execute(f"INSERT INTO token ({', '.join(columns)}) SELECT {', '.join(columns)} FROM former_token")  # noqa: S608
    op.drop_table("former_token")
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_token_resource_pk"), indexed, unique=False)


def _of_versions() -> None:
    """Type and patient of what was stored before. What a study was before it was moved names its former patient: it is nobody's."""
    op.execute(
        "UPDATE resource_version SET type = (SELECT resource.type FROM resource WHERE resource.pk = resource_version.resource_pk), "
        "patient = (SELECT resource.patient FROM resource WHERE resource.pk = resource_version.resource_pk)"
    )
    op.execute(
        "UPDATE resource_version SET patient = '' WHERE EXISTS (SELECT 1 FROM resource JOIN study ON study.id = resource.id "
        "JOIN former_patient ON former_patient.study_pk = study.pk WHERE resource.pk = resource_version.resource_pk "
        "AND resource.type = 'ImagingStudy' AND resource.version > resource_version.version)"
    )


def _reindexing() -> None:
    """Resources that were stored before get their rows from the worker; until then searches may not rely on any parameter: `*`."""
    op.create_table(
        "reindexing",
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("codes", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("type", name=op.f("pk_reindexing")),
    )
    op.execute(
        'INSERT INTO reindexing (type, codes, position, "last", began) '
        "SELECT type, '*', 0, max(pk), 0 FROM resource GROUP BY type"
    )
    op.execute(
        "INSERT INTO job (kind, key, due, generation, attempts, leased_until, error) "
        "SELECT 'reindex', type, 0, 1, 0, 0, '' FROM reindexing"
    )


def downgrade() -> None:
    """What was deleted leaves nothing behind: revision 0007 would take it for a resource."""
    op.execute("DELETE FROM job WHERE kind = 'reindex'")
    op.drop_table("reindexing")
    for name in reversed(_WALKED):
        op.drop_table(name)
    op.execute("DELETE FROM resource_version WHERE method = 'DELETE'")
    op.execute("DELETE FROM resource_version WHERE resource_pk IN (SELECT pk FROM resource WHERE deleted = 1)")
    op.execute("DELETE FROM resource WHERE deleted = 1")
    _former_tokens()
    with op.batch_alter_table("resource_version", schema=None) as batch_op:
        batch_op.drop_index("ix_resource_version_updated")
        batch_op.drop_index("ix_resource_version_type")
        batch_op.drop_column("patient")
        batch_op.drop_column("method")
        batch_op.drop_column("type")
    with op.batch_alter_table("resource", schema=None) as batch_op:
        batch_op.drop_column("indexed")
        batch_op.drop_column("summary")
        batch_op.drop_column("deleted")
