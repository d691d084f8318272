# ruff: noqa: S608 only names and numbers of our own are put into the text of statements
"""A Document Registry of a million entries in minutes: one submission comes over the wire, and its rows are copied with other values in their places.

What is copied are patients, objects, what queries look for in them, and Associations: the same rows as if each submission of `registry_corpus`
had been registered. Their FHIR resources, the other rendering of each, are not made: stored queries do not look at them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from conformance.bench import registry_corpus as corpus

_PREFIX: Final = len("urn:uuid:")
_DIGITS: Final = 8
_TERMS: Final = {"class_code": "class", "type_code": "type", "facility_type": "place", "event_codes": "event"}
_TOGETHER: Final = 200
"""Submissions of one transaction."""
_TABLES: Final = ("registry_object", "registry_term", "registry_association")
Row = dict[str, Any]
Rows = dict[str, list[Row]]


def patients(database: Any, count: int) -> None:
    """Those of numbers 1 to `count`, after that of number 0. `database` is a connection of psycopg or sqlite3."""
    (first,) = _read(database, f"SELECT * FROM patient WHERE value = '{_value(0)}'")
    copies = (
        {**first, "pk": first["pk"] + number, "id": _uuid(first["id"], number, 0), "value": _value(number)}
        for number in range(1, count + 1)
    )
    _write(database, "patient", copies)
    _number(database, "patient")
    database.commit()


def submissions(database: Any, first: int, count: int, most: int, each: int) -> Iterator[int]:
    """Copies of submission `first`, which has `each` documents, as those of numbers after it up to `count`, the last ones of patient `most`.

    Yields how many there are, now and then.
    """
    seed = _seed(database, corpus.submission_id(first))
    start = _read(database, "SELECT max(pk) AS pk FROM registry_object")[0]["pk"]
    links = _read(database, "SELECT max(pk) AS pk FROM registry_association")[0]["pk"]
    whose = {row["value"]: row["pk"] for row in _read(database, "SELECT pk, value FROM patient")}
    for begin in range(first + 1, count, _TOGETHER):
        made: Rows = {table: [] for table in _TABLES}
        for number in range(begin, min(count, begin + _TOGETHER)):
            place = start + (number - first - 1) * len(seed["registry_object"])
            _copied(seed, number, place, whose[_value(min(number, most))], each, first, made)
            for row in made["registry_association"][-len(seed["registry_association"]) :]:
                links += 1
                row["pk"] = links
        for table in _TABLES:
            _write(database, table, made[table])
        database.commit()
        yield min(count, begin + _TOGETHER)
    for table in ("registry_object", "registry_association"):
        _number(database, table)
    database.commit()


def _seed(database: Any, unique_id: str) -> Rows:
    """The rows of one submission, its Submission Set first."""
    (submitted,) = _read(database, f"SELECT * FROM registry_object WHERE unique_id = '{unique_id}'")
    members = f"SELECT target FROM registry_association WHERE source = '{submitted['entry_uuid']}'"
    objects = [submitted, *_read(database, f"SELECT * FROM registry_object WHERE entry_uuid IN ({members}) ORDER BY pk")]
    pks = ", ".join(str(row["pk"]) for row in objects)
    terms = _read(database, f"SELECT * FROM registry_term WHERE object_pk IN ({pks}) ORDER BY object_pk, number")
    links = _read(database, f"SELECT * FROM registry_association WHERE source = '{submitted['entry_uuid']}'")
    return {"registry_object": objects, "registry_term": terms, "registry_association": links}


def _copied(seed: Rows, number: int, place: int, patient: int, each: int, first: int, made: Rows) -> None:
    pks = dict[int, tuple[int, int]]()
    for offset, row in enumerate(seed["registry_object"]):
        old, new = first * each + offset - 1, number * each + offset - 1
        ids = {name: _uuid(row[name], number, _PREFIX) for name in ("entry_uuid", "logical_id")}
        changes = [(row["entry_uuid"], ids["entry_uuid"])]
        pks[row["pk"]] = place + offset + 1, new
        if offset == 0:
            changes.append((corpus.submission_id(first), unique_id := corpus.submission_id(number)))
            times = {}
        else:
            unique_id, at = corpus.unique_id(new), corpus.created(new)
            changes += [(corpus.unique_id(old), unique_id), (corpus.created(old), at), *_codes(old, new)]
            changes += [(corpus.reference_id(old), corpus.reference_id(new)), (f"Document {old}", f"Document {new}")]
            times = dict.fromkeys(("time", "service_start", "service_stop"), at)
        body = _replaced(row["body"], changes)
        pk = place + offset + 1
        made["registry_object"].append(
            {**row, **ids, **times, "unique_id": unique_id, "pk": pk, "patient_pk": patient, "body": body}
        )
    for row in seed["registry_term"]:
        pk, document = pks[row["object_pk"]]
        made["registry_term"].append({**row, "object_pk": pk, "value": _term(row, document)})
    for row in seed["registry_association"]:
        ends = {name: _uuid(row[name], number, _PREFIX) for name in ("entry_uuid", "source", "target")}
        body = _replaced(row["body"], [(row[name], new_id) for name, new_id in ends.items()])
        made["registry_association"].append({**row, **ends, "body": body})


def _codes(old: int, new: int) -> Iterator[tuple[str, str]]:
    for kind in corpus.CODES:
        before, after = (
            f'"{corpus.code(kind, number).code}","scheme":"{corpus.SCHEME}","display":"Of kind {kind}"' for number in (old, new)
        )
        yield before, after


def _term(row: Row, document: int) -> str:
    value: str = row["value"]
    if row["kind"] in _TERMS and row["scheme"] == corpus.SCHEME:
        return corpus.code(_TERMS[row["kind"]], document).code
    if row["kind"] == "reference_ids":
        return corpus.reference_id(document)
    return f"Document {document}" if row["kind"] == "title" and value.startswith("Document ") else value


def _replaced(body: bytes, changes: Iterable[tuple[str, str]]) -> bytes:
    made = bytes(body)
    for old, new in changes:
        made = made.replace(old.encode(), new.encode())
    return made


def _uuid(id_: str, number: int, prefix: int) -> str:
    """Another one for each number."""
    return f"{id_[:prefix]}{number:0{_DIGITS}x}{id_[prefix + _DIGITS :]}"


def _value(number: int) -> str:
    return corpus.patient(number).partition("^")[0]


def _read(database: Any, statement: str) -> list[Row]:
    cursor = database.cursor()
    cursor.execute(statement)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _write(database: Any, table: str, rows: Iterable[Row]) -> None:
    given = iter(rows)
    if (one := next(given, None)) is None:
        return
    names = list(one)
    of_all: Iterator[Sequence[Any]] = (tuple(row[name] for name in names) for row in _after(one, given))
    columns = ", ".join(f'"{name}"' for name in names)
    if hasattr(database, "pgconn"):
        with database.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            for row in of_all:
                copy.write_row(row)
    else:
        database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})", of_all)


def _after(first: Row, others: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from others


def _number(database: Any, table: str) -> None:
    """PostgreSQL counts by itself, SQLite from the last one on."""
    if hasattr(database, "pgconn"):
        last = f"(SELECT max(pk) FROM {table})"
        database.cursor().execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'pk'), {last})")
        database.cursor().execute(f"ANALYZE {table}")
