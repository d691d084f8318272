"""What the Document Registry answers a stored query (ITI TF-2 sections 3.18.4.1.3, 3.51.4.1.3): a row of `_ANSWERS` for each.

The Decision is in the SQL. An Association is told to who may find what it connects.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, or_, select

from ihe import stored_queries as queries
from ihe.criteria import Criterion, OneOf, association_statuses, criteria, key, level, patient_ids
from ihe.ebrs import RegistryError
from ihe.iti18 import ObjectRef, ReturnType, StoredQuery
from ihe.stored_queries import Subject
from profiles.document import HAS_MEMBER, Association, RegistryObject
from profiles.identifiers import InvalidIdentifier, PatientIdentifier
from server.access.decisions import Decision, Interaction
from server.errors import MalformedQuery
from server.records import belonging, patients, registry, registry_queries
from server.records.catalogue import PATIENT
from server.records.fhir_search.terms import RESOURCE
from server.records.registry import ASSOCIATION, OBJECT
from server.records.registry_queries import Found

_TYPES: Final[dict[Subject, str]] = {"document": "DocumentReference", "submission": "List", "folder": "List"}
"""What each is judged as: the resource that is its other rendering, whose id is the entryUUID."""
_KINDS: Final[tuple[Subject, ...]] = ("submission", "document", "folder")
_TOGETHER: Final = 500


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """What is told: objects, or their ids. `patients` are whose that is, `asked` the known ones that the query named, all resource ids.

    Of `refused`, some of these, the caller may find nothing.
    """

    objects: tuple[RegistryObject | ObjectRef, ...]
    patients: frozenset[str]
    asked: frozenset[str]
    refused: frozenset[str]


def answer(connection: Connection, decision: Decision, query: StoredQuery, *, limit: int) -> RegistryAnswer:
    """The answer to `query`, in which there are `limit` whole objects at most. Raises `RegistryError`, `MalformedQuery`."""
    asking = _Asking(connection, decision, query, limit)
    found = asking.ordered(_ANSWERS[query.query_id](asking))
    refused = frozenset(each for each in asking.named if not _may_find(decision, each))
    return RegistryAnswer(tuple(asking.rendered(found)), frozenset(asking.whose(found)), frozenset(asking.named), refused)


def _may_find(decision: Decision, patient: str) -> bool:
    allowed = (decision.some_of(type_, Interaction.SEARCH) for type_ in set(_TYPES.values()))
    return any(each is None or patient in each for each in allowed)


Results = list[Found | Association]


class _Asking:
    """One query while it is answered. `named` are the resource ids of the known patients that it names."""

    def __init__(self, connection: Connection, decision: Decision, query: StoredQuery, limit: int) -> None:
        self.query = query
        self.named: list[str] = []
        self._connection = connection
        self._decision = decision
        self._is_whole = query.return_type is ReturnType.LEAF_CLASS
        self._left = limit
        self._limit = limit

    def of_patients(self, subject: Subject) -> list[Found]:
        """The objects of a kind that the query means, of the patients whom it names; of all, if it names none."""
        rows = self._patients()
        if rows == []:
            return []
        return self._find(subject, criteria(self.query, subject), rows)

    def by_key(self, subject: Subject, by: OneOf | None = None) -> list[Found]:
        """The objects of a kind that the query means, of those with these ids; by its own if none are given."""
        wanted, also = by or key(self.query), criteria(self.query, subject)
        return [each for ids in _some(wanted.values) for each in self._find(subject, (OneOf(wanted.attribute, ids), *also))]

    def by_uuid(self, subject: Subject, uuids: Iterable[str]) -> list[Found]:
        """As `by_key`, by entryUUIDs."""
        return self.by_key(subject, OneOf("entry_uuid", tuple(uuids)))

    def associations(self, ids: Iterable[str], *where: ColumnElement[bool]) -> list[Association]:
        """Associations that begin or end at one of these, or have one of these ids, and may be told."""
        status = ASSOCIATION.c.status.in_(association_statuses(self.query))
        return self._told(registry.associations(self._connection, ids, status, *where))

    def single_patient(self, found: Sequence[Found]) -> None:
        """ITI TF-2 section 3.18.4.1.2.3.7.5, note 3: whole objects of a Get query are of one patient. Raises `RegistryError`."""
        if self._is_whole and len({each.patient_pk for each in found}) > 1:
            raise RegistryError("XDSResultNotSinglePatient", "the objects belong to several patients: ask for them one by one")

    # --- the answer

    def ordered(self, found: Results) -> Results:
        """Each object once, Associations last. Raises `RegistryError` where there are too many."""
        once = {uuid_of(each): each for each in found}
        associations = [each for each in once.values() if isinstance(each, Association)]
        self._count(len(associations))
        return [*(each for each in once.values() if isinstance(each, Found)), *associations]

    def rendered(self, found: Results) -> Iterator[RegistryObject | ObjectRef]:
        """As they are written."""
        for each in found:
            value = each.value if isinstance(each, Found) else each
            yield value if self._is_whole else ObjectRef(value.entry_uuid, value.home_community_id)

    def whose(self, found: Results) -> Iterator[str]:
        """Whose all of that is: the resource ids of patients."""
        yield from (each.patient for each in found if isinstance(each, Found))
        known = {uuid_of(each) for each in found}
        ends = chain.from_iterable((each.source, each.target) for each in found if isinstance(each, Association))
        for ids in _some(end for end in ends if end not in known):
            whose = select(PATIENT.c.id).distinct().select_from(registry.owned()).where(OBJECT.c.entry_uuid.in_(ids))
            yield from self._connection.execute(whose).scalars()

    def _count(self, number: int) -> None:
        if self._is_whole:
            self._left -= number
            if self._left < 0:
                raise RegistryError(
                    "XDSTooManyResults",
                    f"the answer has more than {self._limit} objects: ask for ObjectRef, and then for some of them, or for less",
                )

    # --- the registry

    def _find(self, subject: Subject, by: Sequence[Criterion], rows: Sequence[int] | None = None) -> list[Found]:
        where = registry_queries.selecting(self._connection, subject, by, level=level(self.query), patients=rows)
        limit = self._left + 1 if self._is_whole else None
        found = registry_queries.find(self._connection, *where, self._seen(subject), whole=self._is_whole, limit=limit)
        self._count(len(found))
        return found

    def _patients(self) -> list[int] | None:
        """Rows of the patients whom the query names; None if it names nobody. Who was merged into another has none. Raises `MalformedQuery`."""
        ids, rows = patient_ids(self.query), []
        for cx in dict.fromkeys(ids):
            try:
                known = patients.find(self._connection, PatientIdentifier.from_cx(cx))
            except InvalidIdentifier as error:
                raise MalformedQuery(str(error)) from None
            if known is not None:
                self.named.append(known.id)
                rows += belonging.rows(self._connection, known.pk)
        return rows if ids else None

    def _seen(self, subject: Subject) -> ColumnElement[bool]:
        """The Decision over objects of a kind, as the resources that are their other rendering."""
        type_, search = _TYPES[subject], Interaction.SEARCH
        if self._decision.is_by_patient(type_, search):
            return self._decision.where(type_, search, PATIENT.c.id)
        row = RESOURCE.alias("registered")
        same = row.c.type == type_, row.c.id == func.substr(OBJECT.c.entry_uuid, len("urn:uuid:") + 1)
        return select(row.c.pk).where(*same, self._decision.rows(type_, search, row)).correlate_except(row).exists()

    def _told(self, found: Sequence[Association]) -> list[Association]:
        """Those of which the caller may find both ends; an end that is an Association, if both of its ends."""
        ends = self._seen_among(_ends(found))
        inner = [each for each in registry.associations(self._connection, _ends(found) - ends) if each.entry_uuid not in ends]
        inner_ends = self._seen_among(_ends(inner))
        ends |= {each.entry_uuid for each in inner if _ends([each]) <= inner_ends}
        return [each for each in found if _ends([each]) <= ends]

    def _seen_among(self, ids: Iterable[str]) -> set[str]:
        found: set[str] = set()
        seen = or_(*((OBJECT.c.kind == kind) & self._seen(kind) for kind in _KINDS))
        for some in _some(ids):
            mine = select(OBJECT.c.entry_uuid).select_from(registry.owned()).where(OBJECT.c.entry_uuid.in_(some), seen)
            found |= set(self._connection.execute(mine).scalars())
        return found


def _some(ids: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Each once, as many at a time as one statement takes."""
    wanted = tuple(dict.fromkeys(ids))
    return (wanted[start : start + _TOGETHER] for start in range(0, len(wanted), _TOGETHER))


def _ends(found: Iterable[Association]) -> set[str]:
    return {end for each in found for end in (each.source, each.target)}


def uuid_of(found: Found | Association) -> str:
    """The entryUUID of what was found."""
    return found.entry_uuid if isinstance(found, Association) else found.value.entry_uuid


def _uuids(found: Iterable[Found | Association]) -> list[str]:
    return [uuid_of(each) for each in found]


def _touching(asking: _Asking, ids: Sequence[str]) -> list[Association]:
    """Section 3.18.4.1.2.3.7.7: Associations that begin or end at one of these."""
    wanted = set(ids)
    return [each for each in asking.associations(ids) if each.source in wanted or each.target in wanted]


# --- the queries, in the order of ITI TF-2 section 3.18.4.1.2.3.7


def _find(subject: Subject) -> Callable[[_Asking], Results]:
    """Sections 3.18.4.1.2.3.7.1 to .3 and .14, 3.51.4.1.2.1."""
    return lambda asking: [*asking.of_patients(subject)]


def _get_all(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.4."""
    found = [each for kind in _KINDS for each in asking.of_patients(kind)]
    return [*found, *_touching(asking, _uuids(found))]


def _get(subject: Subject) -> Callable[[_Asking], Results]:
    """Sections 3.18.4.1.2.3.7.5 and .6."""

    def get(asking: _Asking) -> Results:
        found = asking.by_key(subject)
        asking.single_patient(found)
        return [*found]

    return get


def _get_associations(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.7."""
    return [*_touching(asking, asking.query.values("$uuid"))]


def _get_documents_and_associations(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.8."""
    found = asking.by_key("document")
    asking.single_patient(found)
    return [*found, *_touching(asking, _uuids(found))]


def _get_submission_sets(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.9."""
    wanted = set(asking.query.values("$uuid"))
    members = [each for each in asking.associations(wanted, ASSOCIATION.c.type == HAS_MEMBER) if each.target in wanted]
    found = asking.by_uuid("submission", (each.source for each in members))
    asking.single_patient(found)
    sets = set(_uuids(found))
    return [*found, *(each for each in members if each.source in sets)]


def _get_submission_set_and_contents(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.10."""
    sets = asking.by_key("submission")
    members = _members(asking, sets)
    targets = [each.target for each in members]
    found = [*sets, *asking.by_uuid("document", targets), *asking.by_uuid("folder", targets)]
    asking.single_patient(found)
    there, named = set(_uuids(found)), set(targets)
    inner = [each for each in asking.associations(targets) if each.entry_uuid in named and _ends([each]) <= there]
    there |= set(_uuids(inner))
    return [*found, *(each for each in members if each.target in there), *inner]


def _get_folder_and_contents(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.11."""
    folders = asking.by_key("folder")
    members = _members(asking, folders)
    found = [*folders, *asking.by_uuid("document", (each.target for each in members))]
    asking.single_patient(found)
    there = set(_uuids(found))
    return [*found, *(each for each in members if each.target in there)]


def _members(asking: _Asking, of: Sequence[Found]) -> list[Association]:
    holding = set(_uuids(of))
    return [each for each in asking.associations(holding, ASSOCIATION.c.type == HAS_MEMBER) if each.source in holding]


def _get_folders_for_document(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.12."""
    documents = set(_uuids(asking.by_key("document")))
    members = asking.associations(documents, ASSOCIATION.c.type == HAS_MEMBER)
    return [*asking.by_uuid("folder", (each.source for each in members if each.target in documents))]


def _get_related_documents(asking: _Asking) -> Results:
    """Section 3.18.4.1.2.3.7.13: nothing of a document without Associations of these types."""
    types = [each for each in asking.query.values("$AssociationTypes") if each != HAS_MEMBER]
    given = set(_uuids(asking.by_key("document")))
    related = [
        each for each in asking.associations(given, ASSOCIATION.c.type.in_(types)) if each.source in given or each.target in given
    ]
    found = asking.by_uuid("document", sorted(_ends(related)))
    there = set(_uuids(found))
    kept = [each for each in related if _ends([each]) <= there]
    ends = _ends(kept)
    return [*(each for each in found if uuid_of(each) in ends), *kept]


_ANSWERS: Final[dict[str, Callable[[_Asking], Results]]] = {
    queries.FIND_DOCUMENTS: _find("document"),
    queries.FIND_DOCUMENTS_BY_REFERENCE_ID: _find("document"),
    queries.FIND_DOCUMENTS_BY_TITLE: _find("document"),
    queries.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS: _find("document"),
    queries.FIND_SUBMISSION_SETS: _find("submission"),
    queries.FIND_FOLDERS: _find("folder"),
    queries.FIND_FOLDERS_FOR_MULTIPLE_PATIENTS: _find("folder"),
    queries.GET_ALL: _get_all,
    queries.GET_DOCUMENTS: _get("document"),
    queries.GET_FOLDERS: _get("folder"),
    queries.GET_ASSOCIATIONS: _get_associations,
    queries.GET_DOCUMENTS_AND_ASSOCIATIONS: _get_documents_and_associations,
    queries.GET_SUBMISSION_SETS: _get_submission_sets,
    queries.GET_SUBMISSION_SET_AND_CONTENTS: _get_submission_set_and_contents,
    queries.GET_FOLDER_AND_CONTENTS: _get_folder_and_contents,
    queries.GET_FOLDERS_FOR_DOCUMENT: _get_folders_for_document,
    queries.GET_RELATED_DOCUMENTS: _get_related_documents,
}
