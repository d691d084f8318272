"""`imageshare peer` and `imageshare worklist`, as an administrator types them."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from peers.imageshare import node
from peers.orthanc import orthanc
from peers.scanner import listening
from peers.scheduled import scheduled
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from server.cli import app
from server.edges.context import Node
from server.edges.dimse.worklist import MODALITY_WORKLIST
from server.records.peers import Peer, Peers


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Node]:
    with node(tmp_path / "data") as made:
        yield made


def run(opened: Node, *arguments: str, code: int = 0) -> str:
    """What the command says on standard output, or on standard error where it fails."""
    result = CliRunner().invoke(app, [*arguments, "--data", str(opened.settings.data)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_peers_are_added_listed_and_removed(opened: Node) -> None:
    run(opened, "peer", "add", "PACS", "pacs.example:104", "--network", "10.1.0.0/16", "--allow", "query, retrieve", "--verify")
    run(opened, "peer", "add", "CT1", "--network", "10.2.3.4", "--authority", "1.2.3", "--description", "second floor")
    run(opened, "peer", "add", "SIX", "[fd00::1]:11112", "--allow", "all", "--tls")
    lines = [line.split() for line in run(opened, "peer", "list").splitlines()]
    assert ["PACS", "10.1.0.0/16", "pacs.example:104", "verify", "query", "retrieve"] in lines
    assert ["CT1", "10.2.3.4/32", "store", "worklist", "mpps", "commit", "1.2.3", "second", "floor"] in lines
    assert ["SIX", "[fd00::1]:11112", "on", "store", "query", "retrieve", "worklist", "mpps", "commit"] in lines
    run(opened, "peer", "remove", "CT1")
    assert "CT1" not in run(opened, "peer", "list")


def test_a_peer_is_changed_and_keeps_the_rest(opened: Node) -> None:
    run(opened, "peer", "add", "PACS", "pacs.example:104", "--network", "10.1.0.0/16", "--allow", "query", "--verify")
    run(opened, "peer", "change", "PACS", "new.example:105", "--no-tls", "--description", "moved")
    (found,) = Peers(opened.database, opened.settings).all()
    assert found == Peer(
        "PACS", "10.1.0.0/16", "new.example", 105, permissions=frozenset({"query"}), description="moved"
    )  # fmt: skip
    run(opened, "peer", "change", "PACS", "--allow", "store", "--tls", "--inactive", "--authority", "1.2.3")
    (found,) = Peers(opened.database, opened.settings).all()
    assert (found.host, found.permissions, found.tls, found.active, found.authority) == (
        "new.example", frozenset({"store"}), "on", False, "1.2.3",
    )  # fmt: skip
    assert "inactive" in run(opened, "peer", "echo", "PACS", code=1)
    run(opened, "peer", "change", "PACS", "", "--active")
    (found,) = Peers(opened.database, opened.settings).all()
    assert (found.is_destination, found.active) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("change", "PACS", "h:104"), "there is no peer PACS"),
        (("add", "PACS", "pacs.example"), "HOST:PORT"),
        (("add", "PACS"), "or both"),
        (("add", "PACS", "h:104", "--allow", "store,fly"), "no such permission: fly"),
        (("remove", "PACS"), "there is no peer PACS"),
        (("echo", "PACS"), "imageshare peer list"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(opened: Node, arguments: tuple[str, ...], rule: str) -> None:
    said = run(opened, "peer", *arguments, code=1)
    assert rule in said
    assert said.count("\n") == 1


@pytest.mark.peers
def test_echo_to_orthanc(opened: Node, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", {}) as peer:
        run(opened, "peer", "add", "ORTHANC", f"127.0.0.1:{peer.dicom_port}")
        assert " answers C-ECHO in " in run(opened, "peer", "echo", "ORTHANC")
    assert "connection refused" in run(opened, "peer", "echo", "ORTHANC", code=1)


def test_echo_to_one_that_rejects_us(opened: Node, tmp_path: Path) -> None:
    """Our own port, which is called something else, and lets in somebody else."""
    device = {"ae_title": "SOMEBODY", "address": "127.0.0.1"}
    with node(tmp_path / "other", devices=[device], ae_title="OTHER") as other, listening(other) as port:
        run(opened, "peer", "add", "WRONG", f"127.0.0.1:{port.address[1]}")
        assert "called AE title" in run(opened, "peer", "echo", "WRONG", code=1)
        run(opened, "peer", "add", "OTHER", f"127.0.0.1:{port.address[1]}")
        assert "calling AE title" in run(opened, "peer", "echo", "OTHER", code=1)


def test_items_come_from_dicom_files_and_json_and_go(opened: Node, tmp_path: Path) -> None:
    file, one, list_ = (tmp_path / name for name in ("item.wl", "item.json", "items.json"))
    item = scheduled(1)
    item.SOPClassUID, item.SOPInstanceUID = MODALITY_WORKLIST, "1.2.3"
    item.ensure_file_meta()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.save_as(file, enforce_file_format=True)
    one.write_text(scheduled(2, time="1000").to_json())
    list_.write_bytes(orjson.dumps([scheduled(3, time="1100").to_json_dict(), scheduled(4, time="1200").to_json_dict()]))
    assert run(opened, "worklist", "add", str(file), str(one), str(list_)).startswith("4 scheduled")
    assert run(opened, "worklist", "add", str(file)).startswith("1 scheduled")
    lines = [line.split() for line in run(opened, "worklist", "list").splitlines()][1:]
    assert [line[4] for line in lines] == ["A1", "A2", "A3", "A4"]
    assert run(opened, "worklist", "remove", "--accession", "A2").startswith("1 ")
    assert run(opened, "worklist", "remove", "--study", "1.2.3.3", "--step", "SPS3").startswith("1 ")
    assert "no worklist entry" in run(opened, "worklist", "remove", "--study", "1.2.3.3", code=1)
    assert len(run(opened, "worklist", "list", "--all").splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"what is this", "neither a DICOM file nor JSON"),
        (b'{"00100010": "Muster"}', "DICOM JSON Model"),
        (b'{"00100010": {"vr": "PN"}}', "Scheduled Procedure Step Sequence"),
        (b"\0" * 128 + b"DICM", "TransferSyntaxUID"),
    ],
)
def test_a_wrong_item_is_refused_and_nothing_is_kept(opened: Node, tmp_path: Path, content: bytes, rule: str) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(scheduled(1).to_json())
    bad.write_bytes(content)
    said = run(opened, "worklist", "add", str(good), str(bad), code=1)
    assert rule in said
    assert str(bad) in said
    assert len(run(opened, "worklist", "list").splitlines()) == 1
