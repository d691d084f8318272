"""Other documents of a community (reports, PDF, CDA), registered here as they are registered there, under entryUUIDs of their own."""

import uuid
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection

from ihe import rad68
from ihe.ebrs import RegistryRefusal
from ihe.ebxml import Reading
from ihe.iti41 import Provided
from profiles.audit_event import FAILED, ITI_43, SUCCESS, Agent, AuditedAction, AuditedEntity
from profiles.document import DocumentEntry
from profiles.identifiers import PatientIdentifier
from profiles.timestamps import dtm
from profiles.vocabulary import URI_SYSTEM
from server.access.decisions import everything
from server.errors import ContentConflict, ImageShareError, StorageFull, Unavailable
from server.outbound.community import CommunityClient, codes
from server.records import patients, repository
from server.records.installation import Installation
from server.records.trail import Trail
from server.settings import Community
from server.store.db import Database, micros, moment
from server.work.arriving_documents import ArrivingDocuments
from server.work.fetching.asked import Fetched, origin
from server.work.fhir.writes import Writes
from server.work.ingest import Ingest
from server.work.provide import check, completed, provide
from server.work.registry.domain import Domain
from server.work.registry.register import Done

_SUBJECT: Final = "fetch"


class DocumentFetcher:
    """Brings documents that are no manifests into our Document Repository and Registry. `user` is who asked for it."""

    def __init__(
        self, community: Community, client: CommunityClient, database: Database, installation: Installation, ingest: Ingest,
        domain: Domain, writes: Writes, trail: Trail, user: Agent | None = None,
    ) -> None:  # fmt: skip
        self._community, self._client, self._database, self._installation = community, client, database, installation
        self._ingest, self._domain, self._writes, self._trail, self._user = ingest, domain, writes, trail, user

    def fetch(self, entry: DocumentEntry, patient: PatientIdentifier) -> Fetched:
        """ITI TF-2 sections 3.43 and 3.41.4.1.3.2: one document of a patient who is known here by the same id. Raises `StorageFull`; all else is told."""
        fetched = Fetched(entry.unique_id, entry.title, is_manifest=False)
        arrived = ArrivingDocuments(self._ingest)
        try:
            if not self._is_here(entry, patient, fetched):
                self._bring(entry, patient, arrived)
                fetched.new = 1
        except StorageFull:
            raise
        except RegistryRefusal as error:
            fetched.error = f"it is not registered here: {codes(error.errors)}"
        except ImageShareError as error:
            fetched.error = error.detail
        finally:
            arrived.discard()
        if fetched.error:
            self._trail.write(self._action(entry, self._id_of(patient), fetched.error))
        return fetched

    def _is_here(self, entry: DocumentEntry, patient: PatientIdentifier, fetched: Fetched) -> bool:
        with self._database.read() as connection:
            held = repository.held(connection, [entry.unique_id]).get(entry.unique_id)
            known = patients.find(connection, patient)
        if held is not None and (known is None or held.patient != known.id):
            raise ContentConflict("a document with its uniqueId is here, of another patient")
        fetched.known = int(held is not None)
        return held is not None

    def _bring(self, entry: DocumentEntry, patient: PatientIdentifier, arrived: ArrivingDocuments) -> None:
        made = rad68.entry_for(entry, entry_uuid=uuid.uuid4().urn, patient_id=patient.cx, codes={})
        submission = rad68.provided(made, source_id=self._installation.source, submission_time=dtm(moment(micros())), codes={})
        check(self._domain, submission, [Provided(made.entry_uuid, content_id=made.entry_uuid)], Reading())

        def take(_: str, chunks: Iterator[bytes]) -> None:
            arrived.begin(made.entry_uuid)
            for data in chunks:
                arrived.take(data)
            arrived.end()

        failed = self._client.documents(entry.repository_unique_id, [entry.unique_id], take, home=entry.home_community_id)
        if failed:
            raise Unavailable(f"the repository does not give the document: {failed[entry.unique_id]}")
        whole = completed(submission, arrived.kept(), (), self._installation.repository)

        def recorded(connection: Connection, done: Done) -> None:
            self._trail.record(connection, self._action(entry, done.patient))

        provide(self._writes, self._domain, everything(_SUBJECT), whole, arrived, recorded)

    def _id_of(self, patient: PatientIdentifier) -> str:
        with self._database.read() as connection:
            known = patients.find(connection, patient)
        return known.id if known else ""

    def _action(self, entry: DocumentEntry, patient: str, error: str = "") -> AuditedAction:
        """ITI TF-2 section 3.43.5.1: the consumer's event."""
        address = self._community.repositories.get(entry.repository_unique_id, self._community.registry)
        partner = Agent(identifier=self._community.name, address=urlsplit(address).hostname or "", user=self._user)
        named = AuditedEntity(system=URI_SYSTEM, identifier=f"urn:oid:{entry.unique_id}", details=origin(self._community, entry))
        return self._trail.action(
            "create", ITI_43, partner, rest=False, outcome=FAILED if error else SUCCESS, outcome_desc=error,
            patient_id=patient, entities=(named,), initiated=False,
        )  # fmt: skip
