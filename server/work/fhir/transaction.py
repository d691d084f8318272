"""Batch and transaction: `POST [base]` with a Bundle of requests (FHIR R4 section 3.1.0.11).

A transaction is one transaction of the database: DELETE, POST, PUT and PATCH, then GET and HEAD, whatever their order in the Bundle
(3.1.0.11.2). References to entries, by fullUrl, become those of what the entries make (3.1.0.11.3); conditional references are looked up
once everything that has none is written, so that they may lead to what the transaction itself creates (3.1.0.11.4). In a batch each
request stands alone.
"""

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir import references
from profiles.fhir.issues import Issue
from profiles.fhir.json import serialize
from server.access.decisions import Interaction
from server.errors import Conflict, ImageShareError, Invalid, NotSupported
from server.records.resources import create_all
from server.work.fhir import binary, conditional, offered
from server.work.fhir.bundles import Entry, EntryFailed, Requests
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create, new_id, there
from server.work.fhir.delete import conditional_delete, delete
from server.work.fhir.patch import Patch, conditional_patch, patch, patched_id
from server.work.fhir.storing import created, require_targets
from server.work.fhir.update import conditional_update, update, updated_id
from server.work.fhir.writes import savepoint

Get = Callable[[Entry], Outcome]
"""Answers what writes nothing, within the transaction."""

Json = dict[str, Any]
_ALONE: Final = frozenset({"Binary", "Bundle", "SearchParameter"})
"""What has rules of its own, so that it is not written with others by one statement."""
_TOGETHER: Final = 500
_INTERACTION: Final = {
    "POST": ("create", Interaction.CREATE),
    "PUT": ("update", Interaction.UPDATE),
    "PATCH": ("patch", Interaction.UPDATE),
    "DELETE": ("delete", Interaction.DELETE),
}


def transaction(connection: Connection, caller: Caller, requests: Requests, get: Get) -> list[Outcome]:
    """FHIR R4 section 3.1.0.11.2: what came of each entry, in their order. All or nothing: raises `EntryFailed`, and the transaction is to be
    rolled back then.
    """
    return _Transaction(connection, caller, requests.entries).outcomes(get)


def single(connection: Connection, caller: Caller, entry: Entry) -> Outcome:
    """FHIR R4 section 3.1.0.11.1, batch: the write of one entry, as if it had come alone. Raises what the interaction raises."""
    _require_write(caller, entry)
    type_, id_, query = entry.type, entry.id, entry.query
    if entry.method == "DELETE":
        if entry.type == "Binary":
            return binary.delete(connection, caller, id_, if_match=entry.matches)
        if query:
            return conditional_delete(connection, caller, type_, query, if_match=entry.matches)
        return delete(connection, caller, type_, id_, if_match=entry.matches)
    if entry.method == "PATCH":
        given = _patch(entry, entry.resource or {})
        if query:
            return conditional_patch(connection, caller, type_, query, given, if_match=entry.matches)
        return patch(connection, caller, type_, id_, given, if_match=entry.matches)
    resource = _of_type(entry)
    _require_context(connection, caller, resource, id_)
    if entry.method == "POST":
        return create(connection, caller, resource, if_none_exist=entry.none_exist)
    if query:
        return conditional_update(connection, caller, type_, query, resource, if_match=entry.matches)
    return update(connection, caller, type_, id_, resource, if_match=entry.matches)


class _Links(Mapping[str, str]):
    """What references become. `open` are those that were looked up and may be an entry's, or a search, but are not known."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self.open: set[str] = set()

    def __contains__(self, text: object) -> bool:
        if text in self._known:
            return True
        if isinstance(text, str) and (text.startswith("urn:uuid:") or ("?" in text and references.is_conditional(text))):
            self.open.add(text)
        return False

    def __getitem__(self, text: str) -> str:
        return self._known[text]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Transaction:
    """One transaction, as it is carried out."""

    def __init__(self, connection: Connection, caller: Caller, entries: tuple[Entry, ...]) -> None:
        self._connection = connection
        self._checks = caller.rules.references == "check"
        self._caller = replace(caller, rules=replace(caller.rules, references="allow"))
        self._entries = entries
        self._done: dict[int, Outcome] = {}
        self._ids: dict[int, str] = {}
        """Place of a POST, PUT or PATCH -> the id of what it is about."""
        self._new: set[int] = set()
        """Places of those for which the server named the id."""
        self._links: dict[str, str] = {}
        self._has_urls = False
        """Whether an entry has a fullUrl that is no UUID, so that a relative reference may be to it."""

    def outcomes(self, get: Get) -> list[Outcome]:
        for entry in self._entries:
            if entry.is_write:
                with _at(entry):
                    _require_write(self._caller, entry)
        conditional.lock(self._connection, self._conditions())
        deleted = [self._delete(entry) for entry in self._of("DELETE")]
        for method in ("POST", "PUT", "PATCH"):
            for entry in self._of(method):
                with _at(entry):
                    self._name(entry)
        self._refuse_twice(deleted)
        self._write()
        for entry in self._entries:
            if entry.is_write:
                continue
            with _at(entry):
                self._done[entry.place] = get(entry)
        return [self._done[entry.place] for entry in self._entries]

    def _of(self, *methods: str) -> list[Entry]:
        return [entry for entry in self._entries if entry.is_write and entry.method in methods]

    def _conditions(self) -> Iterator[tuple[str, str]]:
        for entry in self._entries:
            if entry.is_write and entry.is_conditional:
                yield entry.type, entry.none_exist or entry.query

    def _delete(self, entry: Entry) -> tuple[Entry, str]:
        with _at(entry):
            made = self._done[entry.place] = single(self._connection, self._caller, entry)
            return entry, entry.id or (made.stored.id if made.stored is not None else "")

    def _name(self, entry: Entry) -> None:
        """Which resource an entry is about, before any is written: others refer to it."""
        place, type_ = entry.place, entry.type
        if entry.method == "POST":
            resource = _of_type(entry)
            found = conditional.only(self._connection, self._caller, type_, entry.none_exist) if entry.none_exist else ""
            if found:
                self._done[place] = there(self._connection, self._caller, type_, found)
        elif entry.method == "PUT":
            resource = _of_type(entry)
            found = updated_id(self._connection, self._caller, type_, entry.query, resource) if entry.query else entry.id
        else:
            found = patched_id(self._connection, self._caller, type_, entry.query) if entry.query else entry.id
        if not found:
            found = new_id()
            self._new.add(place)
        self._ids[place] = found
        self._link(entry, f"{type_}/{found}")

    def _link(self, entry: Entry, reference: str) -> None:
        if entry.method != "PATCH" and entry.full_url:
            if self._links.get(entry.full_url, reference) != reference:
                raise entry.wrong(".fullUrl", "two entries have the same fullUrl (bdl-7)")
            self._links[entry.full_url] = reference
            self._has_urls |= not entry.full_url.startswith("urn:uuid:")
        if entry.is_conditional:
            searched = f"{entry.type}?{entry.none_exist or entry.query}"
            if self._links.get(searched, reference) != reference:
                raise entry.wrong(
                    ".request", "two entries have the same condition, which none but they would meet; leave one of them out"
                )
            self._links[searched] = reference

    def _refuse_twice(self, deleted: list[tuple[Entry, str]]) -> None:
        """Section 3.1.0.11.2: a resource is written by one entry only."""
        seen: set[tuple[str, str]] = set()
        written = [
            (entry, self._ids[entry.place])
            for entry in self._entries
            if entry.place in self._ids and entry.place not in self._done
        ]
        for entry, id_ in (*deleted, *written):
            if id_ and (entry.type, id_) in seen:
                raise entry.wrong(".request", "another entry of the transaction writes the same resource")
            seen.add((entry.type, id_))

    def _write(self) -> None:
        """All that have no conditional reference first."""
        waiting: list[tuple[Entry, set[str]]] = []
        plain: list[tuple[Entry, Json]] = []
        ready: list[tuple[Entry, Json]] = []
        for entry in self._of("POST") + self._of("PUT") + self._of("PATCH"):
            if entry.place in self._done:
                continue
            with _at(entry):
                resource, searches = self._linked(entry)
            if searches:
                waiting.append((entry, searches))
            elif entry.place in self._new and entry.type not in _ALONE and not entry.matches:
                plain.append((entry, {**resource, "id": self._ids[entry.place]}))
            else:
                ready.append((entry, resource))
        self._create_all(plain)
        for entry, resource in sorted(ready, key=lambda each: each[0].type == "Binary"):  # whose context is there by then
            self._put(entry, resource)
        for entry, searches in waiting:
            with _at(entry):
                for text in searches - self._links.keys():
                    self._links[text] = self._searched(entry, text)
        for entry, _ in waiting:
            with _at(entry):
                resource, _ = self._linked(entry)
            self._put(entry, resource)
        self._require_targets()

    def _create_all(self, plain: list[tuple[Entry, Json]]) -> None:
        """Those that the server names, a few statements for many."""
        for first in range(0, len(plain), _TOGETHER):
            part = plain[first : first + _TOGETHER]
            try:
                with savepoint(self._connection):
                    stored = create_all(self._connection, [resource for _, resource in part], base=self._caller.base)
            except Conflict:  # of which of them?
                for entry, resource in part:
                    self._put(entry, resource)
                continue
            for (entry, _), each in zip(part, stored, strict=True):
                with _at(entry):
                    self._done[entry.place] = created(self._caller, each)

    def _require_targets(self) -> None:
        """Where references have to lead to what is there: once everything is."""
        if self._checks:
            for entry in self._entries:
                if entry.place in self._ids and entry.method != "PATCH":
                    with _at(entry):
                        require_targets(self._connection, self._caller, self._linked(entry)[0])

    def _linked(self, entry: Entry) -> tuple[Json, set[str]]:
        """The resource with its references as they will be, and the conditional references that are not looked up yet."""
        links = _Links(self._links)
        given = entry.resource or {}
        if not self._may_refer(given):
            return given, set()
        made = references.rewritten(given, links, full_url=entry.full_url)
        if made is not given:
            _require_types(made)
        if not links.open:
            return made, set()
        found = {each.text: each.path for each in references.found(made) if each.type == "Reference" and each.text in links.open}
        for text, path in found.items():
            if text.startswith("urn:uuid:"):
                below = path.partition(".")[2]
                raise entry.wrong(
                    f".resource.{below}",
                    "the reference leads to no entry of this transaction: none has that fullUrl",
                    "not-found",
                )
        return made, set(found)

    def _may_refer(self, resource: Json) -> bool:
        """Whether a reference may be to an entry or by condition. To look for its marks in the text takes a tenth of a walk."""
        if self._has_urls:
            return True
        text = serialize(resource)
        return b"urn:uuid:" in text or b"?" in text

    def _searched(self, entry: Entry, text: str) -> str:
        """Section 3.1.0.11.4: the one resource that a conditional reference leads to."""
        type_, _, query = text.partition("?")
        found = conditional.only(self._connection, self._caller, type_, query)
        if not found:
            raise entry.wrong(".resource", f"a conditional reference to a {type_} is met by no resource", "not-found")
        return f"{type_}/{found}"

    def _put(self, entry: Entry, resource: Json) -> None:
        connection, caller, id_ = self._connection, self._caller, self._ids[entry.place]
        with _at(entry):
            if entry.method == "PATCH":
                made = patch(connection, caller, entry.type, id_, _patch(entry, resource), if_match=entry.matches)
            elif entry.place in self._new:
                if entry.matches:
                    raise entry.wrong(".request.ifMatch", "there is no resource yet whose version could match", "conflict", 412)
                _require_context(connection, caller, resource, "")
                made = create(connection, caller, resource, id_=id_, is_checked=True)
            else:
                resource = {**resource, "id": id_} if entry.query else resource
                _require_context(connection, caller, resource, id_)
                made = update(connection, caller, entry.type, id_, resource, if_match=entry.matches, is_checked=True)
        self._done[entry.place] = made


def _require_types(resource: Json) -> None:
    """That references which were written anew lead to types that they may lead to: all else was checked before."""
    wrong = []
    for each in references.found(resource):
        if each.type == "Reference" and each.targets and "Resource" not in each.targets:
            target = references.parse_reference(each.text)
            if target.form == "relative" and target.type not in each.targets:
                wrong.append(
                    Issue(
                        "error",
                        "value",
                        each.path,
                        f"the reference leads to a {target.type}; it may lead to {', '.join(each.targets)}",
                    )
                )
    if wrong:
        raise Invalid(wrong)


@contextlib.contextmanager
def _at(entry: Entry) -> Iterator[None]:
    """Says of what goes wrong at which entry it did."""
    try:
        yield
    except EntryFailed:
        raise
    except ImageShareError as error:
        raise EntryFailed(entry, error) from error


def _require_write(caller: Caller, entry: Entry) -> None:
    """That this is a write which there is, and that the caller has a scope for it: before anything is searched for."""
    name, interaction = _INTERACTION[entry.method]
    if any(each.startswith(("$", "_")) for each in entry.segments):
        raise NotSupported("searches by POST are not offered within a Bundle: GET does the same")
    if entry.type == "Binary" and entry.is_conditional:
        raise NotSupported("a Binary is not searched for, so it has no conditional interactions")
    wanted = 1 if entry.method == "POST" or entry.query else 2
    if len(entry.segments) != wanted or (entry.method == "POST" and entry.query):
        raise entry.wrong(".request.url", f"the URL of a {entry.method} is {_FORMS[entry.method]}")
    offered.require(entry.type, name)
    caller.require(entry.type, interaction)


_FORMS: Final = {
    "POST": "a resource type",
    "PUT": "a type and an id, such as Patient/7, or a type and a condition, such as Patient?identifier=...",
    "PATCH": "a type and an id, such as Patient/7, or a type and a condition, such as Patient?identifier=...",
    "DELETE": "a type and an id, such as Patient/7, or a type and a condition, such as Patient?identifier=...",
}


def _require_context(connection: Connection, caller: Caller, resource: Json, id_: str) -> None:
    """FHIR R4 section 2.44.2: a Binary, whose content is in it here, is judged by its security context."""
    if resource.get("resourceType") == "Binary":
        context = resource.get("securityContext")
        binary.require_write(connection, caller, id_, str(context.get("reference", "")) if isinstance(context, dict) else "")


def _of_type(entry: Entry) -> Json:
    resource = entry.resource or {}
    if entry.resource is None:
        raise entry.wrong("", f"a {entry.method} has a resource", "required")
    if resource.get("resourceType") != entry.type:
        raise entry.wrong(".resource", "the resource has to be of the type that is in the URL")
    return resource


def _patch(entry: Entry, resource: Json) -> Patch:
    """Section 3.1.0.11.1: Parameters for a FHIRPath Patch, and a Binary with any other."""
    if resource.get("resourceType") != "Binary":
        return resource
    try:
        return base64.b64decode(str(resource.get("data", "")), validate=True), str(resource.get("contentType", ""))
    except (binascii.Error, ValueError):
        raise entry.wrong(".resource.data", "the data of a Binary are base64", "value") from None
