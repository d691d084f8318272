"""A catalogue of a million instances, written straight into the tables: for measuring searches.

`PYTHONPATH=.:tests .venv/bin/python -m peers.many sqlite:////tmp/many.db` makes it if it is not there, and prints how long each kind of query takes.
"""

import argparse
import gc
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, func, select, text, true

from profiles import study as values
from profiles.dicom_json import Attribute
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.person_name import folded
from profiles.query_result import lines, result
from server.records import matching, results
from server.records.catalogue import BLOB, INSTANCE, PATIENT, SERIES, STUDY
from server.records.conditions import path
from server.records.matching import Query
from server.records.resources import packed
from server.records.results import TERM
from server.store.db import Database
from server.store.migrations import migrate

FAMILIES = (
    "Smith",
    "Müller",
    "García",
    "Nowak",
    "Rossi",
    "Dubois",
    "Jansen",
    "Kowalski",
    "Yamada",
    "Ivanova",
    "Okafor",
    "O'Neil",
)
GIVEN = (
    "Anna",
    "Ben",
    "Chloé",
    "David",
    "Eva",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Karin",
    "Luis",
    "Maya",
    "Nils",
    "Olga",
)
MODALITIES = ("CT",) * 12 + ("MR",) * 6 + ("DX",) * 4 + ("US", "MG")
SOP = {name: f"1.2.840.10008.5.1.4.1.1.{number}" for number, name in enumerate(("CT", "MR", "DX", "US", "MG"), 2)}
_TOGETHER = 200


def uid(study: int, series: int = 0, instance: int = 0) -> str:
    """UIDs of what is made; 0 names the level above."""
    parts = [str(number) for number in (study, series, instance) if number]
    return ".".join(["1.2.826.0.1.3680043.9.7777", *parts])


def study_value(number: int, series: int, instances: int, chance: random.Random) -> values.Study:
    modality = chance.choice(MODALITIES)
    name = f"{chance.choice(FAMILIES)}{number % 97 or ''}^{chance.choice(GIVEN)}"
    patient = values.Patient(
        PatientIdentifier(f"P{number:06}", AssigningAuthority("2.999.1")),
        name,
        f"19{number % 80 + 20}0{number % 9 + 1}15",
        "FM"[number % 2],
        f"p{number}",
    )
    date = f"20{chance.randint(5, 25):02}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"
    return values.Study(
        uid(number), patient, study_id=str(number), accession_number=f"A{number:07}", date=date, time=f"{number % 24:02}{number % 60:02}00",
        description=f"{modality} Region {number % 50}", referring_physician=f"Doctor{number % 300}^Refer", institution=f"Hospital {number % 7}",
        modalities=(modality,), id=f"s{number}", version=1,
        series=tuple(
            values.Series(
                uid(number, s), modality, s, f"Series {s}", "CHEST", "", date, "101010",
                tuple(values.Instance(uid(number, s, i), SOP[modality], "1.2.840.10008.1.2.1", i, 512, 512, 1) for i in range(1, instances + 1)),
            )
            for s in range(1, series + 1)
        ),
    )  # fmt: skip


def fill(database: Database, studies: int = 20_000, series: int = 5, instances: int = 10) -> None:
    """Fills an empty, migrated database with published studies."""
    chance = random.Random(7)
    for start in range(1, studies + 1, _TOGETHER):
        made = [study_value(number, series, instances, chance) for number in range(start, min(start + _TOGETHER, studies + 1))]
        with database.write() as connection:
            _write(connection, made, series, instances)
    if not database.is_sqlite:  # PostgreSQL does it by itself after a while, SQLite never
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


_MORE: dict[str, Attribute] = {
    "00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "AXIAL"]},
    "00180050": {"vr": "DS", "Value": [1.25]},
    "00200032": {"vr": "DS", "Value": [-125.0, -125.0, 12.5]},
    "00200037": {"vr": "DS", "Value": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]},
    "00280030": {"vr": "DS", "Value": [0.48, 0.48]},
    "00280100": {"vr": "US", "Value": [16]},
}


def _write(connection: Connection, studies: Sequence[values.Study], series: int, instances: int) -> None:
    number = {study.study_instance_uid: int(study.study_id) for study in studies}
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in (PATIENT, STUDY, SERIES, BLOB, INSTANCE, TERM)}
    for study in studies:
        pk = number[study.study_instance_uid]
        rows[PATIENT].append(_patient(pk, study.patient))
        rows[STUDY].append(_study(pk, study))
        rows[TERM] += [
            {"tag": tag, "term": term, "date": study.date, "study_pk": pk} for tag, term in set(results.terms(study, []))
        ]
        for each, one in enumerate(study.series):
            series_pk = (pk - 1) * series + each + 1
            rows[SERIES].append(_series(series_pk, pk, study, one))
            rows[INSTANCE] += _instances(series_pk, pk, study, one, instances)
    rows[BLOB] = [{"id": row["blob_id"], "size": 1, "sha256": None, "created": 0} for row in rows[INSTANCE]]
    for table, some in rows.items():
        connection.execute(table.insert(), some)


def _patient(pk: int, patient: values.Patient) -> dict[str, Any]:
    return {
        "pk": pk, "id": patient.id, "authority": patient.identifier.authority.oid, "value": patient.identifier.value, "namespace": "",
        "name": patient.name, "name_folded": folded(patient.name), "birth_date": patient.birth_date, "sex": patient.sex,
    }  # fmt: skip


def _study(pk: int, study: values.Study) -> dict[str, Any]:
    (modality,) = study.modalities
    return {
        "pk": pk, "id": study.id, "uid": study.study_instance_uid, "patient_pk": pk, "study_id": study.study_id,
        "accession_number": study.accession_number, "accession_authority": "", "date": study.date, "time": study.time, "timezone": "",
        "description": study.description, "referring_physician": study.referring_physician, "referring_folded": "",
        "institution": study.institution, "attributes": b'{"00101010":{"vr":"AS","Value":["050Y"]}}', "received": 0, "version": 1,
        "updated": 0, "modalities": f"\\{modality}\\", "sop_classes": f"\\{SOP[modality]}\\", "series_count": len(study.series),
        "instance_count": study.instance_count, "result": lines(result("study", study, None, None, {})),
    }  # fmt: skip


def _series(pk: int, study_pk: int, study: values.Study, one: values.Series) -> dict[str, Any]:
    return {
        "pk": pk, "uid": one.series_instance_uid, "study_pk": study_pk, "modality": one.modality, "number": one.number,
        "description": one.description, "body_part": one.body_part, "laterality": "", "date": one.date, "time": one.time, "attributes": b"{}",
        "instance_count": len(one.instances), "result": lines(result("series", study, one, None, {})),
    }  # fmt: skip


def _instances(series_pk: int, study_pk: int, study: values.Study, one: values.Series, count: int) -> Iterator[dict[str, Any]]:
    first = one.instances[0].sop_instance_uid
    made = lines(result("instance", study, one, one.instances[0], _MORE))
    whole = packed(orjson.dumps(_MORE))
    for number, instance in enumerate(one.instances):
        yield {
            "pk": (series_pk - 1) * count + number + 1, "uid": instance.sop_instance_uid, "series_pk": series_pk, "study_pk": study_pk,
            "sop_class": instance.sop_class_uid, "transfer_syntax": instance.transfer_syntax_uid, "number": instance.number, "rows": 512,
            "columns": 512, "frames": 1, "title": "", "blob_id": instance.sop_instance_uid, "dataset_offset": 0, "source": "", "received": 0,
            "published": 1, "attributes": made.replace(first.encode(), instance.sop_instance_uid.encode()), "dicom_json": whole,
        }  # fmt: skip


def kinds(studies: int) -> Iterable[tuple[str, str, dict[str, str], dict[str, Any]]]:
    """(name, level, keys, more) of every kind of query, with values that differ from call to call by chance."""
    number = random.randint(1, studies)
    name = f"{random.choice(FAMILIES)}{number % 97}"
    year = random.randint(2006, 2024)
    yield "all studies, first 100", "study", {}, {"limit": 100}
    yield "all studies, offset near the end", "study", {}, {"limit": 100, "offset": studies - 200}
    yield "PatientID", "study", {"PatientID": f"P{number:06}"}, {}
    yield "PatientID wildcard", "study", {"PatientID": f"P{number:06}"[:6] + "*"}, {}
    yield "AccessionNumber", "study", {"AccessionNumber": f"A{number:07}"}, {}
    yield "StudyInstanceUID", "study", {"StudyInstanceUID": uid(number)}, {}
    yield "StudyDate, a week", "study", {"StudyDate": f"{year}0301-{year}0307"}, {"limit": 100}
    yield "StudyDate and time, combined", "study", {"StudyDate": f"{year}0301-{year}0302", "StudyTime": "1200-1300"}, {}
    yield "StudyTime alone", "study", {"StudyTime": f"{number % 24:02}{number % 60:02}"}, {"limit": 100}
    yield "PatientName, exact", "study", {"PatientName": f"{name}^{random.choice(GIVEN)}"}, {}
    yield "PatientName, prefix", "study", {"PatientName": f"{name}^*"}, {"limit": 100}
    yield "PatientName, one letter", "study", {"PatientName": "s*"}, {"limit": 100}
    yield "PatientName, infix", "study", {"PatientName": f"*{name[2:]}*"}, {"limit": 100}
    yield "PatientName, fuzzy", "study", {"PatientName": f"{name[:4]} {random.choice(GIVEN)}"}, {"limit": 100, "fuzzy": True}
    yield "ReferringPhysician, prefix", "study", {"ReferringPhysicianName": f"doctor{number % 300}*"}, {"limit": 100}
    yield "ModalitiesInStudy, common", "study", {"ModalitiesInStudy": "CT"}, {"limit": 100}
    yield "ModalitiesInStudy, rare", "study", {"ModalitiesInStudy": "MG"}, {"limit": 100}
    yield "Modality and a month", "study", {"ModalitiesInStudy": "MR", "StudyDate": f"{year}0301-{year}0331"}, {"limit": 100}
    yield "StudyDescription, infix", "study", {"StudyDescription": f"*gion {number % 50}*"}, {"limit": 100}
    yield "birth date", "study", {"PatientBirthDate": f"19{number % 80 + 20}0{number % 9 + 1}15"}, {"limit": 100}
    yield "SOPClassesInStudy", "study", {"SOPClassesInStudy": SOP["MG"]}, {"limit": 100}
    yield "series of a study", "series", {}, {"study_uid": uid(number)}
    yield "all series", "series", {}, {"limit": 100}
    yield "series by modality", "series", {"Modality": "US"}, {"limit": 100}
    yield "SeriesInstanceUID", "series", {"SeriesInstanceUID": uid(number, 3)}, {}
    yield "instances of a series", "instance", {}, {"study_uid": uid(number), "series_uid": uid(number, 2)}
    yield "instances of a study", "instance", {}, {"study_uid": uid(number)}
    yield "all instances", "instance", {}, {"limit": 100}
    yield "all instances, offset half way", "instance", {}, {"limit": 100, "offset": studies * 25}
    yield "SOPInstanceUID", "instance", {"SOPInstanceUID": uid(number, 3, 4)}, {}
    yield "instances by SOP Class", "instance", {"SOPClassUID": SOP["MG"]}, {"limit": 100}
    yield "instances of a patient", "instance", {"PatientID": f"P{number:06}"}, {}


_COLUMNS = {
    "study": (PATIENT.c.id, STUDY.c.result),
    "series": (PATIENT.c.id, SERIES.c.result, STUDY.c.result),
    "instance": (PATIENT.c.id, INSTANCE.c.attributes, SERIES.c.result, STUDY.c.result),
}


def ask(connection: Connection, level: str, keys: dict[str, str], more: dict[str, Any]) -> list[Any]:
    """The rows that QIDO-RS makes its answer of."""
    query = Query(level, {path(name): value for name, value in keys.items()}, **more)  # type: ignore[arg-type]
    return matching.page(connection, query, true(), _COLUMNS[level])


def timed(database: Database, studies: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of every kind of query, by the clock and of this thread's processor, ascending. The first round warms up."""
    took: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for name, level, keys, more in kinds(studies):
            wall, cpu = time.perf_counter(), time.thread_time()
            with database.read() as connection:
                ask(connection, level, keys, more)
            if number:
                took.setdefault(name, []).append((1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu)))
    return {name: sorted(each) for name, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m peers.many", description=__doc__)
    parser.add_argument("url", help="a database of its own, SQLAlchemy form")
    parser.add_argument("--studies", type=int, default=20_000, help="of 50 instances")
    parser.add_argument("--rounds", type=int, default=100)
    asked = parser.parse_args()
    database = Database(asked.url, durable=False)
    migrate(database)
    with database.read() as connection:
        filled = connection.execute(select(func.count()).select_from(STUDY)).scalar_one()
    if not filled:
        fill(database, asked.studies)
    gc.collect()
    gc.freeze()  # as the server does
    for name, each in timed(database, filled or asked.studies, asked.rounds).items():
        cpu = sorted(pair[1] for pair in each)
        last = min(len(each) - 1, len(each) * 99 // 100)
        print(  # noqa: T201 what it is for
            f"{name:36} p50 {each[len(each) // 2][0]:7.2f}  p99 {each[last][0]:7.2f} ms;  "
            f"processor p50 {cpu[len(cpu) // 2]:7.2f}  p99 {cpu[last]:7.2f} ms"
        )
    database.close()


if __name__ == "__main__":
    main()
