"""Query matching (PS3.4 section C.2.2.2) against a slow oracle in Python, on both engines."""

import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, true

from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.person_name import folded, sound, words
from profiles.study import Instance, Patient, Series, Study
from server.errors import MalformedQuery, TooLarge
from server.records import catalogue, matching, placing
from server.records.conditions import path
from server.records.matching import Query, patient_ids, patients_of, search
from server.records.resources import packed
from server.store.blobs import Blob
from server.store.db import Database
from server.store.migrations import migrate

DATES = ("", "19991231", "20200101", "20200229", "20210615")
TIMES = ("", "10", "1030", "103000", "103000.5", "103059.999999", "235960", "000000")
NAMES = (
    "",
    "DOE^JOHN",
    "Doe^John^^",
    "DOE^JANE",
    "Müller^Åsa",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "O'[NEIL]%_",
    "MULLER^ASA^M",
)
TEXTS = ("", "A1", "a1", "A[1]", "A%_1", "A1 B", "ÄÖ", "1")
CODES = ("CT", "MR", "C", "SR", "RTSTRUCT")


WHOLE = {
    "00081115": {"vr": "SQ", "Value": [{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}]},
    "00191001": {"vr": "LO", "Value": ["private", "second"]},
    "00204000": {"vr": "LT", "Value": ["HFS"]},
}
"""What the metadata of each instance says."""


def studies() -> list[Study]:
    """One study a combination that matters, each with two series of one instance."""
    made = []
    for number in range(24):
        uid = f"1.2.{number}"
        made.append(
            Study(
                study_instance_uid=uid,
                patient=Patient(
                    PatientIdentifier(TEXTS[number % 8] or f"P{number}", AssigningAuthority(f"2.999.{number}")), NAMES[number % 8], DATES[number % 5], "M"
                ),
                study_id=TEXTS[(number + 3) % 8],
                accession_number=TEXTS[(number + 1) % 8],
                date=DATES[(number + 1) % 5],
                time=TIMES[number % 8],
                referring_physician=NAMES[(number + 2) % 8],
                modalities=tuple(sorted({CODES[number % 5], CODES[(number * 3 + 1) % 5]})),
                series=tuple(
                    Series(
                        f"{uid}.{which}", CODES[(number, number * 3 + 1)[which] % 5], number=(number + which) % 4 or None, date=DATES[number % 5],
                        instances=(Instance(f"{uid}.{which}.1", f"1.2.840.{which}", "1.2.840.10008.1.2.1", number % 3, rows=number),),
                    )
                    for which in (0, 1)
                ),
            )
        )  # fmt: skip
    return made


def admit(connection: Connection, study: Study) -> None:
    for series in study.series:
        one = replace(study, series=(series,))
        steps = [{"00400009": {"vr": "SH", "Value": [series.series_instance_uid[-3:]]}}, {"00400009": {"vr": "SH"}}]
        told = {
            "00400244": {"vr": "DA", "Value": ["20200101"]},
            "00400275": {"vr": "SQ", "Value": steps},
            "00081010": {"vr": "SH", "Value": ["\0S"]},
        }
        uid = series.instances[0].sop_instance_uid
        body = orjson.dumps(told if series.series_instance_uid.endswith("0") else {})
        where, _ = placing.place(connection, placing.Setting(one, b"{}", body))
        placing.admit(connection, [(placing.Arrival(series.instances[0], Blob(uid, 1, b""), 0, "test"), where)])
    for pk, blob_id in catalogue.pending(connection, where.study_pk, prepared=False):
        catalogue.prepare(connection, pk, blob_id, attributes=b"{}", dicom_json=packed(orjson.dumps(WHOLE)), frame_table=None)
    loaded = catalogue.load(connection, where.study_pk, prepared=True)
    news = [pk for pk, *_ in catalogue.pending(connection, where.study_pk, prepared=True)]
    assert catalogue.publish(connection, where.study_pk, loaded, news, updated=1)


@contextmanager
def filled(url: str) -> Iterator[Database]:
    database = Database(url)
    migrate(database)
    with database.write() as connection:
        for study in studies():
            admit(connection, study)
    try:
        yield database
    finally:
        database.close()


def found(database: Database, level: str, keys: dict[str, str], **more: object) -> set[str]:
    with database.read() as connection:
        matches, _ = search(
            connection, Query(level, {path(name): value for name, value in keys.items()}, limit=1000, **more), true()
        )  # type: ignore[arg-type]
    pick = {
        "study": lambda match: match.study.study_instance_uid,
        "series": lambda match: match.series.series_instance_uid,
        "instance": lambda match: match.instance.sop_instance_uid,
    }[level]
    uids = [pick(match) for match in matches]
    assert len(uids) == len(set(uids))
    return set(uids)


# --- the oracle: the same rules, one value at a time


def text_matches(stored: str, pattern: str) -> bool:
    if not ("*" in pattern or "?" in pattern):
        return stored == pattern
    translated = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(translated, stored, re.DOTALL) is not None


def name_matches(stored: str, pattern: str) -> bool:
    if not pattern.strip("*"):
        return True
    wanted = folded(pattern).rstrip("^= ")
    groups = [group.rstrip("^ ") for group in folded(stored).split("=")]
    spans = {"=".join(groups[a:b]) for a in range(len(groups)) for b in range(a + 1, len(groups) + 1)} - {""}
    ways = [wanted, wanted.rstrip("^*")] if re.search(r"\^\**\*$", wanted) else [wanted]
    return any(text_matches(span, way) for span in spans for way in ways)


def sounds_or_begins(stored: str, asked: str) -> bool:
    """PS3.18 section 8.3.4.2, as the documentation states the rule."""
    return all(
        any(has.startswith(word) or (sound(word) and sound(has) == sound(word)) for has in words(stored)) for word in words(asked)
    )


def seconds(text: str, *, last: bool) -> float:
    hours, minutes, rest = text[:2], text[2:4], text[4:]
    if last:
        minutes, rest = minutes or "59", rest or "60"
        rest = rest if "." in rest else f"{rest}.999999"
        rest = rest.ljust(9, "9")
    return int(hours) * 10000 + int(minutes or 0) * 100 + float(rest or 0)


def range_matches(stored: str, asked: str, low, high) -> bool:  # type: ignore[no-untyped-def]
    first, dash, last = asked.partition("-")
    if not dash:
        last = first
    return bool(stored) and (not first or low(stored) >= low(first)) and (not last or low(stored) <= high(last))


def time_matches(stored: str, asked: str) -> bool:
    return range_matches(stored, asked, lambda text: seconds(text, last=False), lambda text: seconds(text, last=True))


def date_matches(stored: str, asked: str) -> bool:
    return range_matches(stored, asked, str, str)


patterns = st.one_of(
    st.sampled_from([t for t in TEXTS if t]),
    st.text("A1a[]%_*? BÄ", min_size=1, max_size=5).filter(lambda text: text.strip()),
).map(lambda text: text.strip(" "))
name_patterns = st.one_of(
    st.sampled_from(
        [n for n in NAMES if n]
        + [
            "doe^john",
            "DOE*",
            "muller^asa",
            "Yamada^Tarou",
            "山田^太郎",
            "*太*",
            "d?e^j*",
            "o'[neil]%_",
            "*[*",
            "doe^*",
            "doe^**",
            "*",
            "*=*",
            "?*",
        ]
    ),
    st.text("doeDjn^*?=", min_size=1, max_size=6).filter(lambda text: text.strip("^= *")),
)


def ranges(values: list[str]) -> st.SearchStrategy[str]:
    one = st.sampled_from(values)
    return st.one_of(one, one.map("{}-".format), one.map("-{}".format), st.tuples(one, one).map("-".join))


dates = ranges([*DATES[1:], "20200102", "18500101"])
times = ranges([*TIMES[1:], "1029", "103030", "1030.5".replace(".5", "00.25"), "09", "2359"])


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with filled(database_url) as opened:
        yield opened


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_studies_match_as_the_oracle_says(database: Database, data: st.DataObject) -> None:
    keys = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "AccessionNumber": patterns,
                "StudyID": patterns,
                "PatientID": patterns,
                "PatientName": name_patterns,
                "ReferringPhysicianName": name_patterns,
                "StudyDate": dates,
                "PatientBirthDate": dates,
                "StudyTime": times,
                "ModalitiesInStudy": st.sampled_from(["CT", "CT,MR", "CT\\SR", "C", "C*", "?R", "*T*", "US", "ct"]),
                "StudyInstanceUID": st.lists(st.integers(0, 30).map(lambda n: f"1.2.{n}"), min_size=1, max_size=4).map(",".join),
            },
        )
    )

    def matches(study: Study) -> bool:
        codes = re.split(r"[,\\]", keys.get("ModalitiesInStudy", "").upper())
        return (
            all(
                text_matches(stored, keys[name])
                for name, stored in (
                    ("AccessionNumber", study.accession_number),
                    ("StudyID", study.study_id),
                    ("PatientID", study.patient.identifier.value),
                )
                if name in keys
            )
            and all(
                name_matches(stored, keys[name])
                for name, stored in (("PatientName", study.patient.name), ("ReferringPhysicianName", study.referring_physician))
                if name in keys
            )
            and ("StudyDate" not in keys or date_matches(study.date, keys["StudyDate"]))
            and ("PatientBirthDate" not in keys or date_matches(study.patient.birth_date, keys["PatientBirthDate"]))
            and ("StudyTime" not in keys or time_matches(study.time, keys["StudyTime"]))
            and ("ModalitiesInStudy" not in keys or any(fnmatch.fnmatchcase(m, code) for m in study.modalities for code in codes))
            and ("StudyInstanceUID" not in keys or study.study_instance_uid in keys["StudyInstanceUID"].split(","))
        )

    assert found(database, "study", keys) == {study.study_instance_uid for study in studies() if matches(study)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.fixed_dictionaries(
        {},
        optional={
            "Modality": st.sampled_from([*CODES, "*", "?R", "CT,SR"]),
            "SeriesNumber": st.sampled_from(["1", "+2", "3", "99"]),
            "SeriesDate": dates,
            "Rows": st.integers(0, 25).map(str),
            "InstanceNumber": st.integers(0, 3).map(str),
            "SOPClassUID": st.sampled_from(["1.2.840.0", "1.2.840.1", "1.2.840.0\\1.2.840.1"]),
            "StudyDate": dates,
        },
    )
)
def test_instances_match_as_the_oracle_says(database: Database, keys: dict[str, str]) -> None:
    expected = {
        instance.sop_instance_uid
        for study in studies()
        for series in study.series
        for instance in series.instances
        if ("Modality" not in keys or any(fnmatch.fnmatchcase(series.modality, code) for code in keys["Modality"].split(",")))
        and ("SeriesNumber" not in keys or series.number == int(keys["SeriesNumber"]))
        and ("SeriesDate" not in keys or date_matches(series.date, keys["SeriesDate"]))
        and ("StudyDate" not in keys or date_matches(study.date, keys["StudyDate"]))
        and ("Rows" not in keys or instance.rows == int(keys["Rows"]))
        and ("InstanceNumber" not in keys or instance.number == int(keys["InstanceNumber"]))
        and ("SOPClassUID" not in keys or instance.sop_class_uid in keys["SOPClassUID"].split("\\"))
    }
    assert found(database, "instance", keys) == expected


def test_attributes_without_a_column_match_in_their_stored_json(database: Database) -> None:
    first = {f"1.2.{number}.0" for number in range(24)}
    assert found(database, "series", {"PerformedProcedureStepStartDate": "20191231-20200102"}) == first
    assert found(database, "series", {"PerformedProcedureStepStartDate": "20200102-"}) == set()
    assert found(database, "series", {"RequestAttributesSequence.ScheduledProcedureStepID": "3.0"}) == {
        "1.2.3.0",
        "1.2.13.0",
        "1.2.23.0",
    }
    assert found(database, "series", {"00400275.00400009": "?.0"}) == {f"1.2.{number}.0" for number in range(24)}
    assert found(database, "series", {"StationName": "*S"}) == first
    assert found(database, "series", {"StationName": ""}) == first | {f"1.2.{number}.1" for number in range(24)}


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("study", {"StudyDate": "*", "StudyTime": "**", "StudyInstanceUID": "*", "NumberOfStudyRelatedSeries": "*"}),
        ("study", {"PatientName": "^^^^", "ReferringPhysicianName": "^=^", "SOPClassesInStudy": "*"}),
        ("study", {"PatientName": "^"}),
        ("instance", {"InstanceNumber": "*", "SOPInstanceUID": "*", "AcquisitionDate": "*", "00191001": "*"}),
        ("instance", {"ReferencedSeriesSequence.SeriesDate": "*", "PerformingPhysicianName": "^^^"}),
    ],
)
def test_only_asterisks_or_no_component_of_a_name_match_everything(database: Database, level: str, keys: dict[str, str]) -> None:
    """PS3.4 sections C.2.2.2.3 and C.2.2.2.4, whatever the VR, and whatever is stored."""
    assert found(database, level, keys) == found(database, level, {})
    assert found(database, level, keys, fuzzy=True) == found(database, level, {})


def test_dates_without_a_column_match_as_a_list(database: Database) -> None:
    first = {f"1.2.{number}.0" for number in range(24)}
    assert found(database, "series", {"PerformedProcedureStepStartDate": "20200101"}) == first
    assert found(database, "series", {"PerformedProcedureStepStartDate": "20200102"}) == set()


def test_sop_classes_in_study_are_those_of_its_instances(database: Database) -> None:
    assert len(found(database, "study", {"00080062": "1.2.840.1"})) == 24
    assert found(database, "study", {"00080062": "1.2.3.4"}) == set()


def test_pages_follow_each_other_without_gap_or_overlap(database: Database) -> None:
    seen: list[str] = []
    for offset in range(0, 48, 7):
        with database.read() as connection:
            matches, more = search(connection, Query("series", limit=7, offset=offset), true())
        assert more == (offset + 7 < 48)
        seen += [match.series.series_instance_uid for match in matches if match.series]
    assert len(seen) == len(set(seen)) == 48


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("study", {"StudyDate": "2020"}),
        ("study", {"StudyDate": "-"}),
        ("study", {"StudyTime": "2560"}),
        ("study", {"StudyInstanceUID": "1.2.x"}),
        ("study", {"SeriesNumber": "1"}),
        ("series", {"SeriesNumber": "one"}),
        ("study", {"PatientName": "a\0b"}),
        ("study", {"PatientID": "*a" * 9}),
        ("study", {"NoSuchKeyword": "1"}),
        ("study", {"PixelData": "1"}),
        ("series", {"RequestAttributesSequence": "1"}),
        ("series", {".".join(["RequestAttributesSequence"] * 9): "1"}),
        ("series", {"00191001": "private"}),
        ("patient", {"StudyDate": "20200101"}),
        ("series", {"PixelData": "*"}),
        ("study", {"SeriesNumber": "*"}),
        ("instance", {"AcquisitionDate": "abc"}),
        ("instance", {"AcquisitionTime": "2560"}),
        ("instance", {"AcquisitionDateTime": "abc"}),
        ("series", {"PerformedProcedureStepStartDate": "abc"}),
        ("instance", {"ReferencedSeriesSequence.SeriesDate": "20200101\\abc"}),
    ],
)
def test_what_cannot_be_matched_is_refused(level: str, keys: dict[str, str], tmp_path) -> None:  # type: ignore[no-untyped-def]
    database = Database(f"sqlite:///{tmp_path / 'd'}")
    migrate(database)
    with pytest.raises(MalformedQuery):
        found(database, level, keys)
    database.close()


def test_patients_by_their_patient_id(database: Database) -> None:
    """TEXTS has eight values in 24 studies, each of another authority: three patients have each."""
    with database.read() as connection:
        owners = patients_of(connection, "A1")
        assert len(owners) == 3
        assert patient_ids(connection, owners) == {"A1"}
        assert patients_of(connection, "nobody") == frozenset()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.sampled_from(["doe", "Jon", "yam", "müll", "mueler", "asa", "smyth", "太", "山", "o'neill", "j"]),
        min_size=1,
        max_size=2,
    )
)
def test_fuzzy_names_match_as_the_oracle_says(database: Database, asked: list[str]) -> None:
    expected = {study.study_instance_uid for study in studies() if sounds_or_begins(study.patient.name, " ".join(asked))}
    assert found(database, "study", {"PatientName": "^".join(asked)}, fuzzy=True) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.tuples(*[st.sampled_from(["", *DATES[1:]])] * 2).filter(any),
    clocks=st.tuples(*[st.sampled_from(["", *TIMES[1:]])] * 2).filter(any),
)
def test_a_range_of_dates_and_one_of_times_are_one_of_moments(
    database: Database, days: tuple[str, str], clocks: tuple[str, str]
) -> None:
    """PS3.4 section C.2.2.2.5.1; without a date on a side, its time says nothing."""
    (first, last), (begin, end) = days, clocks

    def matches(study: Study) -> bool:
        if not study.date:
            return False
        now = seconds(study.time, last=False) if study.time else None
        after = (
            not first
            or study.date > first
            or (study.date == first and (not begin or (now is not None and now >= seconds(begin, last=False))))
        )
        before = (
            not last
            or study.date < last
            or (study.date == last and (not end or (now is not None and now <= seconds(end, last=True))))
        )
        return after and before

    keys = {"StudyDate": "-".join(days), "StudyTime": "-".join(clocks)}
    assert found(database, "study", keys) == {study.study_instance_uid for study in studies() if matches(study)}
    apart = {
        s.study_instance_uid
        for s in studies()
        if date_matches(s.date, keys["StudyDate"]) and time_matches(s.time, keys["StudyTime"])
    }
    assert found(database, "study", keys, combined=False) == apart


def test_instances_match_in_all_of_their_metadata(database: Database) -> None:
    everything = found(database, "instance", {})
    deep = "ReferencedSeriesSequence.ReferencedSOPSequence.ReferencedSOPInstanceUID"
    assert found(database, "instance", {deep: "1.2.3"}) == everything
    assert found(database, "instance", {deep: "1.2.4"}) == set()
    assert found(database, "instance", {"00191001": "sec*"}) == everything, "any value of a private attribute"
    assert found(database, "instance", {"00191001": "private", "ImageComments": "HF?", "Modality": "CT"}) == found(
        database, "instance", {"Modality": "CT"}
    )
    assert found(database, "instance", {"00191001": "none"}, study_uid="1.2.3") == set()


def test_every_page_of_every_level_is_in_one_order(database: Database) -> None:
    for level, total in (("study", 24), ("series", 48), ("instance", 48)):
        for keys in ({}, {"00080201": ""}, {"Modality": "?R"} if level != "study" else {"ModalitiesInStudy": "CT"}):
            with database.read() as connection:
                wanted = {path(name): value for name, value in keys.items()}
                whole, more = search(connection, Query(level, wanted, limit=1000), true())  # type: ignore[arg-type]
                assert not more
                pages = [search(connection, Query(level, wanted, limit=5, offset=at), true())[0] for at in range(0, 60, 5)]  # type: ignore[arg-type]
            assert [match for page in pages for match in page] == whole
            assert len(whole) == total or any(keys.values())


def test_patients_have_the_counts_of_their_studies(database: Database) -> None:
    with database.read() as connection:
        matches, more = search(connection, Query("patient", {path("PatientName"): "doe*"}, limit=4), true())
        everybody, _ = search(connection, Query("patient", limit=100), true())
        named, _ = search(connection, Query("patient", {path("PatientID"): "ÄÖ"}, limit=100), true())
    assert more
    assert len(matches) == 4
    assert len(everybody) == 24
    assert {(match.study_count, match.series_count, match.instance_count) for match in everybody} == {(1, 2, 2)}
    assert {match.study.patient.identifier.value for match in named} == {"ÄÖ"}


def test_what_no_index_knows_is_looked_for_within_bounds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MOST_LOOKED_THROUGH", 10)
    with pytest.raises(TooLarge):
        found(database, "instance", {"00191001": "none"})
    assert found(database, "instance", {"00191001": "none"}, study_uid="1.2.3") == set()
