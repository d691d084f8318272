"""SMART App Launch 2.2, "Scopes for requesting FHIR Resources": the words of a scope, v1 and v2, with constraints by a query.

`patient/ImagingStudy.rs`, `user/*.read`, `patient/Observation.rs?category=laboratory`. What is not well formed is no scope: it opens
nothing, and nothing is guessed of it. So is a constraint that a search would ignore, for it would open more than it says.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, quote

from profiles.vocabulary import DICOM_UID_SYSTEM


class Interaction(StrEnum):
    """The letters of a v2 scope: `r` covers read, vread and instance history, `s` type search and the histories of type and system."""

    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"
    SEARCH = "s"


Query = tuple[tuple[str, str], ...]

OTHER_WORDS: Final = frozenset(
    [
        "openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "launch/imagingstudy",
        "offline_access", "online_access",
    ]
)  # fmt: skip
"""The words of a scope string that are known here and open no resources themselves."""

_WORD: Final = re.compile(
    r"(?P<context>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]+)\.(?:(?P<v1>\*|read|write)|(?P<v2>c?r?u?d?s?)(?P<query>\?[!#-\[\]-~]*)?)"
)
_CONTEXTS: Final = ("patient/", "user/", "system/")
_V1: Final = {"read": "rs", "write": "cud", "*": "cruds"}
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MOST_CONSTRAINTS: Final = 20
_NO_CONSTRAINTS: Final = frozenset(
    [
        "_count", "_sort", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType", "_format",
        "_pretty", "_maxresults", "_score", "_query", "_graph",
    ]
)  # fmt: skip
"""Parameters that say how a search answers, not what it finds (FHIR R4 section 3.1.1.5)."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope for resources. `type` is a FHIR type or `*`; `query` are names and values that a resource has to meet, all of them."""

    context: str
    type: str
    interactions: frozenset[Interaction]
    query: Query = ()

    def covers(self, type_: str, interaction: Interaction) -> bool:
        """Whether it is for resources of this type and this interaction; `query` is not looked at."""
        return self.type in ("*", type_) and interaction in self.interactions


def parse_scope(word: str) -> Scope | None:
    """The scope that a single word is; None for another word (`openid`, `launch` ...) and for one with a slip in it, such as `.sr`."""
    found = _WORD.fullmatch(word)
    letters = found and (_V1.get(found["v1"]) if found["v1"] else found["v2"])
    if not found or not letters:
        return None
    query = _constraints(found["query"]) if found["query"] else ()
    if query is None:
        return None
    return Scope(found["context"], found["type"], frozenset(map(Interaction, letters)), query)


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """The scopes for resources in a space-separated scope string; other words and malformed ones open nothing."""
    return tuple(scope for word in words_of(text) if (scope := parse_scope(word)) is not None)


def words_of(text: str) -> tuple[str, ...]:
    """RFC 6749 section 3.3: the words of a scope string in their order, each once."""
    return tuple(dict.fromkeys(word for word in text.split(" ") if word))


def is_resource_scope(word: str) -> bool:
    """Whether it begins as a scope for resources does, well formed or not."""
    return word.startswith(_CONTEXTS)


def narrowed(asked: str, allowed: str) -> str:
    """Of the words in `asked` what `allowed` covers: a client's registration, a person's choice, or an earlier grant.

    A word that is covered stays as it was asked, v1 too; one that is covered in part becomes what that part is, which may be several words.
    A constraint of either holds. Other words, such as `openid`, have to be the same in both.
    """
    permitted = words_of(allowed)
    scopes = parse_scopes(allowed)
    kept: list[str] = []
    for word in words_of(asked):
        scope = parse_scope(word)
        if scope is not None:
            kept.extend(
                word if part == scope else _written(part, v1=word.partition(".")[2] in _V1) for part in _parts(scope, scopes)
            )
        elif not is_resource_scope(word) and word in permitted:
            kept.append(word)
    return " ".join(dict.fromkeys(kept))


def of_studies(words: Iterable[str], uids: Iterable[str], patient: str | None) -> tuple[str, ...]:
    """The same words where a person shows these studies (UIDs) alone, so that every server which is told of them opens no more.

    Scopes for ImagingStudy get a constraint, those for Patient stay, of `user/` for this patient id alone. Of other types no search parameter
    of R4 says which study they are about: they are left out. Words that open no resources stay.
    """
    named = ",".join(f"{DICOM_UID_SYSTEM}|urn:oid:{uid}" for uid in sorted(uids))
    opened = [Scope("", "ImagingStudy", frozenset(Interaction), (("identifier", named),))] if named else []
    kept: list[str] = []
    for word in words:
        scope = parse_scope(word)
        if scope is None:
            kept.append(word)
            continue
        whose = (("_id", patient),) if scope.context == "user" and patient else ()
        within = [*opened, Scope("", "Patient", frozenset(Interaction), whose)] if opened else []
        parts = _parts(scope, (replace(each, context=scope.context) for each in within))
        kept.extend(_written(part, v1=word.partition(".")[2] in _V1) for part in parts)
    return tuple(dict.fromkeys(kept))


def _constraints(text: str) -> Query | None:
    """The names and values after the `?`, percent-decoded; None where one is broken, empty, or nothing that a resource can meet."""
    if _BROKEN_ESCAPE.search(text):
        return None
    try:
        found = parse_qsl(
            text[1:], keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_CONSTRAINTS
        )
    except ValueError:
        return None
    for name, value in found:
        if not name or not value.strip(" ,") or name.partition(":")[0] in _NO_CONSTRAINTS or "\0" in name + value:
            return None
    return tuple(dict.fromkeys(found)) or None


def _parts(asked: Scope, allowed: Iterable[Scope]) -> tuple[Scope, ...]:
    """What `asked` has in common with each of `allowed`, without what is within another part."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], Scope] = {}
    for each in allowed:
        shared = _shared(asked, each)
        if shared is not None:
            key = shared.type, frozenset(shared.query)
            before = found.setdefault(key, shared)
            found[key] = replace(before, interactions=before.interactions | shared.interactions)
    parts = tuple(found.values())
    return tuple(part for part in parts if not any(_within(part, other) for other in parts if other is not part))


def _shared(one: Scope, other: Scope) -> Scope | None:
    """What both open: the constraints of both hold. None where that is nothing."""
    letters = one.interactions & other.interactions
    if one.context != other.context or not letters or (one.type != other.type and "*" not in (one.type, other.type)):
        return None
    type_ = other.type if one.type == "*" else one.type
    return Scope(one.context, type_, letters, tuple(dict.fromkeys(one.query + other.query)))


def _within(part: Scope, whole: Scope) -> bool:
    return whole.type in ("*", part.type) and part.interactions <= whole.interactions and set(whole.query) <= set(part.query)


def _v1_of(scope: Scope) -> str:
    """The v1 permission that is the same as these letters, if there is one."""
    return next((name for name, letters in _V1.items() if set(letters) == scope.interactions), "")


def _written(scope: Scope, *, v1: bool) -> str:
    """The scope as a word, in the form of v1 if it is wished and there is one."""
    permission = _v1_of(scope) if v1 and not scope.query else ""
    if not permission:
        permission = "".join(letter for letter in Interaction if letter in scope.interactions)
    query = "&".join(f"{quote(name, safe=':')}={quote(value, safe=':/|,$')}" for name, value in scope.query)
    return f"{scope.context}/{scope.type}.{permission}{'?' + query if query else ''}"
