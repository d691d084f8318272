"""QIDO-RS, ImagingStudy, manifest and ITI-18 say the same of every study, whatever the order in which it came.

Generated histories: one to three patients' studies, their instances in any order, in batches, with duplicates, published at any
moment. After every publication each study is asked for over the wire, at every face, and held against what was sent so far.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.generated import SOP_CLASSES, Made, send
from peers.imageshare import node, publish_all
from peers.xds import Archive, cx, get
from starlette.testclient import TestClient

from profiles import manifest
from server.app import create_app
from server.edges.context import Node

_first_study = count(1, 10)
_ACQUIRE = frozenset({"CT", "MR"})
"""Those of `SOP_CLASSES` that PS3.16 CID 29 has; OT is none."""


@dataclass(frozen=True)
class Told:
    """What one face says of a study: patient id, accession number, and the instances by series with its modality."""

    patient: str
    accession: str
    series: frozenset[tuple[str, str, frozenset[tuple[str, str]]]]


@st.composite
def _histories(draw: st.DrawFn) -> list[list[Made] | None]:
    """Batches of instances in the order of their arrival; None: whatever is due is published."""
    universe = []
    for study in range(draw(st.integers(1, 3))):
        patient, accession = draw(st.sampled_from(["P1", "P2", "P^3"])), draw(st.sampled_from(["", f"A{study}"]))
        for series in range(1, 1 + draw(st.integers(1, 3))):
            modality = draw(st.sampled_from(sorted(SOP_CLASSES)))
            universe += [
                Made(study, series, number, patient, modality, accession) for number in range(1, 1 + draw(st.integers(1, 3)))
            ]
    arrivals = draw(st.permutations(universe)) + draw(st.lists(st.sampled_from(universe), max_size=4))
    history: list[list[Made] | None] = []
    while arrivals:
        size = draw(st.integers(1, len(arrivals)))
        history.append(arrivals[:size])
        del arrivals[:size]
        if draw(st.booleans()):
            history.append(None)
    return [*history, None]


def _sent(instances: list[Made]) -> dict[str, Told]:
    series: dict[str, dict[tuple[str, str], set[tuple[str, str]]]] = defaultdict(lambda: defaultdict(set))
    for made in instances:
        series[made.study_uid][made.series_uid, made.modality].add((made.uid, SOP_CLASSES[made.modality]))
    named = {made.study_uid: (made.patient, made.accession) for made in instances}
    return {
        uid: Told(*named[uid], frozenset((*key, frozenset(members)) for key, members in found.items()))
        for uid, found in series.items()
    }


class Faces:
    """The wire of one server in this process."""

    def __init__(self, opened: Node) -> None:
        self.archive = Archive(opened)
        token = opened.tokens.issue(client="test", scope="system/*.cruds")
        self.http = TestClient(
            create_app(opened), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 50000), headers={"Authorization": f"Bearer {token}"}
        )  # fmt: skip

    def _get(self, path: str, **parameters: str) -> list[dict[str, dict[str, list[str]]]]:
        answer = self.http.get(f"/dicomweb{path}", params=parameters)
        assert answer.status_code in (200, 204), answer.text
        return list(answer.json()) if answer.status_code == 200 else []

    def qido(self, uid: str) -> Told | None:
        studies = self._get("/studies", StudyInstanceUID=uid)
        if not studies:
            assert self._get("/instances", StudyInstanceUID=uid) == []
            return None
        (study,) = studies
        found = self._get(f"/studies/{uid}/series")
        instances = self._get(f"/studies/{uid}/instances")
        members: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for instance in instances:
            members[_value(instance, "0020000E")].add((_value(instance, "00080018"), _value(instance, "00080016")))
        assert int(_value(study, "00201206")) == len(found)
        assert int(_value(study, "00201208")) == len(instances) == sum(map(len, members.values()))
        assert set(study["00080061"]["Value"]) == {_value(series, "00080060") for series in found}
        for series in found:
            assert int(_value(series, "00201209")) == len(members[_value(series, "0020000E")])
        return Told(
            _value(study, "00100020"),
            _value(study, "00080050"),
            frozenset(
                (_value(series, "0020000E"), _value(series, "00080060"), frozenset(members[_value(series, "0020000E")]))
                for series in found
            ),
        )

    def imaging_study(self, uid: str) -> Told | None:
        bundle = self.http.get("/fhir/ImagingStudy", params={"identifier": f"urn:dicom:uid|urn:oid:{uid}"}).json()
        if not bundle.get("entry"):
            return None
        ((study,),) = [[entry["resource"] for entry in bundle["entry"]]]
        assert study["numberOfSeries"] == len(study["series"])
        assert study["numberOfInstances"] == sum(series["numberOfInstances"] for series in study["series"])
        every = {series["modality"]["code"] for series in study["series"]}
        assert {coding["code"] for coding in study["modality"]} == _acquired(every)
        patient = self.http.get(f"/fhir/{study['subject']['reference']}").json()
        accession = [identifier["value"] for identifier in study["identifier"] if "type" in identifier]
        for series in study["series"]:
            assert series["numberOfInstances"] == len(series["instance"])
        return Told(
            patient["identifier"][0]["value"],
            accession[0] if accession else "",
            frozenset(
                (
                    series["uid"],
                    series["modality"]["code"],
                    frozenset((i["uid"], i["sopClass"]["code"].removeprefix("urn:oid:")) for i in series["instance"]),
                )
                for series in study["series"]
            ),
        )

    def registry(self, uid: str, patient: str) -> Told | None:
        """ITI-18, and ITI-43 for the manifest that it finds. A manifest names no modality: here its SOP Classes tell them."""
        escaped = patient.replace("^", "\\S\\")
        entries = [
            e for e in self.archive.find(cx(self.archive, escaped)) if any(uid == r.split("^")[0] for r in e.reference_ids)
        ]
        if not entries:
            return None
        (entry,) = entries
        _, documents = get(self.archive, entry.unique_id)
        content = manifest.read(documents[entry.unique_id])
        assert content.studies == (uid,)
        assert content.sop_instance_uid == entry.unique_id
        accession = [r.split("^")[0] for r in entry.reference_ids if "accession" in r]
        assert content.accession_number == (accession[0] if accession else "")
        assert entry.source_patient_id.split("^")[0] == escaped
        every = {_modality(series.instances[0].sop_class_uid) for series in content.series}
        assert {code.code for code in entry.event_codes} == _acquired(every)
        return Told(
            content.patient_id,
            content.accession_number,
            frozenset(
                (
                    series.series_instance_uid,
                    _modality(series.instances[0].sop_class_uid),
                    frozenset((i.sop_instance_uid, i.sop_class_uid) for i in series.instances),
                )
                for series in content.series
            ),
        )


def _value(item: dict[str, dict[str, list[str]]], tag: str) -> str:
    values = item.get(tag, {}).get("Value", [])
    return str(values[0]) if values else ""


def _modality(sop_class: str) -> str:
    return {uid: modality for modality, uid in SOP_CLASSES.items()}[sop_class]


def _acquired(every: set[str]) -> set[str]:
    """What ImagingStudy.modality and eventCodeList say of a study whose series have these; QIDO-RS has all of them."""
    return every & _ACQUIRE or every


def _agree(faces: Faces, studies: dict[str, Told], wanted: dict[str, Told]) -> None:
    for uid, sent in studies.items():
        assert faces.qido(uid) == wanted.get(uid)
        assert faces.imaging_study(uid) == wanted.get(uid)
        assert faces.registry(uid, sent.patient) == wanted.get(uid)


@pytest.mark.postgresql_is_deep
def test_all_faces_agree_with_what_was_sent(tmp_path: Path, database_url: str) -> None:
    with node(tmp_path / "data", database_url) as opened:
        faces = Faces(opened)

        @settings(max_examples=settings().max_examples // 4, suppress_health_check=[HealthCheck.too_slow])
        @given(_histories())
        def agree(history: list[list[Made] | None]) -> None:
            first = next(_first_study)  # every example has studies and patients of its own
            arrived: list[Made] = []
            published: dict[str, Told] = {}
            for step in history:
                if step is None:
                    publish_all(opened)
                    published = _sent(arrived)
                    _agree(faces, published, published)
                else:
                    batch = [replace(made, study=first + made.study, patient=f"{made.patient}-{first}") for made in step]
                    send(opened, *batch)
                    arrived += batch
                    for uid in {made.study_uid for made in batch}:
                        assert faces.qido(uid) == published.get(uid), "what is not published is not there"

        agree()


def test_one_study_from_two_doors_at_once_is_one_study_everywhere(tmp_path: Path, database_url: str) -> None:
    """STOW-RS and C-STORE of one study, interleaved, with every instance sent through both."""
    instances = [Made(series=series, number=number) for series in (1, 2) for number in (1, 2, 3)]
    with node(tmp_path / "data", database_url) as opened:
        faces = Faces(opened)
        for made in instances:
            part = b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + made.part10() + b"\r\n--cut--\r\n"
            kind = 'multipart/related; type="application/dicom"; boundary=cut'
            assert faces.http.post("/dicomweb/studies", content=part, headers={"Content-Type": kind}).status_code == 200
            assert [receipt.new for receipt in send(opened, made)] == [False]
        _agree(faces, _sent(instances), {})
        publish_all(opened)
        _agree(faces, _sent(instances), _sent(instances))


@pytest.mark.parametrize("accession", ["", "A^1&2", "  A1 "])
def test_accession_numbers_of_any_form(tmp_path: Path, accession: str) -> None:
    with node(tmp_path / "data") as opened:
        faces = Faces(opened)
        made = Made(accession=accession)
        send(opened, made)
        publish_all(opened)
        qido, study = faces.qido(made.study_uid), faces.imaging_study(made.study_uid)
        assert qido is not None
        assert study is not None
        assert qido.accession == study.accession == accession.strip()
