"""Chapter 4: a late image makes a new version; a kill -9 in the middle of a send loses nothing that was acknowledged."""

import threading

from profiles.document import APPROVED, DEPRECATED
from server.demo import material
from server.demo.arrival import store
from server.demo.material import Image
from server.demo.scene import MODALITY, Scene, plural
from server.demo.story import require
from server.sending import Peer, Web, send, send_with_bar

_SLICES = 10
_PART = 3
"""The server dies after the first of this many parts."""


def tell(scene: Scene) -> None:
    """Late image, kill, restart, the rest."""
    scene.story.chapter("5 · When things go wrong")
    if scene.late is not None:
        _late(scene, scene.late)
    images = material.phantom(
        scene.folder / "second", slices=_SLICES, seed=8, patient_id="PHANTOM-2", accession_number="CT-2026-0002"
    )
    acknowledged = _kill(scene, images)
    _restart(scene, images, acknowledged)
    _rest(scene, images)


def _late(scene: Scene, late: Image) -> None:
    before = scene.imaging_study
    with scene.story.step("An image comes late", spinner=False) as told:
        report = store(scene, "late image", (late,))
        require(not report.failed, f"refused: {report.reasons()}")
        after = scene.imaging_study = scene.published(scene.study_uid)
        require(after["id"] == before["id"], "the late image made a second study")
        old, new = int(before["meta"]["versionId"]), int(after["meta"]["versionId"])
        require(new > old, "the late image made no new version")
        told.say(f'same study, {plural(after["numberOfInstances"], "image")} · ETag W/"{old}" → W/"{new}"')
        found = scene.xds.find_documents(scene.patient_identifier(scene.patient), deprecated=True)
        entries = {
            entry.status: entry
            for entry in found
            if any(reference.startswith(f"{scene.study_uid}^") for reference in entry.reference_ids)
        }
        require(entries.keys() == {APPROVED, DEPRECATED}, "the old manifest is not deprecated in favour of a new one")
        ids = {status: entry.entry_uuid.removeprefix("urn:uuid:") for status, entry in entries.items()}
        reference = scene.web.fhir(f"DocumentReference/{ids[APPROVED]}")
        replaced = [f"DocumentReference/{ids[DEPRECATED]}"]
        targets = [link["target"]["reference"] for link in reference.get("relatesTo", ()) if link["code"] == "replaces"]
        require(targets == replaced, "the new manifest does not say that it replaces the old one")
        told.say("a new manifest replaces the old (RPLC), now deprecated")
        told.look_at(f"GET /fhir/ImagingStudy/{after['id']}/_history/{old}")


def _kill(scene: Scene, images: tuple[Image, ...]) -> list[Image]:
    """Kills the server while it is receiving. Gives what it had acknowledged by then."""
    by_path = {image.path: image for image in images}
    acknowledged: list[Image] = []
    enough, killed = threading.Event(), threading.Event()

    def scan() -> None:
        try:
            server = scene.server
            for one in send(list(by_path), Peer(server.ae_title, server.dicom_host, server.dicom_port), calling=MODALITY):
                if one.ok:
                    acknowledged.append(by_path[one.path])
                if len(acknowledged) >= len(images) // _PART and not enough.is_set():
                    enough.set()
                    killed.wait(60)  # what was sent ahead is under way then, and the rest cannot be in before
        finally:
            enough.set()

    with scene.story.step("kill -9 while a CT comes in") as told:
        pid = scene.server.pid
        scanner = threading.Thread(target=scan, name="scanner", daemon=True)
        scanner.start()
        enough.wait(60)
        scene.server.kill()
        killed.set()
        scanner.join(60)
        require(acknowledged, "the server acknowledged nothing before it was killed")
        require(len(acknowledged) < len(images), "the whole CT was in before the server could be killed")
        told.say(f"{len(acknowledged)} of {len(images)} images acknowledged")
        told.say(f"then SIGKILL to the process group {pid}")
    return acknowledged


def _restart(scene: Scene, images: tuple[Image, ...], acknowledged: list[Image]) -> None:
    with scene.story.step("Started again on its folder") as told:
        scene.server.start()
        scene.sent.update({image.sop_instance_uid: image for image in acknowledged})
        # What was committed while its acknowledgement was under way may be there too; less may not.
        found = scene.published(images[0].study, at_least=True)
        stored = _byte_identical(scene, images)
        lost = {image.sop_instance_uid for image in acknowledged} - stored
        require(not lost, f"{plural(len(lost), 'acknowledged image')} lost")
        require(len(stored) == found["numberOfInstances"], "FHIR and WADO show different numbers of images")
        told.say(f"{len(acknowledged)} acknowledged · {len(stored)} found · 0 lost · bytes identical")
        told.say("what was waiting was published without anyone asking")


def _rest(scene: Scene, images: tuple[Image, ...]) -> None:
    gateway = Web(
        f"{scene.server.http}/dicomweb", scene.server.token("system/ImagingStudy.c", client="demo-gateway"), direct=True
    )
    with scene.story.step("The rest, by STOW-RS", spinner=False) as told:
        report = send_with_bar(scene.story.console, "all again, by STOW-RS", [image.path for image in images], gateway)
        require(not report.failed, f"refused: {report.reasons()}")
        scene.sent.update({image.sop_instance_uid: image for image in images})
        found = scene.published(images[0].study)
        stored = _byte_identical(scene, images)
        require(stored == {image.sop_instance_uid for image in images}, "the CT is not complete")
        told.say(f"{len(images)} sent again, {found['numberOfInstances']} in the study · {report.rate()}")
        told.look_at(f"GET /dicomweb/studies/{images[0].study}")


def _byte_identical(scene: Scene, images: tuple[Image, ...]) -> set[str]:
    """The SOP Instance UIDs that WADO-RS gives for the images' study. Raises `Failed` if one has other bytes than were sent."""
    by_uid = {image.sop_instance_uid: image for image in images}
    found = set()
    for file in scene.web.instances(f"studies/{images[0].study}"):
        uid = material.sop_instance_uid(file)
        require(uid in by_uid and by_uid[uid].same(file), "an image came back with other bytes than were sent")
        found.add(uid)
    return found
