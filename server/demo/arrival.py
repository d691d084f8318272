"""Chapter 1: a real server starts, and a scanner sends it real files and a generated CT by C-STORE."""

from server.demo import material
from server.demo.material import Image
from server.demo.scene import MODALITY, QUIET_PERIOD, Scene, megabytes, plural
from server.demo.story import require
from server.sending import Peer, Report, send_with_bar

PHANTOM_SLICES = 12


def tell(scene: Scene) -> None:
    """Start, send, send again."""
    scene.story.chapter("1 · From the scanner")
    _start(scene)
    _real(scene)
    _phantom(scene)
    _again(scene)


def store(scene: Scene, label: str, images: tuple[Image, ...]) -> Report:
    """C-STOREs `images`, and notes those that were acknowledged."""
    by_path = {image.path: image for image in images}
    server = scene.server
    report = send_with_bar(
        scene.story.console, label, list(by_path), Peer(server.ae_title, server.dicom_host, server.dicom_port), calling=MODALITY
    )
    scene.sent.update({by_path[path].sop_instance_uid: by_path[path] for path in report.sent})
    return report


def _start(scene: Scene) -> None:
    with scene.story.step("A server starts") as told:
        scene.server.start()
        scene.prepare()
        told.say(f"HTTP {scene.server.http}")
        told.say(f"DICOM {scene.server.ae_title}@{scene.server.dicom_host}:{scene.server.dicom_port}")
        told.say(f"publishes {QUIET_PERIOD:g} s after a study's last image (default 5 s)")
        told.look_at(f"imageshare serve --data {scene.server.data}")


def _real(scene: Scene) -> None:
    own = scene.own
    with scene.story.step("C-STORE: your files" if own else "C-STORE: real files", spinner=False) as told:
        found = scene.material = material.files_in(own) if own else material.shipped()
        require(found.images, f"there is no complete DICOM file in {own}")
        images = found.images
        if own:
            scene.study = material.largest_study(images)
            images = _held_back(scene, images)
        report = store(scene, "your files" if own else "real files", images)
        require(report.sent, f"none of the files was taken: {report.reasons()}")
        require(own or not report.failed, f"refused: {report.reasons()}")
        told.say(f"{plural(found.studies, 'study', 'studies')} · {' '.join(found.modalities)}")
        told.say(f"{plural(len(report.sent), 'file')} · {megabytes(report.bytes)} · each synced, then acknowledged")
        if report.failed:
            told.say(f"{plural(report.failures, 'file')} refused: {report.reasons()}")
        if not own:
            told.look_at("what pydicom's package brings along, from real scanners, in many transfer syntaxes")
    if own:
        scene.study = tuple(image for image in scene.study if image.sop_instance_uid in scene.sent or image is scene.late)


def _phantom(scene: Scene) -> None:
    with scene.story.step("A CT is generated") as told:
        images = material.phantom(
            scene.folder / "phantom", slices=PHANTOM_SLICES, seed=7, patient_id="PHANTOM-1", accession_number="CT-2026-0001"
        )
        told.say(f"thorax phantom · 3 series · {len(images)} images, 512 x 512 x 16 bit")
    if not scene.own:
        scene.study = images
        images = _held_back(scene, images)
    with scene.story.step("C-STORE: phantom CT", spinner=False) as told:
        report = store(scene, "phantom CT", images)
        require(not report.failed, f"refused: {report.reasons()}")
        told.say(f"{plural(len(report.sent), 'file')} · {megabytes(report.bytes)} · {report.rate()}")


def _held_back(scene: Scene, images: tuple[Image, ...]) -> tuple[Image, ...]:
    """Without the last image of the study, which comes late, if it has more than one."""
    if len(scene.study) < 2:
        return images
    late = scene.late = scene.study[-1]
    return tuple(image for image in images if image is not late)


def _again(scene: Scene) -> None:
    """The same SOP Instance with the same bytes, and with others."""
    before = dict(scene.sent)
    first = next(iter(before.values()))
    twin = next((image for image in scene.material.twins if image.sop_instance_uid in before), None)
    with scene.story.step("The same SOP Instance again", spinner=False) as told:
        same = store(scene, "the same again", (first,))
        require(not same.failed, f"the same bytes again were refused: {same.reasons()}")
        told.say("same bytes: success, and nothing changes")
        if twin is not None:
            other = store(scene, "other bytes", (twin,))
            require(not other.sent, "other bytes under a known SOP Instance UID were taken")
            told.say(f"other bytes: refused, {other.reasons().partition(':')[0]}")
    scene.sent = before
