"""Which registry objects a stored query means, told one by one in Python: slow, and simple enough to be believed."""

import re
from collections.abc import Iterable, Sequence

from ihe.criteria import Coded, Criterion, During, Like, OneOf, TimeRange, seconds
from profiles.document import APPROVED, OFFLINE, ON_DEMAND, Code, DocumentEntry, Folder, SubmissionSet

Registered = DocumentEntry | SubmissionSet | Folder


def matches(criterion: Criterion, value: Registered) -> bool:
    """Whether the object meets the criterion."""
    match criterion:
        case OneOf():
            return getattr(value, criterion.attribute) in criterion.values
        case Coded():
            wanted = {(code.code, code.scheme) for code in criterion.codes}
            return any((code.code, code.scheme) in wanted for code in _codes(getattr(value, criterion.attribute)))
        case Like():
            return any_matches_like(criterion.patterns, _texts(value, criterion.attribute))
        case During():
            time = getattr(value, criterion.attribute)
            if not time and criterion.attribute in ("service_start", "service_stop"):
                return True  # ITI TF-2 section 3.18.4.1.2.3.3.1
            if criterion.attribute == "creation_time" and getattr(value, "object_type", "") == ON_DEMAND:
                return True  # section 3.18.4.1.2.3.7.1, note 6
            return contains(criterion.range, time)


def is_current(value: Registered, among: Sequence[Registered]) -> bool:
    """$MetadataLevel 1: it is the latest version, not offline, no deprecated Folder."""
    if isinstance(value, SubmissionSet):
        return True
    newer = (each for each in among if isinstance(each, type(value)) and each.logical_id and each.logical_id == value.logical_id)
    if any(each.version > value.version for each in newer):
        return False
    return value.availability != OFFLINE if isinstance(value, DocumentEntry) else value.status == APPROVED


def contains(range_: TimeRange, time: str) -> bool:
    """Whether `time` lies in the range."""
    moment = seconds(time)
    return bool(time) and seconds(range_.start) <= moment and (not range_.stop or moment < seconds(range_.stop))


def _codes(given: Code | tuple[Code, ...] | None) -> Iterable[Code]:
    if given is None:
        return ()
    return given if isinstance(given, tuple) else (given,)


def _texts(value: Registered, attribute: str) -> Iterable[str]:
    given = getattr(value, attribute)
    if attribute == "authors":
        return [author.person for author in given]
    return given if isinstance(given, tuple) else [given]


def matches_like(pattern: str, text: str) -> bool:
    """SQL LIKE over the whole of `text`: `%` is any characters, `_` is one. Case counts."""
    expression = "".join({"%": ".*", "_": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def any_matches_like(patterns: Iterable[str], texts: Iterable[str]) -> bool:
    """Whether any of `texts` matches any of `patterns`."""
    candidates = tuple(texts)
    return any(matches_like(pattern, text) for pattern in patterns for text in candidates)
