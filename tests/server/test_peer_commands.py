"""`imageshare find`, `get`, `move` and `send --commit`, as a person types them."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from peers.generated import Made
from peers.imageshare import node, running
from peers.orthanc import orthanc
from peers.querying import Archive, archive, storescp
from peers.scanner import stored_bytes
from typer.testing import CliRunner

from server.cli import app
from server.edges.context import Node
from server.records.peers import Peer

MADE = tuple(
    Made(study=study, number=number, patient=f"P{study}", name="Müller^Jörg") for study in (1, 2) for number in (1, 2, 3)
)


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Archive]:
    with archive(tmp_path / "theirs", *MADE) as opened:
        yield opened


@pytest.fixture
def ours(tmp_path: Path, theirs: Archive) -> Iterator[Node]:
    """Knows the other archive as PACS... by its title, which is that of every imageshare."""
    with node(tmp_path / "ours") as opened:
        opened.peers.add(Peer("IMAGESHARE", host="127.0.0.1", port=theirs.port))
        yield opened


def run(opened: Node, *arguments: str | Path, code: int = 0) -> str:
    """What the command says on standard output, or on standard error where it fails."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--data", str(opened.settings.data)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stdout if code == 0 else result.stderr


def matches(said: str) -> list[dict[str, dict[str, object]]]:
    """Without what the other archive logs, which is in this process."""
    return [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_find_shows_a_table_and_json(ours: Node, theirs: Archive) -> None:
    table = run(ours, "find", "--from", "IMAGESHARE", "--key", "PatientName=mü*", "--key", "StudyInstanceUID")
    assert table.count("Müller^Jörg") == 2
    assert "StudyInstanceUID" in table
    there = f"IMAGESHARE@127.0.0.1:{theirs.port}"
    said = run(ours, "find", "--from", there, "--level", "patient", "--key", "PatientID=P2", "--json")
    assert [match["00100020"]["Value"] for match in matches(said)] == [["P2"]]
    assert len(matches(run(ours, "find", "--from", there, "--limit", "1", "--json"))) == 1


def test_get_takes_a_study_in(ours: Node, theirs: Archive) -> None:
    assert "3 instances received from IMAGESHARE, 0 failed" in run(
        ours, "get", "--from", "IMAGESHARE", "--study", MADE[0].study_uid
    )
    for made in MADE:
        assert stored_bytes(ours, made.uid) == (stored_bytes(theirs.node, made.uid) if made.study == 1 else None)
    again = run(ours, "get", "--from", "IMAGESHARE", "--study", MADE[0].study_uid, "--series", MADE[0].series_uid)
    assert "3 instances received" in again


def test_get_names_what_is_refused_here(ours: Node, theirs: Archive) -> None:
    """The same UID with other content is there already."""
    with node(ours.settings.data) as opened:
        from peers.generated import send

        send(opened, Made(pixel=9))
    said = run(ours, "get", "--from", "IMAGESHARE", "--study", MADE[0].study_uid, code=1)
    assert "status B000H" in said
    assert MADE[0].uid in said


def test_move_sends_elsewhere(ours: Node, theirs: Archive, tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    theirs.know("DEST", free_port)
    with storescp(dcmtk("storescp"), free_port, tmp_path / "dest") as folder:
        said = run(ours, "move", "--from", "IMAGESHARE", "--study", MADE[0].study_uid, "--to", "DEST", "--calling", "SOMEBODY")
        assert "3 instances moved from IMAGESHARE to DEST, 0 failed" in said
        assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("find", "--from", "NOBODY"), "there is no peer NOBODY"),
        (("find", "--from", "A@b"), "--from takes AE@host:port"),
        (("find", "--from", "IMAGESHARE", "--level", "FRAME"), "PATIENT, STUDY, SERIES, IMAGE"),
        (("find", "--from", "IMAGESHARE", "--key", "Nonsense=1"), "keyword"),
        (("find", "--from", "IMAGESHARE", "--key", "=1"), "--key takes"),
        (("find", "--from", "IMAGESHARE", "--calling", "A" * 17), "ae_title"),
        (("get", "--from", "IMAGESHARE", "--study", "1.2.3.4"), "no such study"),
        (("move", "--from", "IMAGESHARE", "--study", "1.2.3.4", "--to", "NOBODY"), "does not know the destination"),
        (("move", "--from", "IMAGESHARE", "--study", "1.2.3.4", "--to", "A" * 17), "--to:"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(ours: Node, arguments: tuple[str, ...], words: str) -> None:
    said = run(ours, *arguments, code=1)
    assert words in said
    assert said.count("\n") == 1


def test_a_peer_that_is_not_there(ours: Node, free_port: int) -> None:
    for command in (("find",), ("get", "--study", "1.2"), ("move", "--study", "1.2", "--to", "X")):
        said = run(ours, *command, "--from", f"PACS@127.0.0.1:{free_port}", code=1)
        assert f"no connection to 127.0.0.1 port {free_port}: connection refused" in said


def _files(folder: Path) -> list[Path]:
    folder.mkdir()
    made = [folder / f"{each.uid}.dcm" for each in MADE]
    for path, each in zip(made, MADE, strict=True):
        path.write_bytes(each.part10())
    return made


def test_send_to_a_known_peer_and_have_it_commit(ours: Node, theirs: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    files = _files(folder)
    assert "6 of 6 files sent to IMAGESHARE" in run(ours, "send", folder, "--to", "IMAGESHARE")
    said = run(ours, "send", *files[:2], "--to", f"IMAGESHARE@127.0.0.1:{theirs.port}", "--commit")
    assert "IMAGESHARE has committed to them" in said
    assert "C-STORE" in run(ours, "send", folder, "--to", "http://127.0.0.1:1/dicomweb", "--commit", code=1)


def test_a_peer_that_does_not_commit(ours: Node, tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    with storescp(dcmtk("storescp"), free_port, tmp_path / "dest"):
        said = run(ours, "send", _files(tmp_path / "files")[0], "--to", f"DEST@127.0.0.1:{free_port}", "--commit", code=1)
    assert "does not offer this service" in said


def test_orthanc_reports_on_an_association_of_its_own(ours: Node, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE_SEND", 1)}) as server:
        to = f"ORTHANC@127.0.0.1:{server.dicom_port}"
        said = run(ours, "send", _files(tmp_path / "files")[0], "--to", to, "--commit", "--commit-wait", "1", code=1)
    assert "has not reported within" in said
    assert "no server runs here" in said


@pytest.mark.peers
def test_orthanc_reports_to_the_server_that_runs_here(tmp_path: Path) -> None:
    """Orthanc asks nobody to wait: it calls the AE title that asked it, which is that of the server."""
    data = tmp_path / "data"
    with running(data) as server, orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE", server.dicom_port)}) as peer:
        arguments = ["--to", f"ORTHANC@127.0.0.1:{peer.dicom_port}", "--commit", "--data", str(data)]
        result = CliRunner().invoke(app, ["send", str(_files(tmp_path / "files")[0]), *arguments])
    assert result.exit_code == 0, result.output
    assert "ORTHANC has committed to them" in result.stdout


def test_sending_over_tls(ours: Node, tmp_path: Path, dcmtk: Callable[[str], Path], free_port: int) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=peer",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ("+tls", str(key), str(certificate), "-ic")
    (file, *_) = _files(tmp_path / "files")
    to = f"DEST@127.0.0.1:{free_port}"
    with storescp(dcmtk("storescp"), free_port, tmp_path / "dest", *options) as folder:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("IMAGESHARE_DICOM_TLS_CA", str(certificate))
            assert "1 of 1 files sent" in run(ours, "send", file, "--to", to, "--verify")
        assert len(list(folder.iterdir())) == 1
        said = run(ours, "send", file, "--to", to, "--tls", code=1)
    assert "no TLS with 127.0.0.1" in said
