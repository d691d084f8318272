"""Contents of FHIR Binary resources (migration 0009)."""

from sqlalchemy import BigInteger
from sqlmodel import Field

from server.store.tables.row import Row


class BinaryContent(Row, table=True):
    """The bytes of one version of a Binary, in the blob store. A version without a row has them in its body, or is that of a document."""

    __tablename__ = "binary_content"
    resource_pk: int = Field(primary_key=True, foreign_key="resource.pk", sa_type=BigInteger)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    blob_id: str = Field(foreign_key="blob.id", unique=True)
