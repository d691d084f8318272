"""Chapter 2: the same study behind every door: FHIR, DICOMweb, a picture, ITI-18, ITI-43, RAD-69."""

import hashlib

from profiles import manifest
from profiles.document import DocumentEntry
from profiles.manifest import ManifestContent
from server.demo import material
from server.demo.scene import Scene, megabytes, plural, short, subject, wait_for
from server.demo.story import Failed, require
from server.demo.web import values

_STUDY_UID, _MODALITIES, _SERIES_COUNT, _INSTANCE_COUNT, _SOP_UID = "0020000D", "00080061", "00201206", "00201208", "00080018"


def tell(scene: Scene) -> None:
    """FHIR, QIDO, a picture, then every study over FHIR, QIDO, ITI-18, ITI-43 and RAD-69 against each other."""
    scene.story.chapter("2 · One study, many faces")
    _fhir(scene)
    _qido(scene)
    _pictures(scene)
    _agreement(scene)
    entries = _find_documents(scene)
    manifests = _manifests(scene, entries)
    _images(scene, manifests)


def _fhir(scene: Scene) -> None:
    with scene.story.step("FHIR ImagingStudy") as told:
        found = scene.imaging_study = scene.published(scene.study_uid)
        scene.expect(subject(found))
        uids = {instance["uid"] for series in found["series"] for instance in series["instance"]}
        require(uids == scene.expected(scene.study_uid), "the ImagingStudy lists other instances than were sent")
        bundle = scene.web.fhir("ImagingStudy", _id=found["id"], _include="ImagingStudy:endpoint")
        endpoints = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Endpoint"]
        require(len(endpoints) == 1, "_include=ImagingStudy:endpoint brought no Endpoint")
        modalities = "+".join(coding["code"] for coding in found["modality"])
        told.say(
            f"{modalities} · {plural(found['numberOfSeries'], 'series', 'series')} · {plural(found['numberOfInstances'], 'image')}"
            f" · version {found['meta']['versionId']}"
        )
        told.look_at(f"GET /fhir/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{scene.study_uid}")
        told.look_at(f"its endpoint: {endpoints[0]['address']}")


def _qido(scene: Scene) -> None:
    with scene.story.step("DICOMweb QIDO-RS") as told:
        (found,) = scene.web.qido("studies", StudyInstanceUID=scene.study_uid)
        instances = scene.web.qido(f"studies/{scene.study_uid}/instances", limit="5000")
        uids = {uid for instance in instances for uid in values(instance, _SOP_UID)}
        require(uids == scene.expected(scene.study_uid), "QIDO lists other instances than were sent")
        counts = values(found, _SERIES_COUNT)[0], values(found, _INSTANCE_COUNT)[0]
        fhir = scene.imaging_study["numberOfSeries"], scene.imaging_study["numberOfInstances"]
        require(counts == fhir, f"QIDO counts {counts} series and images, FHIR {fhir}")
        told.say(
            f"{'+'.join(values(found, _MODALITIES))} · {plural(counts[0], 'series', 'series')} · {plural(counts[1], 'image')}"
            ": the same as FHIR says"
        )
        told.look_at(f"GET /dicomweb/studies?StudyInstanceUID={scene.study_uid}")


def _pictures(scene: Scene) -> None:
    """The middle image of each series, and one real MR beside it."""
    wanted = [image for image in material.middles(scene.study) if image.sop_instance_uid in scene.sent][:3]
    others = [
        image for image in scene.sent.values() if image.modality == "MR" and image.has_pixels and image.study != scene.study_uid
    ]
    wanted += sorted(others, key=lambda image: image.size)[-1:]
    if not wanted:
        return
    with scene.story.step("DICOMweb WADO-RS rendered") as told:
        folder = scene.folder / "pictures"
        folder.mkdir(exist_ok=True)
        for number, image in enumerate(wanted, 1):
            path = f"studies/{image.study}/series/{image.series}/instances/{image.sop_instance_uid}"
            picture = scene.web.rendered(path)
            require(picture.startswith(b"\x89PNG"), "the rendered image is no PNG")
            target = folder / f"{image.modality.lower()}-{number}.png"
            target.write_bytes(picture)
            told.look_at(str(target))
        told.say(f"first picture {scene.story.seconds:.0f} s after the demo began; open one:")


def _agreement(scene: Scene) -> None:
    with scene.story.step("All studies, FHIR and QIDO") as told:
        fhir = wait_for(lambda: _all_in_fhir(scene), "every study in FHIR")
        qido = {
            values(study, _STUDY_UID)[0]: (values(study, _SERIES_COUNT)[0], values(study, _INSTANCE_COUNT)[0])
            for study in scene.web.qido("studies", limit="5000")
        }
        require(fhir == qido, "FHIR and QIDO tell of different studies")
        require(
            sum(count for _, count in fhir.values()) == len(scene.sent), "the studies have more or fewer images than were sent"
        )
        told.say(f"{plural(len(fhir), 'study', 'studies')} · {plural(len(scene.sent), 'image')}: both say the same of each")


def _all_in_fhir(scene: Scene) -> dict[str, tuple[int, int]] | None:
    """Study Instance UID to the numbers of series and images; None until every image that was sent is in one of them."""
    studies = {
        study["identifier"][0]["value"].removeprefix("urn:oid:"): (study["numberOfSeries"], study["numberOfInstances"])
        for study in scene.web.pages("ImagingStudy", _count="50")
    }
    return studies if sum(count for _, count in studies.values()) == len(scene.sent) else None


def _find_documents(scene: Scene) -> list[DocumentEntry]:
    """ITI-18 for every patient; one approved manifest per study."""
    with scene.story.step("XDS-I.b ITI-18 FindDocuments") as told:
        patients = {subject(study) for study in scene.web.pages("ImagingStudy", _count="50")}
        scene.other_patient = next((patient for patient in sorted(patients) if patient != scene.patient), "")
        entries: list[DocumentEntry] = []
        own: list[DocumentEntry] = []
        for patient in sorted(patients):
            found = scene.xds.find_documents(scene.patient_identifier(patient))
            entries += found
            if patient == scene.patient:
                own = list(found)
        require(own, "the study's patient has no Document Entry")
        uids = {image.study for image in scene.sent.values()}
        require(len(entries) == len(uids), f"{len(entries)} Document Entries for {len(uids)} studies")
        told.say(f"{plural(len(entries), 'approved manifest')} of {plural(len(patients), 'patient')}: one a study")
        format_code = own[0].format_code
        if format_code is None:
            raise Failed("the manifest's Document Entry has no formatCode")
        told.look_at(f"POST /xds/registry · format {format_code.code} {format_code.display}")
        return entries


def _manifests(scene: Scene, entries: list[DocumentEntry]) -> list[ManifestContent]:
    with scene.story.step("XDS-I.b ITI-43 manifest") as told:
        read = []
        for entry in entries:
            document = scene.xds.document(entry)
            require(len(document) == entry.size, "a manifest has another size than its Document Entry says")
            digest = hashlib.sha1(document, usedforsecurity=False).hexdigest()
            require(digest == entry.hash, "a manifest has another hash than its Document Entry says")
            read.append(manifest.read(document))
        listed = {one.sop_instance_uid for made in read for series in made.series for one in series.instances}
        require(listed == scene.sent.keys(), "the manifests list other images than were sent")
        told.say(f"{plural(len(read), 'Key Object Selection')} list all {len(listed)} images")
        told.say("size and SHA-1 are as registered")
        told.look_at(f"POST /xds/repository · repositoryUniqueId {short(entries[0].repository_unique_id)}")
        return read


def _images(scene: Scene, manifests: list[ManifestContent]) -> None:
    with scene.story.step("XDS-I.b RAD-69 images") as told:
        syntaxes = {image.transfer_syntax for image in scene.sent.values()}
        size, same = 0, set()
        for read in manifests:
            for uid, file in scene.xds.images(read, syntaxes):
                require(uid in scene.sent, "RAD-69 gave an image that was never sent")
                require(scene.sent[uid].same(file), "RAD-69 gave an image with other bytes than were sent")
                same.add(uid)
                size += scene.sent[uid].size
        require(same == scene.sent.keys(), f"RAD-69 gave {len(same)} of {len(scene.sent)} images")
        told.say(
            f"{plural(len(same), 'image')} · {megabytes(size)} · {plural(len(syntaxes), 'transfer syntax', 'transfer syntaxes')}"
        )
        told.say("every dataset byte-identical to what was sent")
        told.look_at("POST /xds/imaging-source · MTOM, streamed")
