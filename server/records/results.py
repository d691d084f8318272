"""What searches answer and walk, made when a study is published: results as text, and the terms that it is found by.

`refresh` is called by `catalogue.publish`, in its transaction, so results and terms are those of what is visible. `study_term` carries
the sort key (the study's date), as `token` does for FHIR: the newest studies of a modality are the end of one stretch of its index.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, delete, select, update
from sqlalchemy import bindparam as parameter

from ihe.joined_gzip import Fragment
from profiles import study as values
from profiles.dicom_json import Attribute
from profiles.person_name import forms, sound, words
from profiles.query_result import lines, result
from server.store import jobs
from server.store.db import insert, micros
from server.store.tables import Instance, Patient, Series, SeriesMetadata, Study, StudyTerm

TERM = StudyTerm.__table__  # type: ignore[attr-defined]
METADATA = SeriesMetadata.__table__  # type: ignore[attr-defined]
_PATIENT = Patient.__table__  # type: ignore[attr-defined]
_STUDY = Study.__table__  # type: ignore[attr-defined]
_SERIES = Series.__table__  # type: ignore[attr-defined]
_INSTANCE = Instance.__table__  # type: ignore[attr-defined]

MODALITY, SOP_CLASS, PATIENT_NAME, REFERRING = "00080061", "00080062", "00100010", "00080090"
INDEX, PREPARE = "index", "metadata"
"""Jobs: results and terms of a study that has none, metadata of one that changed. Their keys are rows of studies."""
WORDS, SOUNDS = "w", "s"
SERIES_TERMS = ("00400244", "00400275.00401001", "00400275.00400009")
"""Attributes of series that PS3.18 table 10.6.1-5 requires to be matched: when and for which request it was performed."""
LONGEST_TERM = 256
"""Characters of a text that is searched; a Long String has 64 (PS3.5 table 6.2-1)."""
_TOGETHER = 500


def refresh(connection: Connection, study_pk: int, study: values.Study, instance_pks: Sequence[int]) -> None:
    """Makes the results of a study and its series, of the instances `instance_pks`, and its terms.

    `study` is the study as its rows say (`catalogue.load`), with what is visible from now on. Prepared metadata are forgotten.
    """
    attributes = _json(connection.execute(select(_STUDY.c.attributes).where(_STUDY.c.pk == study_pk)).scalar_one())
    connection.execute(
        update(_STUDY)
        .where(_STUDY.c.pk == study_pk)
        .values(
            result=lines(result("study", study, None, None, attributes)),
            sop_classes="".join(f"\\{uid}" for uid in _sop_classes(study)) + "\\" if study.series else "",
        )
    )
    known = _series(connection, study_pk, study)
    for start in range(0, len(instance_pks), _TOGETHER):
        _instances(connection, study, instance_pks[start : start + _TOGETHER])
    connection.execute(
        delete(METADATA).where(METADATA.c.series_pk.in_(select(_SERIES.c.pk).where(_SERIES.c.study_pk == study_pk)))
    )
    connection.execute(delete(TERM).where(TERM.c.study_pk == study_pk))
    if found := sorted(set(terms(study, known))):
        rows = [{"tag": tag, "term": term[:LONGEST_TERM], "date": study.date, "study_pk": study_pk} for tag, term in found]
        connection.execute(insert(connection, TERM).on_conflict_do_nothing(), rows)
    jobs.enqueue(connection, PREPARE, str(study_pk), due=micros())


def keep_metadata(connection: Connection, series_pk: int, base: str, part: Fragment) -> None:
    """Keeps the metadata of a series, made for the base URL `base`."""
    made = {"base": base, "body": part.body, "size": part.size, "crc": part.crc}
    connection.execute(
        insert(connection, METADATA)
        .values(series_pk=series_pk, **made)
        .on_conflict_do_update(index_elements=["series_pk"], set_=made)
    )


def metadata(row: Any) -> Fragment:
    """The prepared metadata in a row of `METADATA`'s columns."""
    return Fragment(bytes(row.body), row.size, row.crc)


def _series(connection: Connection, study_pk: int, study: values.Study) -> list[Mapping[str, Attribute]]:
    """Writes the results of the visible series. Returns their stored attributes."""
    visible = {series.series_instance_uid: series for series in study.series}
    rows = connection.execute(select(_SERIES.c.pk, _SERIES.c.uid, _SERIES.c.attributes).where(_SERIES.c.study_pk == study_pk))
    found = [(pk, visible[uid], _json(body)) for pk, uid, body in rows if uid in visible]
    if found:
        connection.execute(
            update(_SERIES).where(_SERIES.c.pk == parameter("row")).values(result=parameter("made")),
            [{"row": pk, "made": lines(result("series", study, series, None, stored))} for pk, series, stored in found],
        )
    return [stored for _, _, stored in found]


def _instances(connection: Connection, study: values.Study, pks: Sequence[int]) -> None:
    visible = {one.sop_instance_uid: (series, one) for series in study.series for one in series.instances}
    rows = connection.execute(select(_INSTANCE.c.pk, _INSTANCE.c.uid, _INSTANCE.c.attributes).where(_INSTANCE.c.pk.in_(pks)))
    made = [
        {"row": pk, "made": lines(result("instance", study, *visible[uid], _json(body)))}
        for pk, uid, body in rows
        if uid in visible
    ]
    if made:
        connection.execute(update(_INSTANCE).where(_INSTANCE.c.pk == parameter("row")).values(attributes=parameter("made")), made)


def _json(body: Any) -> dict[str, Attribute]:
    found: dict[str, Attribute] = orjson.loads(bytes(body)) if body else {}
    return found


# --- terms


def terms(study: values.Study, series: Iterable[Mapping[str, Attribute]]) -> Iterable[tuple[str, str]]:
    """Pairs of tag and term; empty values have none."""
    yield from ((MODALITY, one.modality) for one in study.series if one.modality)
    yield from ((SOP_CLASS, uid) for uid in _sop_classes(study))
    for tag, name in ((PATIENT_NAME, study.patient.name), (REFERRING, study.referring_physician)):
        yield from ((tag, form) for form in forms(name))
        for word in words(name):
            yield tag + WORDS, word
            if code := sound(word):
                yield tag + SOUNDS, code
    for tag, text in (("00200010", study.study_id), ("00081030", study.description), ("00080080", study.institution)):
        if text:
            yield tag, text
    for attributes in series:
        for key in SERIES_TERMS:
            yield from ((key, value) for value in _values(attributes, key.split(".")))


def _values(attributes: Mapping[str, Attribute], path: Sequence[str]) -> Iterable[str]:
    # PostgreSQL takes no NUL in text.
    found = attributes.get(path[0], {}).get("Value")
    for value in found if isinstance(found, list) else ():
        if len(path) > 1 and isinstance(value, dict):
            yield from _values(value, path[1:])
        elif isinstance(value, str) and (text := value.replace("\0", "").strip()):
            yield text


def _sop_classes(study: values.Study) -> list[str]:
    return sorted({instance.sop_class_uid for series in study.series for instance in series.instances})
