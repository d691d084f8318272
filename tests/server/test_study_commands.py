"""`imageshare reject`, `restore`, `correct`, `merge`, `hold`: what an administrator types, and what the trail says of it."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import orjson
import pytest
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from pydicom import dcmread
from typer.testing import CliRunner

from profiles.audit_event import Agent
from server.cli import app
from server.edges.context import Node
from server.errors import LegallyHeld
from server.records import catalogue, trail
from server.work.reconcile import Actor, Reconciler, Target

FIRST = [Made(series=1, number=1), Made(series=1, number=2), Made(series=2, number=1, modality="MR")]
OTHER = Made(study=2, patient="P2", name="Other^Olga")
STUDY = FIRST[0].study_uid


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        send(made, *FIRST, OTHER)
        publish_all(made)
        yield made


def run(opened: Node, *arguments: str, code: int = 0) -> str:
    """What the command says on standard output, or on standard error where it fails."""
    result = CliRunner().invoke(app, [*arguments, "--data", str(opened.settings.data)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def visible(opened: Node, study: str = STUDY) -> list[catalogue.StoredInstance]:
    with opened.database.read() as connection:
        return catalogue.instances(connection, study)


def last(opened: Node) -> tuple[str, str, dict[str, str]]:
    """Of the newest event in the trail: its subtype, who, and the study's details."""
    with opened.database.read() as connection:
        (event,) = trail.events(connection, limit=1)
    body = orjson.loads(event.body)
    study = next(one for one in body["entity"] if one["what"].get("identifier", {}).get("value", "").startswith("urn:oid:"))
    details = {one["type"]: one["valueString"] for one in study.get("detail", ())}
    agents = [one["who"]["identifier"]["value"] for one in body["agent"] if "identifier" in one["who"]]
    return body["subtype"][-1]["code"], next(one for one in agents if one.startswith("imageshare ")), details


def test_reject_and_restore(opened: Node) -> None:
    assert run(opened, "reject", STUDY, "--series", FIRST[0].series_uid, "--reason", "quality") == "2 instances are hidden\n"
    assert [one.uid for one in visible(opened)] == [FIRST[2].uid]
    assert last(opened) == ("delete", "imageshare reject", {"event": "reject", "instances": "2"})
    named = ("--series", FIRST[0].series_uid, "--instance", FIRST[0].uid)
    assert run(opened, "restore", STUDY, *named) == "1 instances are shown again\n"
    assert {one.uid for one in visible(opened)} == {FIRST[0].uid, FIRST[2].uid}
    assert last(opened)[1] == "imageshare restore"


def test_correct(opened: Node) -> None:
    run(opened, "correct", STUDY, "AccessionNumber=A2", "PatientName=Right^Name=右")
    for one in visible(opened):
        file = dcmread(BytesIO(b"".join(opened.blobs.stream(one.blob_id))))
        assert (file.AccessionNumber, str(file.PatientName), file.PatientID) == ("A2", "Right^Name=右", "P1")
    assert last(opened) == ("update", "imageshare correct", {"event": "update", "instances": "3"})
    run(opened, "correct", STUDY, "PatientID=P2", "AccessionNumber=")
    for one in visible(opened):
        file = dcmread(BytesIO(b"".join(opened.blobs.stream(one.blob_id))))
        assert (file.AccessionNumber, str(file.PatientName), file.PatientID) == ("", "Other^Olga", "P2")


def test_merge(opened: Node) -> None:
    assert run(opened, "merge", "P1", "P2") == "1 studies moved\n"
    assert {one.patient for one in visible(opened)} == {one.patient for one in visible(opened, OTHER.study_uid)}
    assert last(opened)[1:] == ("imageshare merge", {"event": "merge", "instances": "3"})


def test_hold_and_release(opened: Node) -> None:
    reconciler = Reconciler(opened.settings, opened.database, opened.blobs, opened.installation, opened.trail)
    actor = Actor(Agent(identifier="tester"))
    run(opened, "hold", STUDY, "--why", "SECRET-4711")
    assert last(opened) == ("update", "imageshare hold", {"event": "hold"})
    with pytest.raises(LegallyHeld):
        reconciler.purge(Target(STUDY), actor=actor)
    run(opened, "hold", STUDY, "--release")
    assert last(opened) == ("update", "imageshare hold", {"event": "release"})
    reconciler.purge(Target(STUDY), actor=actor)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("reject", "1.2.3", "--reason", "quality"), "no such study"),
        (("restore", STUDY), "nothing was rejected"),
        (("correct", STUDY, "AccessionNumber"), "KEYWORD=VALUE"),
        (("correct", STUDY, "Nothing=1"), "KEYWORD=VALUE"),
        (("correct", STUDY, "Modality=CT"), "cannot be corrected"),
        (("correct", STUDY, "StudyInstanceUID=1.2"), "keeps its UID"),
        (("correct", "1.2.3", "AccessionNumber=A2"), "no such study"),
        (("merge", "P1", "P1"), "herself"),
        (("merge", "P1", "P9"), "TARGET: no patient here"),
        (("hold", "1.2.3"), "no such study"),
        (("hold", STUDY, "--release"), "not under a legal hold"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_changes(opened: Node, arguments: tuple[str, ...], rule: str) -> None:
    before = visible(opened)
    said = run(opened, *arguments, code=1)
    assert rule in said
    assert said.count("\n") == 1
    assert visible(opened) == before


def test_a_reason_is_one_of_the_standards(opened: Node) -> None:
    assert "patient-safety" in run(opened, "reject", STUDY, "--reason", "bored", code=2)
    assert run(opened, "reject", STUDY, "--reason", "worklist", "--instance", FIRST[0].uid) == "1 instances are hidden\n"
