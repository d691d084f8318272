"""C-FIND over real sockets: dcmtk, pynetdicom and Orthanc ask; PS3.4 section C.4.1."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers.generated import Made
from peers.orthanc import orthanc
from peers.querying import Archive, archive, associated, found, identifier
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from sqlalchemy import Connection, select, update

from profiles.query_attributes import OPTIONAL, REQUIRED
from profiles.query_retrieve import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from server.edges.dimse import find
from server.edges.dimse.serving import Serving
from server.records import catalogue
from server.store.db import Database

ON_BOTH_ENGINES = True

STUDIES = (
    Made(study=1, patient="P1", name="Müller^Åsa", accession="A1"),
    Made(study=1, series=2, number=1, patient="P1", name="Müller^Åsa", accession="A1", modality="MR"),
    Made(study=1, series=2, number=2, patient="P1", name="Müller^Åsa", accession="A1", modality="MR"),
    Made(study=2, patient="P2", name="Yamada^Tarou=山田^太郎", accession="A2"),
    Made(study=3, patient="P1", name="Müller^Åsa", accession=""),
)
ONE = STUDIES[0]


@pytest.fixture
def filled(tmp_path: Path, engine: None) -> Iterator[Archive]:
    with archive(tmp_path / "data", *STUDIES) as opened:
        yield opened


def uids(matches: list[Dataset]) -> set[str]:
    return {str(match.StudyInstanceUID) for match in matches}


@pytest.mark.peers
def test_findscu(filled: Archive, dcmtk: Callable[[str], Path]) -> None:
    keys = (
        "QueryRetrieveLevel=STUDY",
        "StudyInstanceUID",
        "PatientName=m*",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
    )
    command = [dcmtk("findscu"), "-S", "-v", "-aec", "IMAGESHARE", *(part for key in keys for part in ("-k", key)), "127.0.0.1"]
    run = subprocess.run([*command, str(filled.port)], capture_output=True, text=True, check=True)
    told = run.stdout + run.stderr
    assert "Find Response: 2 (Pending)" in told
    assert "Find Response: 3" not in told
    assert "CT\\MR" in told
    assert "(Success)" in told


def test_matching(filled: Archive) -> None:
    """Each kind of PS3.4 section C.2.2.2, at study level."""
    for keys, expected in (
        ({}, {1, 2, 3}),
        ({"PatientID": "P1"}, {1, 3}),
        ({"PatientName": "MULLER^ASA"}, {1, 3}),
        ({"PatientName": "山田*"}, {2}),
        ({"PatientName": "*"}, {1, 2, 3}),
        ({"PatientID": "P?"}, {1, 2, 3}),
        ({"AccessionNumber": "*"}, {1, 2, 3}),
        ({"AccessionNumber": "a1"}, set()),
        ({"StudyDate": "20260105"}, {1, 2, 3}),
        ({"StudyDate": "20260106-"}, set()),
        ({"StudyDate": "-20260105", "StudyTime": "0900-0930"}, {1, 2, 3}),
        ({"StudyInstanceUID": [Made(study=2).study_uid, Made(study=3).study_uid]}, {2, 3}),
        ({"ModalitiesInStudy": "MR"}, {1}),
        ({"ModalitiesInStudy": ["MR", "SR"]}, {1}),
    ):
        asked = identifier("STUDY", SpecificCharacterSet="ISO_IR 192", **({"StudyInstanceUID": ""} | keys))
        matches, final, statuses = found(filled, asked)
        assert uids(matches) == {Made(study=number).study_uid for number in expected}, keys
        assert final.Status == 0
        assert set(statuses[:-1]) <= {0xFF00}


def test_a_result_has_what_was_asked_for(filled: Archive) -> None:
    """PS3.4 section C.4.1.1.3.2."""
    asked = identifier(
        "STUDY", StudyInstanceUID=ONE.study_uid, StudyDescription="", NumberOfStudyRelatedSeries=None, InstanceAvailability=""
    )
    (match,), _, _ = found(filled, asked)
    assert [element.keyword for element in match] == [
        "QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability", "StudyDescription", "StudyInstanceUID", "NumberOfStudyRelatedSeries",
    ]  # fmt: skip
    assert match.StudyDescription == "GENERATED"
    assert match.RetrieveAETitle == "IMAGESHARE"
    assert match.InstanceAvailability == "ONLINE"
    assert match.NumberOfStudyRelatedSeries == 2


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_every_transfer_syntax_of_identifiers(filled: Archive, syntax: str) -> None:
    matches, _, _ = found(filled, identifier("STUDY", PatientID="P2", PatientName="", StudyInstanceUID=""), syntaxes=[syntax])
    assert [str(match.PatientName) for match in matches] == ["Yamada^Tarou=山田^太郎"]


def test_character_sets_in_both_directions(filled: Archive) -> None:
    asked = identifier("STUDY", SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="*=山田^*", StudyInstanceUID="")
    (match,), _, _ = found(filled, asked)
    assert match.SpecificCharacterSet == ["", "ISO 2022 IR 87"]
    assert str(match.PatientName) == "Yamada^Tarou=山田^太郎"
    asked = identifier(
        "STUDY", SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER*", StudyInstanceUID="", AccessionNumber="A1"
    )
    (match,), _, _ = found(filled, asked)
    assert match.SpecificCharacterSet == "ISO_IR 100"
    assert str(match.PatientName) == "Müller^Åsa"


def test_levels(filled: Archive) -> None:
    series, final, _ = found(
        filled,
        identifier(
            "SERIES", StudyInstanceUID=ONE.study_uid, Modality="MR", SeriesInstanceUID="", NumberOfSeriesRelatedInstances=None
        ),
    )
    assert final.Status == 0
    assert [(str(each.SeriesInstanceUID), int(each.NumberOfSeriesRelatedInstances)) for each in series] == [
        (STUDIES[1].series_uid, 2)
    ]
    asked = identifier(
        "IMAGE",
        StudyInstanceUID=ONE.study_uid,
        SeriesInstanceUID=STUDIES[1].series_uid,
        SOPInstanceUID="",
        InstanceNumber="",
        Rows=None,
    )
    images, _, _ = found(filled, asked)
    assert [(str(each.SOPInstanceUID), int(each.InstanceNumber), each.Rows) for each in images] == [
        (STUDIES[1].uid, 1, 4),
        (STUDIES[2].uid, 2, 4),
    ]


@pytest.mark.parametrize("model", [PATIENT_ROOT.find, PATIENT_STUDY_ONLY.find])
def test_patient_level(filled: Archive, model: str) -> None:
    asked = identifier("PATIENT", PatientID="", PatientName="m*", PatientSex="", NumberOfPatientRelatedStudies=None)
    matches, final, _ = found(filled, asked, model=model)
    assert final.Status == 0
    assert [(str(each.PatientID), int(each.NumberOfPatientRelatedStudies), each.PatientSex) for each in matches] == [
        ("P1", 2, "F")
    ]


def test_unique_keys_above_the_level_are_needed(filled: Archive) -> None:
    """PS3.4 section C.4.1.2.1; not with relational queries, section C.4.1.2.2."""
    for model, asked, tag in (
        (STUDY_ROOT.find, identifier("SERIES", SeriesInstanceUID=""), 0x0020000D),
        (STUDY_ROOT.find, identifier("SERIES", StudyInstanceUID=["1.2", "1.3"], SeriesInstanceUID=""), 0x0020000D),
        (STUDY_ROOT.find, identifier("IMAGE", StudyInstanceUID="1.2", SOPInstanceUID=""), 0x0020000E),
        (PATIENT_ROOT.find, identifier("STUDY", StudyInstanceUID=""), 0x00100020),
        (PATIENT_ROOT.find, identifier("STUDY", PatientID="P*", StudyInstanceUID=""), 0x00100020),
        (STUDY_ROOT.find, identifier("PATIENT", PatientID=""), 0x00080052),
        (PATIENT_STUDY_ONLY.find, identifier("IMAGE", SOPInstanceUID=""), 0x00080052),
        (STUDY_ROOT.find, identifier("", StudyInstanceUID=""), 0x00080052),
    ):
        matches, final, _ = found(filled, asked, model=model)
        assert (matches, final.Status, final.OffendingElement) == ([], 0xA900, tag)
        assert final.ErrorComment
    matches, final, _ = found(filled, identifier("SERIES", SeriesInstanceUID="", Modality="MR"), information=b"\x01")
    assert final.Status == 0
    assert [str(each.StudyInstanceUID) for each in matches] == [ONE.study_uid]


def test_extended_negotiation(filled: Archive) -> None:
    """PS3.4 section C.5.1.1: what is agreed to is what is done."""
    with associated(filled, abstract_syntaxes=[STUDY_ROOT.find], information=b"\x01\x01\x01\x01\x01") as association:
        (answer,) = association.acceptor.sop_class_extended.values()
    assert answer == b"\x01\x01\x01\x00\x00"


def test_keys_that_are_not_supported(filled: Archive) -> None:
    """PS3.4 table C.4-1: 0xFF01, and the key is not matched; a value that is none of its key is 0xA900."""
    matches, _, statuses = found(filled, identifier("STUDY", StudyInstanceUID=ONE.study_uid, SOPInstanceUID="1.2.3"))
    assert len(matches) == 1
    assert statuses == [0xFF01, 0]
    asked = identifier("STUDY", StudyInstanceUID="")
    asked.add_new(0x00080020, "LO", "yesterday")
    _, final, _ = found(filled, asked, syntaxes=["1.2.840.10008.1.2"])
    assert (final.Status, final.OffendingElement) == (0xA900, 0x00080020)
    assert "yesterday" not in final.ErrorComment


def test_what_cannot_be_read_is_refused(filled: Archive) -> None:
    broken = identifier("STUDY", StudyInstanceUID="")
    broken.ReferencedStudySequence = Sequence([Dataset(), Dataset()])
    _, final, _ = found(filled, broken)
    assert final.Status == 0xA900


def test_pages_and_cancel(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a page, each match comes once; a cancel ends it between two of them."""
    monkeypatch.setattr(find, "PAGE", 1)
    matches, final, _ = found(filled, identifier("STUDY", StudyInstanceUID=""))
    assert len(matches) == 3
    assert len(uids(matches)) == 3
    assert final.Status == 0
    monkeypatch.setattr(find, "MOST_MATCHES", 2)
    matches, final, _ = found(filled, identifier("STUDY", StudyInstanceUID=""))
    assert (len(matches), final.Status) == (2, 0xA700)
    assert "2 matches" in final.ErrorComment


def test_no_view_is_open_while_matches_are_sent(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow peer must not keep the database from tidying up; and of whole instances few are read at a time."""
    views = 0
    database, original, some = filled.node.database, Database.read, catalogue.some_dicom_json
    sizes: list[int] = []

    @contextmanager
    def read(self: Database) -> Iterator[Connection]:
        nonlocal views
        with original(self) as connection:
            views += self is database
            try:
                yield connection
            finally:
                views -= self is database

    def respond(self: Serving, *arguments: object) -> None:
        assert views == 0
        sent.append(self.calling)
        original_respond(self, *arguments)  # type: ignore[arg-type]

    def counted(*arguments: Any) -> list[bytes]:
        sizes.append(len(found_ := some(*arguments)))
        return found_

    sent: list[str] = []
    original_respond = Serving.respond_each
    monkeypatch.setattr(Database, "read", read)
    monkeypatch.setattr(Serving, "respond_each", respond)
    monkeypatch.setattr(find, "_TOGETHER", 1)
    monkeypatch.setattr(catalogue, "some_dicom_json", counted)
    asked = identifier("IMAGE", SOPInstanceUID="", HighBit=None, StudyInstanceUID=ONE.study_uid, SeriesInstanceUID="")
    for most, expected in ((1 << 20, [3]), (1, [1, 1, 1])):
        monkeypatch.setattr(find, "MOST_BYTES", most)
        matches, final, _ = found(filled, asked, information=b"\1")
        assert [match.HighBit for match in matches] == [7, 7, 7]
        assert final.Status == 0
        assert (sizes, len(sent)) == (expected, 3)
        sizes.clear()
        sent.clear()


@pytest.mark.parametrize("gone", [1, 3])
def test_what_goes_between_two_pages_hides_nothing_else(
    tmp_path: Path, engine: None, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    monkeypatch.setattr(find, "PAGE", 4)
    monkeypatch.setattr(find, "_OVERLAP", 2)
    made = [Made(study=number) for number in range(1, 11)]
    told: list[str] = []
    with archive(tmp_path / "data", *made) as opened:
        original = find._stored

        def stored(match: Any) -> dict[str, Any]:
            result: dict[str, Any] = original(match)
            told.append(result["0020000D"]["Value"][0])
            if len(told) == 4:  # the first page has been read: what it had first goes
                with opened.node.database.write() as connection:
                    connection.execute(update(catalogue.STUDY).where(catalogue.STUDY.c.uid.in_(told[:gone])).values(version=0))
            return result

        monkeypatch.setattr(find, "_stored", stored)
        matches, final, _ = found(opened, identifier("STUDY", StudyInstanceUID=""))
    assert sorted(str(match.StudyInstanceUID) for match in matches) == sorted(each.study_uid for each in made)
    assert final.Status == 0


def test_large_matches_are_sent_a_few_at_a_time() -> None:
    sizes = [[len(each) for each in batch] for batch in find._batches(bytes(size) for size in (*[600_000] * 3, *[10] * 70))]
    assert sizes == [[600_000] * 2, [600_000, *[10] * 63], [10] * 7]


@pytest.mark.parametrize("together", [1, 64])
def test_made_results_say_what_the_catalogue_says(filled: Archive, monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """What was written when a study was published, what is put together now, and what a study has that is still to be indexed."""
    monkeypatch.setattr(find, "_TOGETHER", together)
    keys = [key for table in (REQUIRED, OPTIONAL) for tags in table.values() for key in tags]
    keys += ["00080054", "00080056", "00080061", "00080062", "00081190", "00083002", "00201206", "00201208", "00201209"]
    for level in ("STUDY", "SERIES", "IMAGE"):
        asked = identifier(level)
        for key in keys:
            if int(key, 16) not in asked and key != "00080005":
                asked.add_new(int(key, 16), dictionary_VR(int(key, 16)), None)
        made, final, _ = found(filled, asked, information=b"\1")
        assert final.Status == 0
        assert made
        with monkeypatch.context() as patch:
            patch.setattr(find, "_made", lambda *_: ())
            live, _, _ = found(filled, asked, information=b"\1")
        assert made == live
        with filled.node.database.write() as connection:
            kept = connection.execute(select(catalogue.STUDY.c.pk, catalogue.STUDY.c.result)).all()
            connection.execute(update(catalogue.STUDY).where(catalogue.STUDY.c.pk == kept[0].pk).values(result=None))
        waiting, _, _ = found(filled, asked, information=b"\1")
        with filled.node.database.write() as connection:
            connection.execute(update(catalogue.STUDY).where(catalogue.STUDY.c.pk == kept[0].pk).values(result=kept[0].result))
        assert waiting == live


def test_cancel(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    with associated(filled, abstract_syntaxes=[STUDY_ROOT.find]) as association:
        context = association.accepted_contexts[0].context_id
        original = find._stored

        def slowly(*arguments: object) -> object:
            association.send_c_cancel(7, context)
            while not association.dul.to_provider_queue.empty():
                pass
            return original(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(find, "_stored", slowly)
        statuses = [
            status.Status
            for status, _ in association.send_c_find(identifier("STUDY", StudyInstanceUID=""), STUDY_ROOT.find, msg_id=7)
        ]
    assert statuses[-1] == 0xFE00
    assert len(statuses) <= 3


def test_the_trail_knows_of_each_patient(filled: Archive) -> None:
    before = len(filled.trail())
    found(filled, identifier("STUDY", StudyInstanceUID="", PatientName=""))
    found(filled, identifier("STUDY", StudyInstanceUID="1.2.3"))
    events = filled.trail()[before:]
    assert [event["type"]["code"] for event in events] == ["110112"] * 3
    patients = [
        [each["what"].get("reference", "") for each in event["entity"] if each.get("type", {}).get("code") == "1"]
        for event in events
    ]
    assert [len(each) for each in patients] == [1, 1, 0]
    assert all("query" in event["entity"][0] for event in events)
    assert {event["agent"][0]["who"]["identifier"]["value"] for event in events} == {"SCU"}


def test_a_peer_without_the_permission_is_not_answered(tmp_path: Path) -> None:
    devices = (
        {"ae_title": "SCU", "address": "127.0.0.1"},
        {"ae_title": "READER", "address": "127.0.0.1", "permissions": ["query"]},
    )
    with archive(tmp_path / "data", ONE, devices=devices) as opened:
        with pytest.raises(AssertionError):
            found(opened, identifier("STUDY", StudyInstanceUID=""))
        matches, _, _ = found(opened, identifier("STUDY", StudyInstanceUID=""), calling="READER")
        assert len(matches) == 1
        with pytest.raises(AssertionError), associated(opened, abstract_syntaxes=[STUDY_ROOT.move], calling="READER"):
            pass


def test_any_attribute_of_an_instance_may_be_asked_for(filled: Archive) -> None:
    """Also what results of searches do not have by default; one that this instance lacks is empty, not unsupported."""
    asked = identifier("IMAGE", StudyInstanceUID=ONE.study_uid, SeriesInstanceUID=ONE.series_uid, SOPInstanceUID="", HighBit=None)
    (match,), _, statuses = found(filled, asked)
    assert match.HighBit == 7
    assert statuses == [0xFF00, 0]
    asked.SliceThickness = None
    asked.add_new(0x00091001, "LO", "")
    (match,), _, statuses = found(filled, asked)
    assert statuses == [0xFF00, 0]
    assert match.SliceThickness is None
    asked.NumberOfPatientRelatedStudies = None
    (match,), _, statuses = found(filled, asked)
    assert statuses == [0xFF01, 0]


@pytest.mark.parametrize(
    ("level", "status", "names"),
    [
        ("STUDY", 0xFF00, ("InstitutionName", "PatientAge", "StudyDescription", "QueryRetrieveView", "SOPClassesInStudy")),
        ("SERIES", 0xFF00, ("InstitutionName", "BodyPartExamined", "SeriesDate", "ProtocolName", "NumberOfStudyRelatedSeries")),
        ("STUDY", 0xFF01, ("StudyDescription", "Rows")),
        ("STUDY", 0xFF01, ("SeriesDate",)),
        ("SERIES", 0xFF01, ("NumberOfPatientRelatedStudies",)),
    ],
)
def test_a_key_without_value_is_supported(filled: Archive, level: str, status: int, names: tuple[str, ...]) -> None:
    """PS3.4 table C.4-1: 0xFF01 says that a key is not supported, whatever the value of a match."""
    asked = identifier(level, StudyInstanceUID=ONE.study_uid, **dict.fromkeys(names))
    _, _, statuses = found(filled, asked)
    assert statuses[-1] == 0
    assert set(statuses[:-1]) == {status}


def test_asterisks_and_names_without_components_match_everything(filled: Archive) -> None:
    asked = identifier("STUDY", StudyInstanceUID="", PatientName="^^^^")
    for tag in (0x00080020, 0x00080030, 0x0020000D, 0x00201206):
        asked.add_new(tag, "LO", "*")
    matches, final, statuses = found(filled, asked, syntaxes=["1.2.840.10008.1.2"])
    assert (len(matches), final.Status, set(statuses[:-1])) == (3, 0, {0xFF00})


def test_a_date_that_is_none_is_refused_whatever_is_stored(filled: Archive) -> None:
    """None of these instances has an Acquisition Date."""
    asked = identifier("IMAGE", StudyInstanceUID=ONE.study_uid, SeriesInstanceUID=ONE.series_uid, SOPInstanceUID="")
    asked.add_new(0x00080022, "LO", "abc")
    _, final, _ = found(filled, asked, syntaxes=["1.2.840.10008.1.2"])
    assert (final.Status, final.OffendingElement) == (0xA900, 0x00080022)


def test_negotiated_matching(filled: Archive) -> None:
    """PS3.4 section C.5.1.1: dates and times as one range, and person names by their sound, only where that is agreed to."""
    moments = identifier("STUDY", StudyDate="20260104-20260105", StudyTime="1000-0935", StudyInstanceUID="")
    assert len(found(filled, moments, information=b"\x00\x01")[0]) == 3
    names = identifier("STUDY", PatientName="asa mueller", StudyInstanceUID="")
    assert len(found(filled, names)[0]) == 0
    assert len(found(filled, names, information=b"\x00\x00\x01")[0]) == 2


@pytest.mark.peers
def test_orthanc_finds(filled: Archive, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE", filled.port)}) as peer:
        for level, query, expected in (
            ("Patient", {"PatientID": "P*"}, 2),
            ("Study", {"PatientName": "M*"}, 2),
            ("Series", {"StudyInstanceUID": ONE.study_uid}, 2),
            ("Instance", {"StudyInstanceUID": ONE.study_uid, "SeriesInstanceUID": STUDIES[1].series_uid}, 2),
        ):
            asked = peer.post("/modalities/us/query", {"Level": level, "Query": query})
            assert len(peer.get(f"/queries/{asked['ID']}/answers")) == expected, level
