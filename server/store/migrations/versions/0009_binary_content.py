"""The contents of FHIR Binary resources are blobs.

Revision 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "binary_content",
        sa.Column("resource_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("blob_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_binary_content_blob_id")),
        sa.ForeignKeyConstraint(["resource_pk"], ["resource.pk"], name=op.f("fk_binary_content_resource_pk")),
        sa.PrimaryKeyConstraint("resource_pk", "version", name=op.f("pk_binary_content")),
        sa.UniqueConstraint("blob_id", name=op.f("uq_binary_content_blob_id")),
    )


def downgrade() -> None:
    """The blobs are nobody's then: `imageshare verify --repair` sets their files aside."""
    connection = op.get_bind()
    content = sa.table("binary_content", sa.column("blob_id"))
    ids = connection.execute(sa.select(content.c.blob_id)).scalars().all()
    op.drop_table("binary_content")
    blob = sa.table("blob", sa.column("id"))
    for id_ in ids:
        connection.execute(sa.delete(blob).where(blob.c.id == id_))
