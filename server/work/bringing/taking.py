"""Brought in studies into the archive, by the same way as from every door (`work.ingest`), under the patient whose they are.

Who brings images in could have made them. Their patient identifiers are therefore nobody's but this patient's: they are assigned by an authority of her
own, in which each is, as after a merge (HL7 v2 ADT A40), hers. So nothing that stands in a file leads to another patient, now or when her images
come from a hospital later; and to a study that a hospital has sent, nothing is added.
"""

from collections import Counter
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, select

from profiles.audit_event import INSTANCES_TRANSFERRED, Agent
from profiles.header import PatientDomains, read
from profiles.identifiers import AssigningAuthority, PatientIdentifier
from profiles.study import Patient
from server.access.people import accounts
from server.errors import ImageShareError, StorageFull
from server.records import belonging, patients
from server.records.brought_in import BroughtIn
from server.records.catalogue import INSTANCE, PATIENT, STUDY
from server.records.installation import Installation
from server.store import blobs as blob_store
from server.store.db import Database
from server.work.bringing.whose import Identity, Person, identity, person
from server.work.ingest import Batch, Ingest, Pending, Sender

SENDER: Final = "brought-in"
_SOURCE: Final = f"{INSTANCES_TRANSFERRED.code} {SENDER}"
_TOGETHER: Final = 32
ANOTHERS: Final = "another"
"""Why a study is left out whose UID is that of somebody else's: no more is told of that."""


class Taking:
    """One of what is brought in: `prepare`, `take` each instance, `finish`."""

    def __init__(self, database: Database, installation: Installation, ingest: Ingest, found: BroughtIn) -> None:
        self._database, self._installation, self._ingest, self._found = database, installation, ingest, found
        self._studies = [dict(each) for each in found.found]
        self._wanted: dict[tuple[str, Identity], dict[str, Any]] = {}
        self._batches: dict[str, Batch] = {}
        self._waiting: list[tuple[dict[str, Any], Pending]] = []

    def prepare(self) -> int:
        """Whose everything is, before anything comes. Returns how many instances are to be taken in."""
        with self._database.write() as connection:
            for each in self._studies:
                if each.get("state") != "taking":
                    continue
                known = person(connection, each["patient"])
                why = "nobody" if known is None else self._why_not(connection, each["study"], known)
                if known is None or why:
                    each |= {"state": "known" if why == "known" else "refused", "why": why}
                    continue
                self._know(connection, each, known)
                each |= {"taken": 0, "failed": {}, "patient": known.id}
                self._wanted[each["study"], Identity.of(each)] = each
                if known.id not in self._batches:
                    self._batches[known.id] = self._ingest.batch(self._sender(connection, known))
        return sum(each["images"] for each in self._wanted.values())

    def take(self, file: BinaryIO, domains: PatientDomains) -> int:
        """One instance, if it is wanted; 1 then. Raises `StorageFull`, and `HeaderError` for what is none."""
        dataset, syntax, _ = read(file)
        study, whose = identity(dataset, syntax, domains)
        each = self._wanted.get((study.study_instance_uid, whose))
        if each is None:
            return 0
        batch = self._batches[each["patient"]]
        writer = batch.receive()
        try:
            file.seek(0)
            while data := file.read(blob_store.CHUNK):
                writer.write(data)
        except BaseException:
            writer.abort()
            raise
        self._waiting.append((each, batch.submit(writer, ahead=True)))
        if len(self._waiting) >= _TOGETHER:
            self._settle()
        return 1

    def finish(self) -> list[dict[str, Any]]:
        """What became of each study. Raises `StorageFull`."""
        self._settle()
        for each in self._wanted.values():
            each["state"] = "taken" if each["taken"] else "refused"
        return self._studies

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        full: StorageFull | None = None
        for each, pending in waiting:
            try:
                pending.receipt()
            except StorageFull as error:
                full = error
            except ImageShareError as error:
                each["failed"] = dict(Counter(each["failed"]) + Counter([error.detail]))
            else:
                each["taken"] += 1
        if full is not None:
            raise full

    def _why_not(self, connection: Connection, uid: str, known: Person) -> str:
        """Empty where nothing of the study is here, or what is was brought in for this patient too."""
        found = connection.execute(
            select(STUDY.c.pk, PATIENT.c.id).join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk).where(STUDY.c.uid == uid)
        ).first()
        if found is None:
            return ""
        if found.id not in belonging.same(connection, known.id):
            return ANOTHERS
        sent = select(INSTANCE.c.pk).where(INSTANCE.c.study_pk == found.pk, INSTANCE.c.source != _SOURCE).limit(1)
        return "known" if connection.execute(sent).first() is not None else ""

    def _know(self, connection: Connection, each: dict[str, Any], known: Person) -> None:
        """The identifier in the images is this patient's, in her own authority."""
        authority = AssigningAuthority(self._authority(known))
        identifier = PatientIdentifier(each["number"] or each["study"], authority)
        there = patients.find(connection, identifier)
        if there is None:
            patients.made(connection, Patient(identifier, each["name"], each["born"], each["sex"]))
            there = patients.find(connection, identifier)
        assert there is not None
        if known.pk not in (there.merged_into, there.pk):
            belonging.merge(connection, there.pk, known.pk)

    def _sender(self, connection: Connection, known: Person) -> Sender:
        """IHE BALP: who brought it in, as the source of an import."""
        account = accounts.find(connection, self._found.account)
        reference = account.fhir_user if account is not None else ""
        who = Agent(identifier=self._found.account, system=self._installation.issuer, reference=reference)
        return Sender(
            INSTANCES_TRANSFERRED, SENDER, "", self._authority(known), who=who, origin=(("brought in", self._found.id),), believed=False
        )  # fmt: skip

    def _authority(self, known: Person) -> str:
        return AssigningAuthority.derived(self._installation.root, f"brought in for {known.id}").oid
