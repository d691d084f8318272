"""JSON Patch (RFC 6902) with JSON Pointers (RFC 6901), for FHIR R4 section 3.1.0.6.

Our own, since the libraries quote values in their errors, know further operations, take 1 for true, and let `copy` double a document forty times over.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from profiles.fhir.json import DEEPEST
from profiles.fhir.patch_error import PatchError, inapplicable, malformed
from profiles.fhir.plain_json import copied, measured, same

Json = dict[str, Any]
Tokens = tuple[str, ...]
MOST_OPERATIONS: Final = 10_000
_MOST_COPIED: Final = 100_000
_MOST_WALKED: Final = 1_000_000
"""Values that all operations together look at, or shift in arrays, beside those that the patch itself brings."""
_SHIFTED: Final = 256
"""Elements of an array that are shifted in the time that it takes to look at one value."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_ESCAPE: Final = re.compile(r"~([01])|~")
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


def apply(resource: Any, operations: list[Any]) -> Any:
    """RFC 6902 section 5: `resource` after all operations, each on what the ones before made of it. `resource` itself is changed.

    Raises `PatchError`: 400 for what is no patch, 422 for a path that is not there, a test that fails, a result beyond any measure, and too much work.
    """
    if len(operations) > MOST_OPERATIONS:
        raise malformed(f"a patch has at most {MOST_OPERATIONS:,} operations")
    document = _Document(resource)
    for number, operation in enumerate(operations, 1):
        kind = operation.get("op") if isinstance(operation, dict) else None
        run = _OPERATIONS.get(kind) if isinstance(kind, str) else None
        if run is None:
            raise malformed(f"operation {number}: op is one of {', '.join(_OPERATIONS)} (RFC 6902 section 4)")
        try:
            run(document, operation)
        except _Malformed as problem:
            raise malformed(f"operation {number} ({kind}): {problem}") from None
        except _Impossible as problem:
            raise _told(document.root, number, str(kind), operation, problem) from None
    return document.root


class _Malformed(Exception):
    """The operation is none."""


class _Impossible(Exception):
    """The operation does not fit the document."""

    def __init__(self, why: str, code: str = "processing") -> None:
        super().__init__(why)
        self.code = code


def _told(root: Any, number: int, kind: str, operation: Json, problem: _Impossible) -> PatchError:
    name = str(root.get("resourceType", "")) if isinstance(root, dict) else ""
    return inapplicable(f"operation {number} ({kind}): {problem}", _expression(name, _tokens(operation, "path")), problem.code)


def _expression(name: str, tokens: Tokens) -> str:
    """A pointer as FHIRPath: `/name/0/family` is `Patient.name[0].family`. Empty where it is none."""
    path = name if _NAME.fullmatch(name) else ""
    for token in tokens:
        if _INDEX.fullmatch(token):
            path += f"[{token}]"
        elif _NAME.fullmatch(token):
            path += f".{token.removeprefix('_')}"
        elif token != "-":
            return ""
    return path


def _tokens(operation: Json, member: str) -> Tokens:
    """RFC 6901 section 3: the reference tokens of a pointer, unescaped."""
    pointer = operation.get(member)
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise _Malformed(f"{member} is a JSON Pointer: empty, or beginning with / (RFC 6901 section 3)")
    if any(match[1] is None for match in _ESCAPE.finditer(pointer)):
        raise _Malformed(f"in {member}, ~ is followed by 0 or 1 (RFC 6901 section 3)")
    if pointer.count("/") > DEEPEST:
        raise _Malformed(f"{member} has more than {DEEPEST} steps")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def _value(operation: Json) -> Any:
    if "value" not in operation:
        raise _Malformed("value is missing")
    return operation["value"]


def _new(operation: Json, tokens: Tokens) -> Any:
    """A copy of the value, for that place. The patch stays as it is, so that a transaction may be tried again."""
    value = _value(operation)
    _check_depth(tokens, measured(value)[1])
    return copied(value)


class _Document:
    """What the operations work on, and how much more they may. Values of the patch are walked once, as when they were read: they cost nothing."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._copied = 0
        self._left = _MOST_WALKED

    def find(self, tokens: Tokens) -> Any:
        found = self.root
        for token in tokens:
            found = found[_place(found, token)]
        return found

    def add(self, tokens: Tokens, value: Any) -> None:
        """RFC 6902 section 4.1: into an array before that index, or as a member, new or not."""
        if not tokens:
            self.replace(tokens, value)
            return
        container, token = self.find(tokens[:-1]), tokens[-1]
        if isinstance(container, list) and (token == "-" or (_INDEX.fullmatch(token) and int(token) == len(container))):
            container.append(value)
        elif isinstance(container, list):
            place = int(_place(container, token))
            self._spend((len(container) - place) // _SHIFTED)
            container.insert(place, value)
        elif isinstance(container, dict):
            container[token] = value
        else:
            raise _Impossible("path leads into a value that is neither object nor array")

    def replace(self, tokens: Tokens, value: Any) -> None:
        """RFC 6902 section 4.3: what is there already."""
        if not tokens:
            self.root = value
        else:
            container = self.find(tokens[:-1])
            container[_place(container, tokens[-1])] = value

    def remove(self, tokens: Tokens) -> Any:
        if not tokens:
            raise _Impossible("the whole resource can't be removed by a patch")
        container = self.find(tokens[:-1])
        place = _place(container, tokens[-1])
        if isinstance(container, list):
            self._spend((len(container) - place) // _SHIFTED)
        return container.pop(place)

    def copied(self, source: Tokens, target: Tokens) -> Any:
        """RFC 6902 section 4.5. Copies of copies are kept within bounds."""
        value = self.find(source)
        count, depth = measured(value)
        self._copied += count
        if self._copied > _MOST_COPIED:
            raise _Impossible(f"a patch copies at most {_MOST_COPIED:,} values", "too-costly")
        self._spend(count)
        _check_depth(target, depth)
        return copied(value)

    def moved(self, source: Tokens, target: Tokens) -> Any:
        """RFC 6902 section 4.4: what is taken out. Only where it goes deeper it has to be measured."""
        value = self.remove(source)
        if len(target) > len(source):
            count, depth = measured(value)
            self._spend(count)
            _check_depth(target, depth)
        return value

    def _spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise _Impossible("the patch takes too much work on this resource: make several of it", "too-costly")


def _place(container: Any, token: str) -> Any:
    """Index or name of what is there."""
    if isinstance(container, list) and _INDEX.fullmatch(token) and int(token) < len(container):
        return int(token)
    if isinstance(container, dict) and token in container:
        return token
    raise _Impossible("a path leads to nothing in the resource")


def _check_depth(tokens: Tokens, depth: int) -> None:
    if len(tokens) + depth > DEEPEST:
        raise _Impossible(f"the result would be nested more than {DEEPEST} deep")


def _add(document: _Document, operation: Json) -> None:
    tokens = _tokens(operation, "path")
    document.add(tokens, _new(operation, tokens))


def _remove(document: _Document, operation: Json) -> None:
    document.remove(_tokens(operation, "path"))


def _replace(document: _Document, operation: Json) -> None:
    tokens = _tokens(operation, "path")
    document.replace(tokens, _new(operation, tokens))


def _move(document: _Document, operation: Json) -> None:
    source, target = _tokens(operation, "from"), _tokens(operation, "path")
    if source != target and target[: len(source)] == source:
        raise _Impossible("a value can't be moved into itself (RFC 6902 section 4.4)")
    if source:
        document.add(target, document.moved(source, target))


def _copy(document: _Document, operation: Json) -> None:
    source, target = _tokens(operation, "from"), _tokens(operation, "path")
    document.add(target, document.copied(source, target))


def _test(document: _Document, operation: Json) -> None:
    tokens, value = _tokens(operation, "path"), _value(operation)
    if not same(document.find(tokens), value):
        raise _Impossible("the test fails: the resource has another value there")


_OPERATIONS: Final[dict[str, Callable[[_Document, Json], None]]] = {
    "add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test,
}  # fmt: skip
