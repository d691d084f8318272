"""Each service of the server once, driven by a program that others wrote: dcmtk's tools, plain and over TLS, and Orthanc both ways.

The services in depth have modules of their own: `edges/test_dimse_*` (dcmtk, pynetdicom and Orthanc; the worklist beside dcmtk's own
wlmscpfs, storage commitment with Orthanc both ways), `edges/test_dicomweb*` (dicomweb-client), `test_orthanc_differential`.
"""

import io
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peers.authority import Authority
from peers.dicomweb import Site, site
from peers.generated import Made, send
from peers.imageshare import node, publish_all
from peers.orthanc import Orthanc, orthanc
from peers.querying import storescp
from peers.scanner import after_head, listening, stored_bytes
from pydicom import dcmread
from pydicom.data import get_testdata_file

from server.edges.context import Node
from server.edges.dimse import DicomPort
from server.outbound import cstore
from server.records.peers import Peer
from server.settings import Permission

pytestmark = pytest.mark.peers
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
THERE = (Made(study=1), Made(study=1, number=2))
STUDY = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={THERE[0].study_uid}")


# --- dcmtk


@dataclass
class Devices:
    """A node with two published instances, both of its DICOM ports, and dcmtk's programs."""

    node: Node
    port: DicomPort
    program: Callable[[str], Path]
    tls: list[str]

    def run(self, name: str, *arguments: str | Path, tls: bool = False) -> str:
        """Calls IMAGESHARE. Returns what the program says."""
        address = self.port.tls_address if tls else self.port.address
        assert address is not None
        files = [str(each) for each in arguments if isinstance(each, Path)]
        options = [*(self.tls if tls else ()), *(each for each in arguments if isinstance(each, str))]
        command = [str(self.program(name)), "-v", *options, "-aec", "IMAGESHARE", "127.0.0.1", str(address[1]), *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def devices(tmp_path: Path, dcmtk: Callable[[str], Path]) -> Iterator[Devices]:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("server")
    own, private = authority.issue("device")
    tls: dict[str, Any] = {
        "dicom_tls_port": 0,
        "dicom_tls_certificate": certificate,
        "dicom_tls_key": key,
        "dicom_tls_ca": authority.path,
    }
    with node(tmp_path / "data", **tls) as opened:
        send(opened, *THERE)
        publish_all(opened)
        with listening(opened) as port:
            yield Devices(opened, port, dcmtk, ["+tls", str(private), str(own), "+cf", str(authority.path)])


@pytest.mark.parametrize("tls", [False, True])
def test_echoscu_and_findscu(devices: Devices, tls: bool) -> None:
    assert "Received Echo Response (Success)" in devices.run("echoscu", tls=tls)
    assert THERE[0].study_uid in devices.run("findscu", *STUDY, tls=tls)


@pytest.mark.parametrize(("name", "tls"), [("storescu", False), ("storescu", True), ("dcmsend", False)])
def test_storescu_and_dcmsend(devices: Devices, tmp_path: Path, name: str, tls: bool) -> None:
    made = Made(study=2)
    (tmp_path / "one.dcm").write_bytes(made.part10())
    devices.run(name, tmp_path / "one.dcm", tls=tls)
    assert stored_bytes(devices.node, made.uid) == after_head(made.part10())


def test_movescu(devices: Devices, tmp_path: Path, free_port: int) -> None:
    devices.node.peers.add(Peer("DEST", host="127.0.0.1", port=free_port))
    with storescp(devices.program("storescp"), free_port, tmp_path / "arrived", "+B") as folder:
        devices.run("movescu", "-aem", "DEST", *STUDY)
        assert sorted(map(_data, folder.iterdir())) == sorted(after_head(each.part10()) for each in THERE)


def test_getscu(devices: Devices, tmp_path: Path) -> None:
    (tmp_path / "arrived").mkdir()
    devices.run("getscu", "+B", "-od", str(tmp_path / "arrived"), *STUDY)
    assert sorted(map(_data, (tmp_path / "arrived").iterdir())) == sorted(after_head(each.part10()) for each in THERE)


def test_movescu_of_what_is_of_odd_length(devices: Devices, tmp_path: Path, free_port: int) -> None:
    """PS3.5 section A.5: a deflated Data Set whose bytes are odd gets one more. dcmtk aborts an association over an odd one."""
    file = Path(str(get_testdata_file("image_dfl.dcm"))).read_bytes()
    assert len(after_head(file)) % 2
    send(devices.node, file)
    publish_all(devices.node)
    devices.node.peers.add(Peer("DEST", host="127.0.0.1", port=free_port))
    with storescp(devices.program("storescp"), free_port, tmp_path / "arrived", "+B", "+xd") as folder:
        study = f"StudyInstanceUID={dcmread(io.BytesIO(file)).StudyInstanceUID}"
        devices.run("movescu", "-aem", "DEST", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", study)
        found = [_data(path) for path in folder.iterdir()]
    assert found == [after_head(file) + b"\0"]


def _data(path: Path) -> bytes:
    return after_head(path.read_bytes())


# --- Orthanc


def test_orthanc_over_the_dicom_network(tmp_path: Path) -> None:
    """It sends to us, looks for it here, fetches what else we have; and takes what we send."""
    ours, theirs, third = Made(study=1), Made(study=2), Made(study=3)
    with node(tmp_path / "data") as opened, listening(opened) as port:
        with orthanc(tmp_path / "orthanc", {"us": ("IMAGESHARE", port.address[1])}) as peer:
            allowed = frozenset[Permission](("store", "query", "retrieve"))
            opened.peers.add(Peer("ORTHANC", host="127.0.0.1", port=peer.dicom_port, permissions=allowed))
            send(opened, ours)
            peer.post("/modalities/us/echo", {})
            peer.post("/modalities/us/store", peer.post("/instances", theirs.part10())["ID"])
            publish_all(opened)
            assert stored_bytes(opened, theirs.uid) == after_head(theirs.part10())
            for made in (ours, theirs):
                query = peer.post("/modalities/us/query", {"Level": "Study", "Query": {"StudyInstanceUID": made.study_uid}})
                (answer,) = peer.get(f"/queries/{query['ID']}/answers?expand&simplify")
                assert answer["StudyInstanceUID"] == made.study_uid
                peer.post(f"/queries/{query['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
            (tmp_path / "third.dcm").write_bytes(third.part10())
            (sent,) = cstore.send([tmp_path / "third.dcm"], "127.0.0.1", peer.dicom_port, called="ORTHANC")
            assert sent.ok
            assert _instances(peer) == {ours.uid, theirs.uid, third.uid}


@pytest.mark.skipif(
    not PLUGIN.exists(), reason="Orthanc's DICOMweb plugin is not installed (Debian: apt-get install orthanc-dicomweb)"
)
def test_orthanc_over_dicomweb(tmp_path: Path) -> None:
    """Its DICOMweb client does STOW-RS, QIDO-RS and WADO-RS with us."""
    ours, theirs = Made(study=1), Made(study=2)
    with site(tmp_path / "data") as made:
        assert made.store([ours.part10()]).status_code == 200
        with _web_client(tmp_path / "orthanc", made) as peer:
            peer.post(
                "/dicom-web/servers/us/stow", {"Resources": [peer.post("/instances", theirs.part10())["ID"]], "Synchronous": True}
            )
            made.publish()
            found = peer.post("/dicom-web/servers/us/qido", {"Uri": "/studies", "Arguments": {"PatientID": ours.patient}})
            assert {study["0020000D"]["Value"] for study in found} == {ours.study_uid, theirs.study_uid}
            peer.post("/dicom-web/servers/us/retrieve", {"Resources": [{"Study": ours.study_uid}], "Synchronous": True})
            assert _instances(peer) == {ours.uid, theirs.uid}


def _web_client(folder: Path, made: Site) -> Any:
    server = {"Url": made.url, "HttpHeaders": {"Authorization": f"Bearer {made.token()}"}}
    return orthanc(folder, {}, Plugins=[str(PLUGIN)], DicomWeb={"Enable": True, "Root": "/dicom-web/", "Servers": {"us": server}})


def _instances(peer: Orthanc) -> set[str]:
    return {each["MainDicomTags"]["SOPInstanceUID"] for each in peer.get("/instances?expand")}
