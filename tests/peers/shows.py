"""Which test shows what: `@shows("interaction", "vread")` on a test, and `docs/fhir.md` lists it (`make fhir-doc`), for FHIR;
`@shows("transaction", "ITI-42 Document Registry")`, and `docs/ihe-integration-statement.md` does (`make ihe-doc`), for IHE.

The names are those that the specification has: codes of interactions, types of parameters, modifiers without colon, names of operations
without `$`. The marks are found in the tests' source, so they are written as plain strings, and stand on the function itself.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

Kind = Literal[
    "interaction",  # read, vread, update, patch, delete, history-instance, create, search-type, transaction, batch ...
    "conditional",  # create, read, update, patch, delete
    "parameter",  # a type: number, date, string, token, reference, composite, quantity, uri, special
    "modifier",  # missing, exact, contains, text, not, above, below, in, not-in, of-type, identifier, [type], iterate
    "prefix",  # eq, ne, gt, lt, ge, le, sa, eb, ap
    "search",  # chain, _has, _filter, compartment, POST ...
    "result",  # _count, _sort, _include ...
    "operation",  # everything, docref, validate, meta, meta-add, meta-delete
    "format",  # json, xml, and media types of patches
    "transaction",  # of IHE, and the actor: ITI-42 Document Registry
    "header",  # Accept, If-Match, If-None-Match, If-None-Exist, If-Modified-Since, Prefer ...
]

TESTS: Final = Path(__file__).resolve().parents[1]
_Test = TypeVar("_Test", bound=Callable[..., object])


def shows(kind: Kind, *names: str) -> Callable[[_Test], _Test]:
    """Says that a test shows these; it changes nothing of the test."""
    if kind not in get_args(Kind) or not names:
        raise ValueError(f"shows({kind!r}, ...): the kind is one of {', '.join(get_args(Kind))}, and it has names")
    return lambda test: test


@dataclass(frozen=True, slots=True, order=True)
class Shown:
    """One thing that a test shows. `path` is relative to the repository, `test` the function's name."""

    kind: str
    name: str
    path: str
    test: str


def shown(folder: Path = TESTS) -> list[Shown]:
    """All that the tests below a folder show, in order."""
    return sorted(set(_all(folder)))


def _all(folder: Path) -> Iterator[Shown]:
    for file in sorted(folder.rglob("test_*.py")):
        text = file.read_text()
        if "@shows(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                for kind, *names in map(_literals, node.decorator_list):
                    for name in names:
                        yield Shown(kind, name, str(file.relative_to(TESTS.parent)), node.name)


def _literals(decorator: ast.expr) -> tuple[str, ...]:
    """The arguments of `@shows(...)`; an empty kind for another decorator."""
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "shows":
        return tuple(str(ast.literal_eval(each)) for each in decorator.args)
    return ("",)
