"""Transaction: `POST [base]` with a Bundle of requests, all or nothing (FHIR R4 section 3.1.0.11).

A transaction is one transaction of the database: DELETE, POST, PUT and PATCH, then GET and HEAD, whatever their order in the Bundle
(3.1.0.11.2). What it will write is locked before, in one order for all, so that Bundles of the same content wait for each other and never in a
ring. References to entries, by fullUrl, become those of what the entries make (3.1.0.11.3); conditional references are looked up once everything
that has none is written, so that they may lead to what the transaction itself creates (3.1.0.11.4).
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from profiles.fhir import references
from profiles.fhir.issues import Issue, a
from profiles.fhir.json import serialize
from server.errors import Conflict, ImageShareError, Invalid, PreconditionFailed
from server.records import resources
from server.records.resources import create_all
from server.work.fhir import binary, conditional
from server.work.fhir.bundles import Entry, EntryFailed, Requests, Room, TooMuch
from server.work.fhir.caller import Caller, Outcome
from server.work.fhir.create import create, new_id, there
from server.work.fhir.entry_writes import lock, of_type, patch_of, require_write, single
from server.work.fhir.patch import patch, patched_id
from server.work.fhir.storing import created, require_targets
from server.work.fhir.update import update, updated_id
from server.work.fhir.writes import savepoint

Get = Callable[[Entry], Outcome]
"""Answers what writes nothing, within the transaction."""

Json = dict[str, Any]
_ALONE: Final = frozenset({"Binary", "Bundle", "SearchParameter"})
"""What has rules of its own, so that it is not written with others by one statement."""
_TOGETHER: Final = 500
MOST_READS: Final = 200
_READING_SECONDS: Final = 5.0
"""Of a transaction that writes: others wait for it."""
_VERSION: Final = "/_history/"


def transaction(connection: Connection, caller: Caller, requests: Requests, get: Get, room: Room) -> list[Outcome]:
    """FHIR R4 section 3.1.0.11.2: what came of each entry, in their order, as far as there is `room` for it.

    One that only reads takes a `connection` for reading. All or nothing: raises `EntryFailed`, or `TooMuch` where reads would hold up the writes of
    others, and the transaction is to be rolled back then.
    """
    return _Transaction(connection, caller, requests.entries, room).outcomes(get)


class _Links(Mapping[str, str]):
    """What references become. `open` are those that were looked up and may be an entry's, or a search, but are not known.

    Those to a version, whichever it is, become those to the version that its entry makes: `versions` by reference. `early` are those of which
    that is not known.
    """

    def __init__(self, known: Mapping[str, str], versions: Mapping[str, int]) -> None:
        self._known = known
        self._versions = versions
        self.open: set[str] = set()
        self.early: set[str] = set()

    def __contains__(self, text: object) -> bool:
        if not isinstance(text, str) or self._new(text):
            return isinstance(text, str)
        if text.startswith("urn:uuid:") or ("?" in text and references.is_conditional(text)):
            self.open.add(text)
        return False

    def __getitem__(self, text: str) -> str:
        if found := self._new(text):
            return found
        raise KeyError(text)

    def _new(self, text: str) -> str:
        if found := self._known.get(text):
            return found
        whole, mark, _ = text.partition(_VERSION)
        found = self._known.get(whole) if mark else None
        if not found:
            return ""
        if found not in self._versions:
            self.early.add(text)
            return text
        return f"{found}{_VERSION}{self._versions[found]}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Transaction:
    """One transaction, as it is carried out."""

    def __init__(self, connection: Connection, caller: Caller, entries: tuple[Entry, ...], room: Room) -> None:
        self._connection = connection
        self._room = room
        self._checks = caller.rules.references == "check"
        self._caller = replace(caller, rules=replace(caller.rules, references="allow"))
        self._entries = entries
        self._done: dict[int, Outcome] = {}
        self._ids: dict[int, str] = {}
        """Place of a POST, PUT or PATCH -> the id of what it is about."""
        self._new: set[int] = set()
        """Places of those for which the server named the id."""
        self._unmet: list[tuple[Entry, tuple[str, str]]] = []
        """Those whose condition nothing met, before anything was written."""
        self._links: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._has_urls = False
        """Whether an entry has a fullUrl that is no UUID, so that a relative reference may be to it."""

    def outcomes(self, get: Get) -> list[Outcome]:
        for entry in self._entries:
            if entry.is_write:
                with _at(entry):
                    require_write(self._caller, entry)
        writes, reads = self._of("POST", "PUT", "PATCH", "DELETE"), [entry for entry in self._entries if not entry.is_write]
        if writes and len(reads) > MOST_READS:
            raise TooMuch(f"a transaction that writes has at most {MOST_READS} reads here; send them in a Bundle of their own")
        lock(self._connection, writes)
        deleted = [each for entry in self._of("DELETE") for each in self._delete(entry)]
        for method in ("POST", "PUT", "PATCH"):
            for entry in self._of(method):
                with _at(entry):
                    self._name(entry)
        self._refuse_twice(deleted)
        self._write()
        self._require_apart()
        self._read(reads, get, is_waited_for=bool(writes))
        return [self._done[entry.place] for entry in self._entries]

    def _read(self, entries: list[Entry], get: Get, *, is_waited_for: bool) -> None:
        end = time.monotonic() + _READING_SECONDS
        for entry in entries:
            with _at(entry):
                if is_waited_for and time.monotonic() > end:
                    raise TooMuch(
                        "what this transaction reads takes too long while others wait to write; read it in a Bundle of its own"
                    )
                self._did(entry, get(entry))

    def _did(self, entry: Entry, made: Outcome) -> None:
        if entry.is_write and made.stored is not None:
            self._versions[f"{entry.type}/{made.stored.id}"] = made.stored.version
        self._done[entry.place] = self._room.taken(entry, made)

    def _of(self, *methods: str) -> list[Entry]:
        return [entry for entry in self._entries if entry.is_write and entry.method in methods]

    def _delete(self, entry: Entry) -> list[tuple[Entry, str]]:
        with _at(entry):
            made = single(self._connection, self._caller, entry, None)
            self._did(entry, made)
            ids = made.removed or (entry.id or (made.stored.id if made.stored is not None else ""),)
            return [(entry, each) for each in ids]

    def _name(self, entry: Entry) -> None:
        """Which resource an entry is about, before any is written: others refer to it."""
        place, type_ = entry.place, entry.type
        if entry.method == "POST":
            resource = of_type(entry)
            found = conditional.only(self._connection, self._caller, type_, entry.none_exist) if entry.none_exist else ""
            if found:
                self._did(entry, there(self._connection, self._caller, type_, found))
        elif entry.method == "PUT":
            resource = of_type(entry)
            found = updated_id(self._connection, self._caller, type_, entry.query, resource) if entry.query else entry.id
        else:
            found = patched_id(self._connection, self._caller, type_, entry.query) if entry.query else entry.id
        if entry.method != "PATCH" and entry.condition is not None and not (found and self._is_there(type_, found)):
            self._unmet.append((entry, entry.condition))
        if not found:
            found = new_id()
            self._new.add(place)
            self._versions[f"{type_}/{found}"] = 1
        self._ids[place] = found
        self._link(entry, f"{type_}/{found}")

    def _link(self, entry: Entry, reference: str) -> None:
        if entry.method != "PATCH" and entry.full_url:
            if self._links.get(entry.full_url, reference) != reference:
                raise entry.wrong(".fullUrl", "two entries have the same fullUrl (bdl-7)")
            self._links[entry.full_url] = reference
            self._has_urls |= not entry.full_url.startswith("urn:uuid:")
        if entry.condition is not None:
            searched = "?".join(entry.condition)
            if self._links.get(searched, reference) != reference:
                raise entry.wrong(
                    ".request", "two entries have the same condition, which none but they would meet; leave one of them out"
                )
            self._links[searched] = reference

    def _is_there(self, type_: str, id_: str) -> bool:
        found = resources.last(self._connection, type_, id_)
        return found is not None and not found.deleted

    def _require_apart(self) -> None:
        """Section 3.1.0.11.2: identities of entries don't overlap: what an entry's condition did not find, no other entry has made."""
        several = Counter(entry.type for entry in self._of("POST", "PUT", "PATCH"))
        for entry, condition in self._unmet:
            if several[entry.type] > 1:
                with _at(entry):
                    found = conditional.only(self._connection, self._caller, *condition)
                    if found and found != self._ids[entry.place]:
                        raise PreconditionFailed("the condition is met by what another entry of the transaction makes")

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
        """All that have no conditional reference first, and none to a version that is not known yet."""
        waiting: list[tuple[Entry, set[str]]] = []
        plain: list[tuple[Entry, Json]] = []
        ready: list[tuple[Entry, Json]] = []
        for entry in self._of("POST") + self._of("PUT") + self._of("PATCH"):
            if entry.place in self._done:
                continue
            with _at(entry):
                resource, unknown = self._linked(entry)
            if unknown:
                waiting.append((entry, unknown))
            elif entry.place in self._new and entry.type not in _ALONE and not entry.matches:
                plain.append((entry, {**resource, "id": self._ids[entry.place]}))
            else:
                ready.append((entry, resource))
        self._create_all(plain)
        for entry, resource in sorted(ready, key=lambda each: each[0].type == "Binary"):  # whose context is there by then
            self._put(entry, resource)
        for entry, unknown in waiting:
            with _at(entry):
                for text in unknown - self._links.keys():
                    if references.is_conditional(text):
                        self._links[text] = self._searched(entry, text)
        for entry, _ in waiting:
            with _at(entry):
                resource, unknown = self._linked(entry)
                if unknown:
                    why = "two entries refer to each other's versions, which none of them has yet; leave out the version of one"
                    raise entry.wrong(".resource", why, "not-supported")
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
                    self._did(entry, created(self._connection, self._caller, each))

    def _require_targets(self) -> None:
        """Where references have to lead to what is there: once everything is."""
        if self._checks:
            for entry in self._entries:
                if entry.place in self._ids and entry.method != "PATCH":
                    with _at(entry):
                        require_targets(self._connection, self._caller, self._linked(entry)[0])

    def _linked(self, entry: Entry) -> tuple[Json, set[str]]:
        """The resource with its references as they will be, and those of which that is not known: conditional ones, and to versions."""
        links = _Links(self._links, self._versions)
        given = entry.resource or {}
        if not self._may_refer(given):
            return given, set()
        made = references.rewritten(given, links, full_url=entry.full_url)
        if made is not given:
            _require_types(made)
        if not links.open:
            return made, links.early
        found = {each.text: each.path for each in references.found(made) if each.type == "Reference" and each.text in links.open}
        for text, path in found.items():
            if text.startswith("urn:uuid:"):
                below = path.partition(".")[2]
                raise entry.wrong(
                    f".resource.{below}",
                    "the reference leads to no entry of this transaction: none has that fullUrl",
                    "not-found",
                )
        return made, {*found, *links.early}

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
            raise entry.wrong(".resource", f"a conditional reference to {a(type_)} is met by no resource", "not-found")
        return f"{type_}/{found}"

    def _put(self, entry: Entry, resource: Json) -> None:
        connection, caller, id_ = self._connection, self._caller, self._ids[entry.place]
        with _at(entry):
            if entry.method == "PATCH":
                made = patch(connection, caller, entry.type, id_, patch_of(entry, resource), if_match=entry.matches)
            elif entry.type == "Binary":
                made = binary.write(connection, caller, entry.id, resource, if_match=entry.matches, named=id_)
            elif entry.place in self._new:
                if entry.matches:
                    raise entry.wrong(".request.ifMatch", "there is no resource yet whose version could match", "conflict", 412)
                made = create(connection, caller, resource, id_=id_, is_checked=True)
            else:
                resource = {**resource, "id": id_} if entry.query else resource
                made = update(
                    connection,
                    caller,
                    entry.type,
                    id_,
                    resource,
                    if_match=entry.matches,
                    if_none_match=entry.none_matches,
                    is_checked=True,
                )
            self._did(entry, made)


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
                        f"the reference leads to {a(target.type)}; it may lead to {', '.join(each.targets)}",
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
