"""ExpectedContents: how many of what a query's answer has, and in which patterns (the toolkit's Validator as a table)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from lxml.etree import _Element

from ihe import xml

_SUBMISSION_SET: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
_FOLDER: Final = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
_STABLE: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
_ON_DEMAND: Final = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was expected, and what was found."""

    what: str
    expected: str
    found: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


class Found:
    """The registry objects of an answer, by kind."""

    def __init__(self, answer: _Element) -> None:
        listed = [each for holder in answer.iter("{*}RegistryObjectList", "{*}LeafRegistryObjectList") for each in holder]
        self.documents = _named(listed, "ExtrinsicObject")
        self.associations = _named(listed, "Association")
        self.references = _named(listed, "ObjectRef")
        packages = _named(listed, "RegistryPackage")
        nodes = {
            each.get("classifiedObject"): each.get("classificationNode")
            for each in answer.iter("{*}Classification")
            if each.get("classificationNode")
        }
        self.submission_sets = [each for each in packages if nodes.get(each.get("id")) == _SUBMISSION_SET]
        self.folders = [each for each in packages if nodes.get(each.get("id")) == _FOLDER]

    def linked(self, kind: str, source: _Element, target: _Element) -> bool:
        """Whether there is an association of this kind from one to the other."""
        return any(
            _word(each.get("associationType")) == kind
            and each.get("sourceObject") == source.get("id")
            and each.get("targetObject") == target.get("id")
            for each in self.associations
        )

    def of_kind(self, kind: str) -> list[_Element]:
        """Associations whose type has this last word."""
        return [each for each in self.associations if _word(each.get("associationType")) == kind]


Pattern: TypeAlias = Callable[[Found], Iterator[Check]]


def _named(elements: Sequence[_Element], name: str) -> list[_Element]:
    return [each for each in elements if xml.local_name(each) == name]


def _word(value: str | None) -> str:
    return (value or "").rpartition(":")[2]


def counted(what: str, found: Sequence[object], count: int) -> Check:
    """Whether there are that many."""
    return Check(what, str(count), str(len(found)), len(found) == count)


def _statuses(what: str, found: Sequence[_Element], wanted: str) -> Check:
    """Whether all have this status. Of none, all have it, as the toolkit counts."""
    states = [_word(each.get("status")) or "no status" for each in found]
    return Check(f"status of {what}", f"{wanted} of all", ", ".join(states) or "none there", set(states) <= {wanted})


def _submission_set(found: Found) -> Iterator[Check]:
    yield counted("submission sets", found.submission_sets, 1)
    yield _statuses("the submission set", found.submission_sets, "Approved")


def _one_with(status: str) -> Pattern:
    def look(found: Found) -> Iterator[Check]:
        yield counted(f"{status} documents", [each for each in found.documents if _word(each.get("status")) == status], 1)

    return look


def _has(kind: str) -> Pattern:
    def look(found: Found) -> Iterator[Check]:
        targets = [each.get("targetObject") for each in found.of_kind(kind)]
        once = bool(targets) and len(set(targets)) == len(targets)
        yield Check(f"{kind} associations", "some, one for each target", str(len(targets)), once)

    return look


def _package(documents: int, folders: int, in_folder: int, *, approved: bool = True) -> Pattern:
    """A submission set with all that it submits: a HasMember for each, and one to each that puts a document into a folder."""

    def look(found: Found) -> Iterator[Check]:
        yield counted("submission sets", found.submission_sets, 1)
        yield counted("documents", found.documents, documents)
        yield counted("folders", found.folders, folders)
        yield counted("associations", found.associations, documents + folders + 2 * in_folder)
        for each in found.submission_sets[:1]:
            members = [*found.documents, *found.folders]
            linked = [found.linked("HasMember", each, one) for one in members]
            yield Check("HasMember from the submission set", f"to all {len(members)}", f"to {sum(linked)}", all(linked))
        contained = [each for each in found.documents if any(found.linked("HasMember", one, each) for one in found.folders)]
        yield counted("documents in the folder", contained, in_folder)
        if approved:
            yield _statuses("the submission set", found.submission_sets, "Approved")

    return look


def _replaced(found: Found) -> Iterator[Check]:
    yield counted("documents", found.documents, 2)
    yield counted("associations", found.associations, 1)
    approved = [each for each in found.documents if _word(each.get("status")) == "Approved"]
    deprecated = [each for each in found.documents if _word(each.get("status")) == "Deprecated"]
    linked = any(found.linked("RPLC", new, old) for new in approved for old in deprecated)
    yield Check("RPLC from the approved document to the deprecated one", "there", "there" if linked else "missing", linked)


def _snapshot(found: Found) -> Iterator[Check]:
    links = found.of_kind("IsSnapshotOf")
    yield counted("IsSnapshotOf associations", links, 1)
    by_id = {each.get("id"): each for each in found.documents}
    for each in links[:1]:
        for end, kind in (("sourceObject", _STABLE), ("targetObject", _ON_DEMAND)):
            document = by_id.get(each.get(end))
            known = "" if document is None else f"{document.get('objectType')} {_word(document.get('status'))}"
            yield Check(f"{end} of IsSnapshotOf", f"{kind} Approved", known or "not in the answer", known == f"{kind} Approved")


def _none(found: Found) -> Iterator[Check]:
    for what, some in (
        ("submission sets", found.submission_sets),
        ("documents", found.documents),
        ("folders", found.folders),
        ("associations", found.associations),
    ):
        yield counted(what, some, 0)


PATTERNS: Final[dict[str, Pattern]] = {
    "RegistryResponseIsValid": lambda _: iter(()),  # its status and schema are looked at anyway
    "None": _none,
    "NoSubmissionSet": lambda found: iter([counted("submission sets", found.submission_sets, 0)]),
    "NoDocument": lambda found: iter([counted("documents", found.documents, 0)]),
    "SSApproved": _submission_set,
    "DocApp": lambda found: iter([_statuses("documents", found.documents, "Approved")]),
    "DocDep": lambda found: iter([_statuses("documents", found.documents, "Deprecated")]),
    "FolApp": lambda found: iter([_statuses("folders", found.folders, "Approved")]),
    "FolDep": lambda found: iter([_statuses("folders", found.folders, "Deprecated")]),
    "OneDocApp": _one_with("Approved"),
    "OneDocDep": _one_with("Deprecated"),
    "HasRPLC": _has("RPLC"),
    "HasXFRM_RPLC": _has("XFRM_RPLC"),
    "HasAPND": _has("APND"),
    "DocRplcDoc": _replaced,
    "HasSnapshotPattern": _snapshot,
    "SSwithOneDoc": _package(1, 0, 0),
    "SSwithTwoDoc": _package(2, 0, 0),
    "SSwithOneDocOnly": _package(1, 0, 0, approved=False),
    "SSwithTwoDocOnly": _package(2, 0, 0, approved=False),
    "SSwithOneFol": _package(0, 1, 0, approved=False),
    "SSwithOneDocOneFol": _package(1, 1, 1, approved=False),
    "SSwithTwoDocOneFol": _package(2, 1, 2, approved=False),
    "SSwithTwoDocOneFolOneDocInFol": _package(2, 1, 1, approved=False),
}
COUNTS: Final = {
    "Documents": "documents",
    "Folders": "folders",
    "SubmissionSets": "submission_sets",
    "Associations": "associations",
    "ObjectRefs": "references",
}


def unknown(contents: _Element) -> list[str]:
    """Names within an ExpectedContents that are not known here."""
    names = {xml.local_name(each) for each in contents}
    return sorted(names - PATTERNS.keys() - COUNTS.keys() - {"DocumentEntries"})


def check_contents(answer: _Element, contents: _Element, id_of: Callable[[_Element], str]) -> list[Check]:
    """Everything that an ExpectedContents asks of an answer. `id_of` resolves a UseId."""
    found = Found(answer)
    checks: list[Check] = []
    for each in contents:
        name = xml.local_name(each)
        if name in COUNTS:
            kind = COUNTS[name]
            checks.append(counted(kind.replace("_", " "), getattr(found, kind), int(each.get("count", "0"))))
            if name == "ObjectRefs":
                checks += _none(found)
        elif name == "DocumentEntries":
            checks += _entries(found, each, id_of)
        elif name in PATTERNS:
            checks += PATTERNS[name](found)
    return checks


def _entries(found: Found, entries: _Element, id_of: Callable[[_Element], str]) -> Iterator[Check]:
    """DocumentEntries: MustOnlyInclude, Include or Exclude the entries that UseIds name, and of which type they are."""
    there = {each.get("id", ""): each for each in found.documents}
    for part in entries:
        rule = xml.local_name(part)
        if rule == "DocumentEntryType":
            kinds = {each.get("objectType", "") for each in found.documents}
            wanted = (part.text or "").strip()
            yield Check("objectType of all documents", wanted, ", ".join(sorted(kinds)) or "none", kinds <= {wanted})
            continue
        named = [(id_of(use), entry) for entry in part.iterfind("{*}DocumentEntry") for use in entry.iterfind("{*}UseId")]
        for uuid, entry in named:
            wanted, seen = "absent" if rule == "Exclude" else "there", "there" if uuid in there else "absent"
            yield Check(f"document {uuid}", wanted, seen, wanted == seen)
            if (kind := xml.text_of(entry, "DocumentEntryType")) and uuid in there:
                yield Check(
                    f"objectType of {uuid}", kind, there[uuid].get("objectType", ""), there[uuid].get("objectType") == kind
                )
        if rule == "MustOnlyInclude":
            yield counted("documents", found.documents, len(named))
