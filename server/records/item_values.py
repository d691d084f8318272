"""Values of worklist items and performed steps, which are kept in the DICOM JSON Model (PS3.18 annex F)."""

from collections.abc import Iterable
from io import BytesIO

from pydicom.dataset import Dataset
from sqlalchemy import Connection, select, tuple_

from profiles import part10
from profiles.dicom_json import Attributes, metadata
from profiles.header import PatientDomains
from profiles.identifiers import InvalidIdentifier
from profiles.model_item import Item, items, text
from profiles.query_identifier import Key, Projection
from server.records.catalogue import PATIENT

_UNLIMITED = 1 << 30


def decoded(data: bytes, transfer_syntax: str) -> Attributes:
    """PS3.18 section F.2: a Data Set of a message as a model object, its text by its own character set. Raises `HeaderError`."""
    return _model(part10.data_set(data, transfer_syntax))


def of_file(file: bytes) -> Attributes:
    """The same of a Part 10 file. Raises `HeaderError`."""
    return _model(part10.parse(BytesIO(file)).dataset)


def _model(dataset: Dataset) -> Attributes:
    return metadata(dataset, lambda _: "", _UNLIMITED)


def encoded(item: Item, transfer_syntax: str, character_set: tuple[str, ...] = ()) -> bytes:
    """All attributes of an item as a Data Set; in `character_set` where that can say them, else in UTF-8."""
    keys = tuple(Key(tag, str(attribute["vr"])) for tag, attribute in sorted(item.items()))
    return Projection(keys, character_set, transfer_syntax).write(item)


def patients(connection: Connection, found: Iterable[Item], domains: PatientDomains) -> frozenset[str]:
    """Resource ids of those patients of the items that the catalogue knows."""
    wanted = {identity(each, domains) for each in found} - {("", "")}
    if not wanted:
        return frozenset()
    rows = connection.execute(select(PATIENT.c.id).where(tuple_(PATIENT.c.authority, PATIENT.c.value).in_(sorted(wanted))))
    return frozenset(rows.scalars())


def identity(item: Item, domains: PatientDomains) -> tuple[str, str]:
    """OID of the assigning authority and Patient ID of an item; both empty where it names no patient."""
    value = text(item, "00100020")
    if not value:
        return "", ""
    qualifier: Item = next(iter(items(item, "00100024")), {})
    try:
        authority = domains.authority(text(item, "00100021"), text(qualifier, "00400032"), text(qualifier, "00400033"))
    except InvalidIdentifier:
        return "", ""
    return authority.oid, value
