"""Expressions of search parameters, compiled (FHIR R4 section 3.1.1.1): the part of FHIRPath that they are written in, over plain JSON objects.

An expression becomes paths whose types are known from the definitions: `Observation.value as Quantity` is the one path `valueQuantity`. Paths,
`|`, `as`, `as()`, `ofType()`, `[0]`, `where()`, `exists()`, `empty()`, `not()`, `extension()`, `hasExtension()`, `=`, `!=`, `and`, `or` and
`resolve() is Type` are understood; all that R4's own parameters use is among them. `profiles.fhir.fhirpath` is for everything else.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from profiles.fhir.element_paths import (
    MOST_PATHS,
    RESOLVED,
    Computed,
    Guard,
    Key,
    Path,
    Unsupported,
    indexed,
    is_a,
    leads_to,
    member,
    narrowed,
    text_of,
)
from profiles.r4.definitions import is_type, resource_types
from profiles.r4.search import Parameter

_MOST_CHARACTERS: Final = 20_000
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Expression:
    """What `compiled` makes: calling it gives (value, FHIR type) pairs."""

    text: str
    paths: tuple[Path, ...]

    def __call__(self, context: Mapping[str, Any], resource: Mapping[str, Any] | None = None) -> Iterator[tuple[Any, str]]:
        """What the expression yields of an object of its context's type. `resource` is `%resource`, the context itself if left out."""
        for path in self.paths:
            for value in path.select((resource or context) if path.of_resource else context):
                yield value, path.type


@lru_cache(maxsize=8192)
def compiled(text: str, context: str, resource: str = "") -> Expression:
    """The expression for objects of the type `context`: a resource type, a data type or a backbone's path. Raises `Unsupported`.

    Parts that begin with another resource type are left out. `resource` is the type of `%resource`.
    """
    if len(text) > _MOST_CHARACTERS:
        raise Unsupported(f"the expression has more than {_MOST_CHARACTERS} characters")
    reader = _Reader(_tokens(text), resource or context)
    found = reader.logic(context)
    if reader.token:
        raise Unsupported(f"'{reader.token}' is not expected there")
    paths = found.paths() if isinstance(found, _Test) else found
    whole = [inner for path in paths for inner in (member([path], "value") if path.type == "Extension" else [path])]
    if any(path.type == RESOLVED for path in whole):
        raise Unsupported("resolve() is only understood as 'resolve() is Type'")
    return Expression(text, tuple(dict.fromkeys(whole)))


# --- reading


@dataclass(frozen=True, slots=True)
class _Test:
    """An expression that is true or false of the context."""

    text: str
    holds: Callable[[Any], bool]
    leads_to: str = ""

    def paths(self) -> "list[Path]":
        return [Path((Computed(self.text, self.holds),), "boolean")]


@dataclass(frozen=True, slots=True)
class _Literal:
    value: str | bool | int


_Read = list[Path] | _Test
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*|`[^`]+`)|(?P<string>'(?:\\.|[^'\\])*')|(?P<number>\d+)|(?P<symbol>%resource|\$this|!=|[|.()\[\]=]))", re.ASCII
)  # fmt: skip


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while place < len(text.rstrip()):
        token = _TOKEN.match(text, place)
        if not token:
            raise Unsupported(f"the character at {place + 1} is not of an expression that search parameters are compiled of")
        found.append(token.group().strip().strip("`"))
        place = token.end()
    return found


class _Reader:
    """Reads tokens into paths and tests, types at hand: one method for each level of precedence."""

    def __init__(self, tokens: list[str], resource: str) -> None:
        self._tokens = tokens
        self._resource = resource
        self._place = 0
        self._depth = 0

    @property
    def token(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self.token
        if not token or (expected and token != expected):
            raise Unsupported(f"'{expected or 'a name'}' is expected" + (f" before '{token}'" if token else " at the end"))
        self._place += 1
        return token

    def logic(self, context: str) -> _Read:
        """`and` and `or`; what R4's own expressions use of them has no need of their precedence, so that mixing asks for parentheses."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unsupported(f"nested deeper than {_DEEPEST}")
        left = self._equality(context)
        operator = self.token
        while self.token in ("and", "or"):
            if self._take() != operator:
                raise Unsupported("'and' and 'or' side by side need parentheses")
            left = _both(operator, _as_test(left), _as_test(self._equality(context)))
        self._depth -= 1
        return left

    def _equality(self, context: str) -> _Read:
        left = self._union(context)
        if self.token not in ("=", "!="):
            return left
        operator, literal = self._take(), self._literal()
        if isinstance(left, _Test):
            raise Unsupported("what is true or false is not compared")
        return _compared(left, operator, literal)

    def _union(self, context: str) -> _Read:
        left = self._typed(context)
        while self.token == "|":
            self._take()
            right = self._typed(context)
            if isinstance(left, _Test) or isinstance(right, _Test):
                raise Unsupported("'|' joins paths only")
            left = [*left, *right]
            if len(left) > MOST_PATHS:
                raise Unsupported(f"more than {MOST_PATHS} paths")
        return left

    def _typed(self, context: str) -> _Read:
        found = self._path(context)
        if self.token not in ("as", "is"):
            return found
        if isinstance(found, _Test):
            raise Unsupported("what is true or false has no type to ask for")
        operator, name = self._take(), self._type_name()
        return narrowed(found, name) if operator == "as" else _is(found, name)

    def _type_name(self) -> str:
        name = self._take()
        while self.token == ".":  # FHIR.Patient
            self._take()
            name = self._take()
        return name

    def _path(self, context: str) -> _Read:
        found = self._first(context)
        while self.token in (".", "["):
            if self._take() == "[":
                found = indexed(_as_paths(found), self._number())
                self._take("]")
                continue
            name = self._take()
            found = self._called(name, found) if self.token == "(" else member(_as_paths(found), name)
        return found

    def _first(self, context: str) -> _Read:
        token = self._take()
        itself = [Path((), context)]
        if token == "(":
            found = self.logic(context)
            self._take(")")
            return found
        if token == "$this":
            return itself
        if token == "%resource":
            return [Path((), self._resource, of_resource=True)]
        if self.token == "(":
            return self._called(token, itself)
        if token[0].isupper():
            if not is_type(token):
                raise Unsupported(f"there is no type {token}")
            return itself if is_a(context, token) else []
        return member(itself, token)

    def _called(self, name: str, found: _Read) -> _Read:
        """A function on what has been read so far."""
        self._take("(")
        result: _Read
        if name == "not":
            test = _as_test(found)
            result = _Test(f"{test.text}.not()", lambda value: not test.holds(value))
        else:
            result = self._function(name, _as_paths(found))
        self._take(")")
        return result

    def _function(self, name: str, found: list[Path]) -> _Read:
        if name in ("as", "ofType"):
            return narrowed(found, self._type_name())
        if name == "is":
            return _is(found, self._type_name())
        if name == "where":
            return self._where(found)
        if name in ("exists", "empty"):
            inner = self._where(found) if self.token != ")" else found
            text = f"{text_of(inner)}.{name}()"
            return _Test(text, _any(inner)) if name == "exists" else _Test(text, lambda value: not _any(inner)(value))
        if name == "resolve":
            return [replace(path, type=RESOLVED) for path in found if path.type in ("Reference", "canonical", "uri", "url")]
        if name in ("extension", "hasExtension"):
            url = self._literal().value
            inner = _guarded(member(found, "extension"), _Test(f"url = '{url}'", lambda value: bool(value.get("url") == url)))
            return inner if name == "extension" else _Test(f"{text_of(inner)}.exists()", _any(inner))
        raise Unsupported(f"the function {name}() is not among those that search parameters are compiled of")

    def _where(self, found: list[Path]) -> list[Path]:
        """Section 5.2.1 of FHIRPath: the criterion is read for each type that the paths so far have."""
        start, result = self._place, []
        for path in found or [Path((), "Element")]:
            self._place = start
            try:
                test = _as_test(self.logic(path.type))
            except Unsupported:
                if found:
                    raise
                self._skip()
                continue
            result += _guarded([path], test)
        return result if found else []

    def _skip(self) -> None:
        """To the end of a criterion that nothing is held against."""
        depth = 0
        while self.token and not (self.token == ")" and depth == 0):
            depth += {"(": 1, ")": -1}.get(self.token, 0)
            self._take()

    def _number(self) -> int:
        token = self._take()
        if not token.isdecimal():
            raise Unsupported("a place in brackets is a number")
        return int(token)

    def _literal(self) -> _Literal:
        token = self._take()
        if token.startswith("'"):
            return _Literal(re.sub(r"\\(.)", r"\1", token[1:-1]))
        if token in ("true", "false"):
            return _Literal(token == "true")
        if token.isdecimal():
            return _Literal(int(token))
        raise Unsupported("a string, a number, true or false is expected")


@lru_cache(maxsize=8192)
def targets(parameter: Parameter, type_: str) -> frozenset[str]:
    """The resource types that a reference parameter of a resource type can lead to, as its elements and `resolve() is Type` say."""
    said = frozenset(parameter.targets or resource_types())
    try:
        paths = compiled(parameter.expression, type_).paths
    except Unsupported:
        return said
    found: set[str] = set()
    for path in paths:
        led = {step.leads_to for step in path.steps if isinstance(step, Guard) and step.leads_to}
        declared = set(path.element.targets) if path.element else set()
        found |= led or (said if not declared or "Resource" in declared else declared)
    return said & found or said


# --- true or false


def _is(found: list[Path], name: str) -> _Test:
    if not is_type(name):
        raise Unsupported(f"there is no type {name}")
    _own(found)
    resolved = [path for path in found if path.type == RESOLVED]
    others = [path for path in found if path.type != RESOLVED and is_a(path.type, name)]

    def holds(value: Any) -> bool:
        return any(leads_to(each, name) for path in resolved for each in path.select(value)) or _any(others)(value)

    return _Test(f"{text_of(found)} is {name}", holds, "" if others else name)


def _guarded(found: list[Path], test: _Test) -> list[Path]:
    return [replace(path, steps=(*path.steps, Guard(test.text, test.holds, test.leads_to))) for path in found]


def _compared(found: list[Path], operator: str, literal: _Literal) -> _Test:
    expected = literal.value
    _own(found)

    def same(value: Any) -> bool:
        return bool(value == expected) and isinstance(value, bool) == isinstance(expected, bool)

    def holds(value: Any) -> bool:
        return any(same(each) == (operator == "=") for path in found for each in path.select(value))

    if operator == "=" and isinstance(expected, str) and len(found) == 1 and len(found[0].steps) == 1:
        (step,) = found[0].steps
        if isinstance(step, Key) and found[0].element and not found[0].element.repeats:
            name = step.name  # where(system = 'phone'), by far the most frequent
            return _Test(f"{name} = {expected!r}", lambda value: bool(value.get(name) == expected))
    return _Test(f"{text_of(found)} {operator} {expected!r}", holds)


def _both(operator: str, left: _Test, right: _Test) -> _Test:
    text = f"({left.text} {operator} {right.text})"
    if operator == "and":
        return _Test(text, lambda value: left.holds(value) and right.holds(value))
    return _Test(text, lambda value: left.holds(value) or right.holds(value))


def _any(found: list[Path]) -> Callable[[Any], bool]:
    _own(found)
    return lambda value: any(True for path in found for _ in path.select(value))


def _own(found: list[Path]) -> None:
    if any(path.of_resource for path in found):
        raise Unsupported("%resource is not understood in what is true or false")


def _as_test(found: _Read) -> _Test:
    if isinstance(found, _Test):
        return found
    _own(found)
    return _Test(text_of(found), lambda value: any(each is True for path in found for each in path.select(value)))


def _as_paths(found: _Read) -> list[Path]:
    if isinstance(found, _Test):
        raise Unsupported("what is true or false has no elements")
    return found
