"""ITI-18 and FHIR say the same of what was registered, updated, replaced, removed and merged, in any order; a list in Python says what that is."""

from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from peers.fhir_site import FhirSite, fhir_site
from peers.registering import Registry, document, new_status, new_version, stroke, submitted
from peers.registry_objects import association
from peers.xds import Archive

from ihe.iti18 import ReturnType, StoredQuery
from ihe.stored_queries import FIND_FOLDERS, GET_FOLDER_AND_CONTENTS
from profiles.audit_event import Agent
from profiles.document import APND, APPROVED, DEPRECATED, HAS_MEMBER, RPLC, XFRM, DocumentEntry
from profiles.identifiers import PatientIdentifier
from profiles.study import Patient
from server.records import patients
from server.work.corrections import Corrector
from server.work.reconcile import Actor, Reconciler

_examples = count(1)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["register", "register", "file", "replace", "append", "transform", "update", "flip", "remove"]),
        st.integers(0, 1),
        st.integers(0, 9),
    ),
    min_size=2,
    max_size=9,
)


@dataclass
class Kept:
    """One document as the registry should have it: its versions, oldest first, of which the last one is current."""

    whose: int
    versions: list[DocumentEntry]
    status: str = APPROVED
    folder: str = ""
    about: "Kept | None" = None
    is_linked: bool = False

    @property
    def now(self) -> DocumentEntry:
        return self.versions[-1]


@dataclass
class Model:
    """Two patients' documents and Folders, and the registry that should have the same."""

    registry: Registry
    cx: tuple[str, str]
    kept: list[Kept] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)

    def take(self, step: str, whose: int, number: int) -> None:
        mine = [each for each in self.kept if each.whose == whose]
        if step in ("register", "file") or not mine:
            self._register(whose, in_folder=step == "file")
            return
        target = mine[number % len(mine)]
        {"replace": self._replace, "append": self._append, "transform": self._transform, "update": self._update,
         "flip": self._flip, "remove": self._remove}[step](target)  # fmt: skip

    def _register(self, whose: int, *, in_folder: bool) -> None:
        made, cx = document(patient_id=self.cx[whose]), self.cx[whose]
        filed = (stroke(patient_id=cx), association("filed", "Folder01", "Document01")) if in_folder else ()
        done = self.registry.submit(submitted(made, *filed, patient=cx)).submission
        folder = done.folders[0].entry_uuid if in_folder else ""
        if folder:
            self.folders[folder] = whose
        self.kept.append(Kept(whose, [done.documents[0]], folder=folder, is_linked=in_folder))

    def _related(self, target: Kept, type_: str) -> DocumentEntry | None:
        """None where the target is deprecated, and refused therefore."""
        cx = self.cx[target.whose]
        made = submitted(document(patient_id=cx), association("r", "Document01", target.now.entry_uuid, type_), patient=cx)
        if target.status == DEPRECATED:
            assert self.registry.errors(made) == ["XDSRegistryDeprecatedDocumentError"]
            return None
        target.is_linked = True
        return self.registry.submit(made).submission.documents[0]

    def _replace(self, target: Kept) -> None:
        if (made := self._related(target, RPLC)) is not None:
            for each in self.kept:
                if each is target or _leads_to(each, target):
                    each.status = DEPRECATED
            self.kept.append(Kept(target.whose, [made], folder=target.folder, is_linked=True))

    def _append(self, target: Kept) -> None:
        if (made := self._related(target, APND)) is not None:
            self.kept.append(Kept(target.whose, [made], about=target, is_linked=True))

    def _transform(self, target: Kept) -> None:
        if (made := self._related(target, XFRM)) is not None:
            self.kept.append(Kept(target.whose, [made], about=target, is_linked=True))

    def _update(self, target: Kept) -> None:
        old = target.now
        logical = target.versions[0].entry_uuid
        new = replace(old, entry_uuid="Document01", logical_id=logical, title=f"{old.title}+")
        done = self.registry.update(new_version(new, len(target.versions))).submission
        target.versions.append(done.documents[0])
        target.is_linked = True

    def _flip(self, target: Kept) -> None:
        wanted = DEPRECATED if target.status == APPROVED else APPROVED
        self.registry.update(new_status(target.now.entry_uuid, wanted, patient=self.cx[target.whose]))
        target.status, target.is_linked = wanted, True

    def _remove(self, target: Kept) -> None:
        id_ = target.now.entry_uuid
        if target.is_linked:
            assert self.registry.removing(id_) == ["ReferencesExistException"]
            return
        (member,) = self.registry.around(id_)
        self.registry.remove(id_, member.entry_uuid, member.source)
        self.kept.remove(target)

    def merge(self) -> None:
        """The second patient is the first from now on."""
        node = self.registry.node
        with node.database.read() as connection:
            first, second = (patients.registered(connection, cx, frozenset()) for cx in self.cx)
        assert first is not None
        assert second is not None
        reconciler = Reconciler(node.settings, node.database, node.blobs, node.installation, node.trail)
        corrector = Corrector(reconciler, node.database, node.blobs, node.installation.patients.oid)
        corrector.merge(second.id, first.id, actor=Actor(Agent(identifier="test")))
        for each in self.kept:
            each.whose = 0
        self.folders = dict.fromkeys(self.folders, 0)


def _leads_to(each: Kept, target: Kept) -> bool:
    return each.about is not None and (each.about is target or _leads_to(each.about, target))


def _id(entry_uuid: str) -> str:
    return entry_uuid.removeprefix("urn:uuid:")


def agree(model: Model, site: FhirSite, archive: Archive, whose: int, patient: str) -> None:
    """What is told of one patient, by ITI-18 and by FHIR."""
    cx, mine = model.cx[whose], [each for each in model.kept if each.whose == whose]
    for status, said in ((APPROVED, "current"), (DEPRECATED, "superseded")):
        wanted = {each.now.entry_uuid: each.now.title for each in mine if each.status == status}
        assert {each.entry_uuid: each.title for each in archive.find(cx, status)} == wanted
        earlier = {old.entry_uuid: old.title for each in mine for old in each.versions[:-1]} if status == DEPRECATED else {}
        bundle = site.get(f"DocumentReference?patient={patient}&status={said}&_count=200").json()
        found = [each["resource"] for each in bundle.get("entry", ())]
        titles = {each["id"]: each["content"][0]["attachment"]["title"] for each in found}
        assert titles == {_id(uuid): title for uuid, title in {**wanted, **earlier}.items()}
    _folders_agree(model, site, archive, whose, patient)


def _folders_agree(model: Model, site: FhirSite, archive: Archive, whose: int, patient: str) -> None:
    given = {"$XDSFolderPatientId": ((model.cx[whose],),), "$XDSFolderStatus": ((APPROVED,),)}
    found = archive.query(StoredQuery(FIND_FOLDERS, ReturnType.LEAF_CLASS, given)).folders
    wanted = {id_ for id_, owner in model.folders.items() if owner == whose}
    assert {each.entry_uuid for each in found} == wanted
    assert set(site.ids(f"List?patient={patient}&code=folder")) == {_id(each) for each in wanted}
    for folder in wanted:
        query = StoredQuery(GET_FOLDER_AND_CONTENTS, ReturnType.LEAF_CLASS, {"$XDSFolderEntryUUID": ((folder,),)})
        contents = archive.query(query)
        members = {each.target for each in contents.associations if each.type == HAS_MEMBER and each.source == folder}
        current = {each.now.entry_uuid for each in model.kept if each.folder == folder}
        assert current <= members
        entries = {each["item"]["reference"] for each in site.get(f"List/{_id(folder)}").json()["entry"]}
        assert {f"DocumentReference/{_id(each)}" for each in members} <= entries


@pytest.mark.postgresql_is_deep
def test_both_say_what_was_done(tmp_path: Path, database_url: str) -> None:
    with fhir_site(tmp_path / "data", database_url) as site:
        registry, archive = Registry(site.node), Archive(site.node)

        @settings(max_examples=max(5, settings().max_examples // 10), suppress_health_check=[HealthCheck.too_slow])
        @given(_STEPS, st.booleans())
        @example([("register", 0, 0), ("file", 1, 0)], True)
        def check(steps: list[tuple[str, int, int]], merges: bool) -> None:
            number = next(_examples)
            cx = tuple(f"{number}{letter}^^^&1.3.6.1.4.1.21367.13.20&ISO" for letter in "AB")
            with site.node.database.write() as connection:
                for each in cx:
                    patients.made(connection, Patient(PatientIdentifier.from_cx(each), "DOE^JANE"))
            model = Model(registry, (cx[0], cx[1]))
            with site.node.database.read() as connection:
                ids = [patients.registered(connection, each, frozenset()) for each in cx]
            for step in steps:
                model.take(*step)
            if merges:
                model.merge()
            for whose, known in enumerate(ids):
                assert known is not None
                agree(model, site, archive, whose, known.id)

        check()
