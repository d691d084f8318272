"""One community's documents and images, found (ITI-18), retrieved (ITI-43; RAD-69, RAD-55 or RAD-107) and stored here.

What is here already is not fetched again, so what broke off is simply fetched once more. Images are the patient's whom they themselves name, and are
refused where their manifest names another. Every transaction is in the trail.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from lxml import etree
from lxml.etree import _Element

from ihe import ebrs
from profiles import manifest_reading
from profiles.audit_event import (
    FAILED,
    ITI_18,
    ITI_43,
    RAD_55,
    RAD_69,
    RAD_107,
    SUCCESS,
    Agent,
    AuditedEntity,
    Subtype,
    dicom_objects,
)
from profiles.document import DocumentEntry
from profiles.identifiers import PatientIdentifier
from profiles.manifest import ManifestContent, NotAManifest
from profiles.vocabulary import URI_SYSTEM
from server.errors import ContentConflict, ImageShareError, NotFound, TooLarge, Unavailable
from server.outbound.community import CommunityClient, Image, codes
from server.records import catalogue, patients
from server.records.trail import Trail
from server.settings import Community, Way
from server.store.db import Database
from server.work.fetching.asked import Asked, Fetched, is_manifest, is_patient, mixed_up, origin
from server.work.fetching.intake import Intake, Named
from server.work.ingest import Ingest, Sender

TOGETHER: Final = 100
"""Instances of one request by RAD-69."""
_TRANSACTIONS: Final[dict[Way, Subtype]] = {"rad69": RAD_69, "wado-uri": RAD_55, "wado-rs": RAD_107}
Progress = Callable[[int, int], None]
"""How many instances are done, of how many."""


class Fetcher:
    """Fetches from one community for one person or program, `user`. Use it from one thread."""

    def __init__(
        self, community: Community, client: CommunityClient, database: Database, ingest: Ingest, trail: Trail, user: Agent | None = None
    ) -> None:  # fmt: skip
        self._community, self._client = community, client
        self._database, self._ingest, self._trail, self._user = database, ingest, trail, user
        self.partial = ""
        """What the registry said to be missing from its last answer; empty where nothing is."""

    def find(self, asked: Asked) -> list[DocumentEntry]:
        """ITI TF-2 section 3.18: the documents that are asked for, and those that may be; manifests first, as images make a patient known here.

        Raises `Unavailable`, and `ContentConflict` for an answer about another patient.
        """
        for query in asked.queries():
            found = [each for each in self._queried(asked.patient, query) if asked.may_be(each)]
            if found:
                manifests = [each for each in found if is_manifest(each)]
                others = [each for each in found if not is_manifest(each)]
                return [*manifests, *others] if asked.documents or asked.document else manifests
        return []

    def _queried(self, patient: PatientIdentifier, query: _Element) -> tuple[DocumentEntry, ...]:
        asked = AuditedEntity(query=etree.tostring(query), details=(("QueryEncoding", "UTF-8"),))
        try:
            answer = self._client.query(query)
            entries, self.partial = answer.entries, ""
            if answer.status == ebrs.PARTIAL_SUCCESS:
                self.partial = f"the registry answered in part, there may be more: {codes(answer.errors)}"
            if not all(is_patient(each.patient_id, patient) for each in entries):
                raise ContentConflict(
                    "the registry answers with documents of another patient than was asked for: nothing is fetched"
                )
        except ImageShareError as error:
            self._record(ITI_18, patient, (asked,), error.detail)
            raise
        self._record(ITI_18, patient, (asked,))
        return entries

    def manifest(self, entry: DocumentEntry, asked: Asked, progress: Progress = lambda done, total: None) -> Fetched:
        """RAD TF-2 sections 4.68 and 4.69: the images that one manifest names. Raises `StorageFull`; all else is told."""
        fetched = Fetched(entry.unique_id, entry.title)
        by = asked.by or self._community.by
        try:
            read = manifest_reading.read(self._document(entry, asked.patient))
            fetched.notes = read.faults
            self._images(read.content, entry, asked, by, fetched, progress)
        except NotAManifest as error:
            fetched.error = str(error)
        except (Unavailable, NotFound, ContentConflict, TooLarge) as error:
            fetched.error = error.detail
        if fetched.studies and (fetched.failed or fetched.error):
            objects = tuple(each for study in fetched.studies for each in dicom_objects(study=study))
            why = fetched.error or "; ".join(f"{count} x {reason}" for reason, count in fetched.failed.most_common())
            self._record(_TRANSACTIONS[by], asked.patient, objects, why)
        return fetched

    def _document(self, entry: DocumentEntry, patient: PatientIdentifier) -> bytes:
        """ITI TF-2 section 3.43: a manifest, which has to be the one that is registered."""
        collected = bytearray()
        named = AuditedEntity(system=URI_SYSTEM, identifier=f"urn:oid:{entry.unique_id}", details=origin(self._community, entry))
        told = (named,)

        def take(_: str, chunks: Iterator[bytes]) -> None:
            for data in chunks:
                if len(collected) + len(data) > manifest_reading.MOST_BYTES:
                    raise TooLarge("the document is larger than any manifest")
                collected.extend(data)

        try:
            failed = self._client.documents(entry.repository_unique_id, [entry.unique_id], take, home=entry.home_community_id)
            if failed:
                raise Unavailable(f"the repository does not give the document: {failed[entry.unique_id]}")
            if reason := altered(entry, len(collected), hashlib.sha1(collected, usedforsecurity=False).hexdigest()):
                raise ContentConflict(reason)
        except ImageShareError as error:
            self._record(ITI_43, patient, told, error.detail)
            raise
        self._record(ITI_43, patient, told)
        return bytes(collected)

    def _images(
        self, manifest: ManifestContent, entry: DocumentEntry, asked: Asked, by: Way, fetched: Fetched, progress: Progress
    ) -> None:
        if mixed_up(entry, manifest):
            raise ContentConflict("the manifest is of another patient than its registration says: none of its images is fetched")
        wanted = _wanted(manifest, asked) if asked.has(manifest, entry) else {}
        named = {image.instance: Named(image.study, sop_class, manifest.patient_id) for image, (_, sop_class) in wanted.items()}
        fetched.studies = tuple(dict.fromkeys(each.study for each in wanted))
        fetched.instances = len(wanted)
        left = self._left(wanted, fetched)
        counted = _Counted(progress, fetched.instances, fetched.instances - len(left))
        sources = list(dict.fromkeys(source for source, _ in wanted.values()))
        sender = self._sender(by, origin(self._community, entry, sources))
        intake = Intake(self._ingest, sender, named, fetched, counted.more)
        for source in dict.fromkeys(wanted[each][0] for each in left):
            of_source = [each for each in left if wanted[each][0] == source]
            for start in range(0, len(of_source), TOGETHER):
                self._some(source, of_source[start : start + TOGETHER], by, entry.home_community_id, intake, fetched)

    def _left(self, wanted: "dict[Image, tuple[str, str]]", fetched: Fetched) -> list[Image]:
        """Those that are not here."""
        with self._database.read() as connection:
            here = catalogue.studies_of(connection, [each.instance for each in wanted])
        for each in wanted:
            if each.instance in here and here[each.instance] != each.study:
                fetched.failed["its SOP Instance UID is that of an instance of another study here"] += 1
            elif each.instance in here:
                fetched.known += 1
        return [each for each in wanted if each.instance not in here]

    def _some(self, source: str, images: list[Image], by: Way, home: str, intake: Intake, fetched: Fetched) -> None:
        """One request, and again for what is left of it as long as an answer that breaks off brings something."""
        retrieve = partial(self._client.images, source, take=intake.take, by=by, home=home)
        while images:
            before = len(intake.done)
            try:
                fetched.failed.update(retrieve(images).values())
                return
            except Unavailable:
                if len(intake.done) == before:
                    raise
                images = [each for each in images if each.instance not in intake.done]
            finally:
                intake.settle()

    def _sender(self, by: Way, origin: tuple[tuple[str, str], ...]) -> Sender:
        agent = self._partner(_TRANSACTIONS[by])
        community = self._community
        return Sender(
            _TRANSACTIONS[by],
            community.name,
            agent.address,
            community.patient_authority,
            who=agent,
            initiated=False,
            origin=origin,
        )

    def _partner(self, subtype: Subtype) -> Agent:
        community = self._community
        addresses = {ITI_18: {"": community.registry}, ITI_43: community.repositories, RAD_69: community.imaging_sources,
                     RAD_55: community.wado_uri, RAD_107: community.wado_rs}[subtype]  # fmt: skip
        address = next(iter(addresses.values()), community.registry)
        return Agent(identifier=community.name, address=urlsplit(address).hostname or "", user=self._user)

    def _record(self, subtype: Subtype, patient: PatientIdentifier, entities: tuple[AuditedEntity, ...], error: str = "") -> None:
        """ITI TF-2 sections 3.18.5.1 and 3.43.5.1, RAD TF-2 section 4.69.5: the consumer's event, durable when this returns."""
        with self._database.read() as connection:
            known = patients.find(connection, patient)
        action = self._trail.action(
            "query" if subtype == ITI_18 else "create", subtype, self._partner(subtype), rest=False,
            outcome=FAILED if error else SUCCESS, outcome_desc=error, patient_id=known.id if known else "", entities=entities, initiated=False,
        )  # fmt: skip
        self._trail.write(action)


class _Counted:
    """Adds up what is done."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        self._progress, self._total, self._done = progress, total, done
        self.more(0)

    def more(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)


def altered(entry: DocumentEntry, size: int, sha1: str) -> str:
    """ITI TF-3 sections 4.2.3.2.10 and 4.2.3.2.23: why a document is not the one that is registered; empty where it is."""
    if entry.hash and entry.hash.lower() != sha1:
        return "the document that came is not the one that is registered: its hash is another"
    if entry.size is not None and entry.size != size:
        return "the document that came is not the one that is registered: its size is another"
    return ""


def _wanted(manifest: ManifestContent, asked: Asked) -> dict[Image, tuple[str, str]]:
    """The images that are asked for, each with its source and SOP Class."""
    return {
        Image(series.study_instance_uid, series.series_instance_uid, each.sop_instance_uid): (series.retrieve_location_uid, each.sop_class_uid)
        for series in manifest.series
        for each in series.instances
        if asked.study in ("", series.study_instance_uid)
    }  # fmt: skip
