"""Which test shows what of SMART App Launch: `@requires(14, 15)` on a test, and `docs/smart.md` lists it (`make smart-doc`).

The numbers are those of the requirement list of SMART App Launch 2.2.0 (`conformance/smart/requirements.tsv`). The marks are found in the
tests' source, so they are written as plain numbers, and stand on the function itself.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from conformance.smart.requirements import requirements

TESTS: Final = Path(__file__).resolve().parents[1]
_Test = TypeVar("_Test", bound=Callable[..., object])


def requires(*ids: int) -> Callable[[_Test], _Test]:
    """Says that a test shows these requirements; it changes nothing of the test."""
    unknown = [each for each in ids if each not in requirements()]
    if not ids or unknown:
        raise ValueError(f"requires{ids}: {unknown or 'nothing'} is not in conformance/smart/requirements.tsv")
    return lambda test: test


@dataclass(frozen=True, slots=True, order=True)
class Required:
    """A test that shows a requirement. `path` is relative to the repository, `test` the function's name."""

    id: int
    path: str
    test: str


def required(folder: Path = TESTS) -> list[Required]:
    """All that the tests below a folder show, in order."""
    return sorted(set(_all(folder)))


def _all(folder: Path) -> Iterator[Required]:
    for file in sorted(folder.rglob("test_*.py")):
        text = file.read_text()
        if "@requires(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for id_ in (id_ for decorator in node.decorator_list for id_ in _numbers(decorator)):
                    yield Required(id_, str(file.relative_to(folder.parent)), node.name)


def _numbers(decorator: ast.expr) -> tuple[int, ...]:
    """The arguments of `@requires(...)`; none for another decorator."""
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "requires":
        return tuple(int(ast.literal_eval(each)) for each in decorator.args)
    return ()
