"""What searches walk of a resource: rows made of its `profiles.fhir.index.Index`, written with few statements, and only where they differ.

`resource.indexed` keeps a digest of the rows in each table, so that a write that changes a note reads and writes none of them.
"""

import hashlib
import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table, update

from profiles.fhir.clinical_date import CLINICAL_DATE
from profiles.fhir.index import DateRange, Index, Indexed, Number, Quantity, Reference, Token
from profiles.fhir.indexing import CATALOGUED
from profiles.fhir.units import stored
from server.records import index_keys as keys
from server.store import tables
from server.store.many import many

Rows: TypeAlias = dict[Table, set[tuple[Any, ...]]]
"""Table -> its rows without the resource."""


def _table(row: Any) -> Table:
    found: Table = row.__table__
    return found


RESOURCE, TOKEN = _table(tables.Resource), _table(tables.Token)
TEXT, DATE, QUANTITY = _table(tables.TextValue), _table(tables.DateValue), _table(tables.QuantityValue)
REFERENCE, COMPOSITE, COMPARTMENT = _table(tables.ReferenceValue), _table(tables.CompositeValue), _table(tables.Compartment)
WALKED: Final = (TOKEN, TEXT, DATE, QUANTITY, REFERENCE, COMPOSITE, COMPARTMENT)
_PLACE: Final = {table: [column.name for column in table.columns].index("resource_pk") for table in WALKED}
_DIGEST: Final = 8
_NONE: Final = bytes(_DIGEST)
_PLAIN: Final = 0
"""The version of marshal's form in which the same values are the same bytes, whatever refers to them."""
_OWN: Final = frozenset({"_id", "_lastUpdated"})
"""Parameters that columns of `resource` answer."""
_LABELS: Final = ("_tag", "_security")


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one resource, and what of its index stands in its own row."""

    rows: Rows
    patient: str = ""
    date: int = 0
    date_end: int = 0

    def digest(self) -> bytes:
        """Eight bytes for each table of `WALKED`."""
        return b"".join(_digest(self.rows.get(table)) for table in WALKED)


NOTHING: Final = Found({})


def found(type_: str, index: Index) -> Found:
    """What is written for a resource of a type that yields `index`."""
    dated = [each for each in index.values.get(CLINICAL_DATE.get(type_, ""), ()) if isinstance(each, DateRange)]
    low, high = (min(each.low for each in dated), max(each.high for each in dated)) if dated else (0, 0)
    made = _Made(type_, low)
    for code, values in index.values.items():
        if code not in _OWN:
            made.add(code, values)
    for code, texts in index.texts.items():
        made.texts(code + keys.TEXT, texts)
    for code in _LABELS:
        labels = [each for each in index.values.get(code, ()) if isinstance(each, Token)]
        made.texts(code + keys.LISTED, [f"{each.system}|{each.code}" for each in labels])
    for code, elements in index.composites.items():
        made.rows[COMPOSITE] |= {row for element in elements for row in _composite_rows(type_, code, element)}
    for name, ids in index.compartments.items():
        made.rows[COMPARTMENT] |= {(name, id_, type_, low) for id_ in ids}
    patients = index.compartments.get("Patient", ())
    # A Patient that was replaced by another one is in that one's compartment too (its link), but still itself
    patient = patients[0] if len(patients) == 1 or (patients and type_ == "Patient") else ""
    return Found({table: rows for table, rows in made.rows.items() if rows}, patient, low, high)


def insert(connection: Connection, made: Sequence[tuple[int, Found]]) -> None:
    """The rows of resources that have none: (pk, rows) of each. In the order of their keys, so that neighbours go to one page together."""
    for table in WALKED:
        rows = [row for pk, each in made if table in each.rows for row in _whole(table, each.rows[table], pk)]
        many(table).insert(connection, sorted(rows))


def write(connection: Connection, pk: int, new: Found, indexed: bytes | None) -> bytes:
    """Makes the rows of a resource those of `new`; `indexed` is what `resource.indexed` says of the old ones. Returns what it says now."""
    digest = new.digest()
    for number, table in enumerate(WALKED):
        span = slice(number * _DIGEST, (number + 1) * _DIGEST)
        if indexed is not None and indexed[span] == digest[span]:
            continue
        wanted = set(_whole(table, new.rows.get(table, ()), pk))
        here = set() if indexed is not None and indexed[span] == _NONE else many(table).of(connection, pk)
        many(table).delete(connection, here - wanted)
        many(table).insert(connection, wanted - here)
    return digest


def remove(connection: Connection, pk: int, indexed: bytes | None) -> None:
    """Takes all rows of a resource away."""
    connection.execute(update(RESOURCE).where(RESOURCE.c.pk == pk).values(indexed=write(connection, pk, NOTHING, indexed)))


class _Made:
    """Rows in the making. `date` is the resource's sort key."""

    def __init__(self, type_: str, date: int) -> None:
        self.type = type_
        self.date = date
        self.clinical = CLINICAL_DATE.get(type_, "")
        self.rows: Rows = {table: set() for table in WALKED}
        self.codes: set[int] = set()
        """Hashes of codes, whatever their systems."""

    def add(self, code: str, values: Sequence[Indexed]) -> None:
        """All values of a parameter."""
        compared = False
        for value in values:
            compared |= _ADDERS[type(value)](self, code, value)
        if not compared:
            self.rows[TEXT].add(_present_row(self.type, code))

    def texts(self, code: str, texts: Iterable[str]) -> bool:
        """Strings, to be found by their folded form."""
        parameter = keys.parameter_hash(self.type, code)
        self.rows[TEXT] |= {(parameter, keys.folded_key(text), keys.exact_key(text)) for text in texts}
        return True

    def string(self, code: str, value: str) -> bool:
        """Of a string parameter, or a URI: both are found by what they begin with."""
        return self.texts(code, (value,))

    def token(self, code: str, value: Token) -> bool:
        self._token(code, value)
        for system, kind in value.of_type:
            of_type = keys.of_type_hash(self.type, code, system, kind, value.code)
            self.rows[TOKEN].add((of_type, self.date, keys.ONLY))
        if self.type == "ImagingStudy" and code in CATALOGUED:  # nobody sorts by a UID, of which a study may have thousands
            self.rows[TEXT].add(_present_row(self.type, code))
        else:
            self.rows[TEXT].add(_code_row(self.type, code, value.code))
        return True

    def reference(self, code: str, value: Reference) -> bool:
        if value.identifier is not None:
            self._token(code + keys.IDENTIFIER, value.identifier)
        parameter = keys.parameter_hash(self.type, code)
        self.rows[REFERENCE] |= {(parameter, *target, self.date) for target in _targets(value)}
        return bool(value.id or value.url)

    def dated(self, code: str, value: DateRange) -> bool:
        if code != self.clinical:
            self.rows[DATE].add((keys.parameter_hash(self.type, code), value.low, value.high))
        return True

    def measured(self, code: str, value: Number | Quantity) -> bool:
        self.rows[QUANTITY] |= {(keys.unit_hash(self.type, code, form), low, high) for form, low, high in stored(value)}
        return True

    def _token(self, code: str, value: Token) -> None:
        of_code, exact, of_system = keys.token_hashes(self.type, code, value.system, value.code)
        rows = self.rows[TOKEN]
        if (of_code, self.date, exact) not in rows:
            rows.add((of_code, self.date, ~exact if of_code in self.codes else exact))
            self.codes.add(of_code)
        rows.add((of_system, 0, keys.ONLY))


_ADDERS: Final[Mapping[type, Callable[[_Made, str, Any], bool]]] = {
    str: _Made.string, Token: _Made.token, Reference: _Made.reference, DateRange: _Made.dated, Number: _Made.measured, Quantity: _Made.measured,
}  # fmt: skip


def _present_row(type_: str, code: str) -> tuple[int, str, str]:
    return keys.parameter_hash(type_, code + keys.PRESENT), "", ""


@lru_cache(maxsize=4096)
def _code_row(type_: str, code: str, value: str) -> tuple[int, str, str]:
    return keys.parameter_hash(type_, code + keys.CODE), keys.folded_key(value), keys.exact_key(value)


def _targets(value: Reference) -> Iterator[tuple[str, str]]:
    """Where a reference leads, a canonical with its version as well."""
    if value.id:
        yield value.type, value.id
    elif value.url:
        yield "", keys.uri_key(value.url)
        if value.version:
            yield "", keys.uri_key(f"{value.url}|{value.version}")


# --- composites


def _composite_rows(type_: str, code: str, element: Sequence[Sequence[Indexed]]) -> Iterator[tuple[int, float, float, str]]:
    """A row for each way to name the values of the components; one of them at most has an order or a text of its own.

    Of those with two ranges (of MolecularSequence, R4 has no others) only the first is there.
    """
    for values in product(*element):
        for forms in product(*(tuple(_forms(value)) for value in values)):
            low, high, text = next(((low, high, text) for _, low, high, text in forms if text or low or high), (0.0, 0.0, ""))
            yield keys.composite_hash(type_, code, (form for form, *_ in forms)), low, high, text


def _forms(value: Indexed) -> Iterator[tuple[str, float, float, str]]:
    match value:
        case Token():
            for system, code in ((value.system, value.code), (None, value.code), (value.system, None)):
                yield keys.token_form(system, code), 0.0, 0.0, ""
        case Reference():
            for kind, target in _targets(value):
                yield keys.reference_form(kind or "url", target), 0.0, 0.0, ""
            if value.id:
                yield keys.reference_form("", value.id), 0.0, 0.0, ""
        case DateRange():
            yield "", float(value.low), float(value.high), ""
        case str():
            yield "", 0.0, 0.0, keys.folded_key(value)
        case _:
            for form, low, high in stored(value):
                yield form, low, high, ""


# --- rows and digests


def _whole(table: Table, rows: Iterable[tuple[Any, ...]], pk: int) -> Iterator[tuple[Any, ...]]:
    place = _PLACE[table]
    return ((*row[:place], pk, *row[place:]) for row in rows)


def _digest(rows: set[tuple[Any, ...]] | None) -> bytes:
    return hashlib.blake2b(marshal.dumps(sorted(rows), _PLAIN), digest_size=_DIGEST).digest() if rows else _NONE
