"""Authorization checks of the program, found in its source, and a plugin for pytest that takes one of them out while the module is imported.

`python -m pytest -p peers.taken_out TESTS` with IMAGESHARE_TEST_TAKEN_OUT=server/access/tokens.py:81:8 runs TESTS without the check of that line and column.

Checks are statements (`require_...`, `if ...: raise Forbidden`), comparisons of secrets, what a Decision makes for SQL and, in `server/access`, every single condition
of a statement in SQL.
"""

import ast
import importlib.abc
import importlib.machinery
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VARIABLE: Final = "IMAGESHARE_TEST_TAKEN_OUT"
_CHECKING: Final = re.compile(r"_?require\w*|admit|decision|decide_again|refuse_repeated")
_FORM_ONLY: Final = {
    "_require_known",
    "_require_plain",
    "_require_syntax",
    "require_unpacked",
    "require_anonymous",
    "offered.require",
}
"""They look at what a request is made of, not at who may do it."""
_CONDITIONS: Final = {"where", "rows"}
_CONJUNCTIONS: Final = {"where", "and_", "_and"}
_NO_STATEMENTS: Final = {"self", "decision", "constraints"}
"""Their `where` makes a condition, and is none."""
_ACCESS: Final = re.compile(r"Forbidden|Unauthenticated|SignInRefused|StepUpNeeded|TooManyAttempts")
_ANY: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """`line` and `column` are where it begins; `what` says which kind it is, in the words of the source."""

    path: str
    line: int
    column: int
    what: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place} {self.what}"


def checks(*places: str) -> list[Check]:
    """Of these modules, and of all below these folders, in their order."""
    found: list[Check] = []
    modules = (ROOT / place for place in places)
    for path in sorted(path for each in modules for path in ([each] if each.is_file() else each.rglob("*.py"))):
        named = str(path.relative_to(ROOT))
        finder = _Finder(_ANY if named.startswith("server/access/") else _ACCESS, in_sql=named.startswith("server/access/"))
        finder.visit(ast.parse(path.read_text()))
        found += [Check(named, *each) for each in sorted(finder.found)]
    return found


def without(source: str, line: int, column: int) -> ast.Module:
    """The module without its check that begins there."""
    tree = ast.parse(source)
    taking = _Taking(line, column)
    changed = ast.fix_missing_locations(taking.visit(tree))
    assert taking.taken, f"there is no check in line {line}, column {column}"
    assert isinstance(changed, ast.Module)
    return changed


def _called(node: ast.expr) -> str:
    """The last name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _is_statement(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Expr) or not _CHECKING.fullmatch(_called(node.value)):
        return False
    assert isinstance(node.value, ast.Call)
    return not {_called(node.value), ast.unparse(node.value.func)} & _FORM_ONLY


def _refuses(node: ast.stmt, errors: re.Pattern[str]) -> bool:
    """`if ...: raise Forbidden(...)`, with nothing else to it."""
    if not isinstance(node, ast.If) or node.orelse or not isinstance(node.body[-1], ast.Raise):
        return False
    raised = node.body[-1].exc
    return raised is not None and bool(errors.fullmatch(_called(raised) or getattr(raised, "id", "")))


def _compares(node: ast.expr) -> bool:
    return _called(node) == "compare_digest"


def _narrows(node: ast.expr) -> bool:
    """The condition that a Decision makes for SQL: `decision.rows(...)`."""
    if _called(node) not in _CONDITIONS:
        return False
    assert isinstance(node, ast.Call)
    return isinstance(node.func, ast.Attribute) and "decision" in ast.unparse(node.func.value)


def _joined(node: ast.AST) -> list[ast.expr]:
    """The single conditions that a statement in SQL, or a conjunction, is made of."""
    if not isinstance(node, ast.Call) or _called(node) not in _CONJUNCTIONS:
        return []
    if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in _NO_STATEMENTS:
        return []
    return [each for each in node.args if isinstance(each, ast.Compare | ast.Call | ast.UnaryOp | ast.BoolOp | ast.Name)]


class _Finder(ast.NodeVisitor):
    def __init__(self, errors: re.Pattern[str], *, in_sql: bool) -> None:
        self._errors, self._in_sql = errors, in_sql
        self.found: set[tuple[int, int, str]] = set()

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt) and _is_statement(node):
            self._take(node, ast.unparse(node))
        elif isinstance(node, ast.stmt) and _refuses(node, self._errors):
            assert isinstance(node, ast.If)
            self._take(node, f"if {ast.unparse(node.test)}")
        elif isinstance(node, ast.expr) and (_compares(node) or _narrows(node)):
            self._take(node, ast.unparse(node))
        for each in _joined(node) if self._in_sql else ():
            self._take(each, ast.unparse(each))
        super().generic_visit(node)

    def _take(self, node: ast.stmt | ast.expr, what: str) -> None:
        self.found.add((node.lineno, node.col_offset, what[:80]))


class _Taking(ast.NodeTransformer):
    def __init__(self, line: int, column: int) -> None:
        self._place = line, column
        self.taken = False

    def visit(self, node: ast.AST) -> ast.AST:
        if self._is_there(node) and not self.taken and (changed := self._changed(node)) is not None:
            self.taken = True
            return ast.copy_location(changed, node)
        if isinstance(node, ast.Call):
            for each in _joined(node):
                if self._is_there(each) and not self.taken:
                    self.taken = True
                    node.args[node.args.index(each)] = ast.copy_location(_true(), each)
        changed_within: ast.AST = super().generic_visit(node)
        return changed_within

    def _is_there(self, node: ast.AST) -> bool:
        return (getattr(node, "lineno", 0), getattr(node, "col_offset", -1)) == self._place

    @staticmethod
    def _changed(node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.stmt) and (_is_statement(node) or _refuses(node, _ANY)):
            return ast.Pass()
        if isinstance(node, ast.expr) and _compares(node):
            return ast.Constant(True)
        if isinstance(node, ast.expr) and _narrows(node):
            return _true()
        return None


def _true() -> ast.expr:
    return ast.parse("__import__('sqlalchemy').true()", mode="eval").body


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the module without the check."""

    def __init__(self, name: str, path: str, line: int, column: int) -> None:
        super().__init__(name, path)
        self._at = line, column

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        return compile(without(Path(self.path).read_text(), *self._at), self.path, "exec")


class _Import(importlib.abc.MetaPathFinder):
    def __init__(self, path: str, line: int, column: int) -> None:
        self._file, self._at = ROOT / path, (line, column)
        self._name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        loader = _Loader(fullname, str(self._file), *self._at)
        return importlib.machinery.ModuleSpec(fullname, loader, origin=str(self._file))


def _named() -> Iterator[tuple[str, int, int]]:
    if given := os.environ.get(VARIABLE):
        path, line, column = given.split(":")
        yield path, int(line), int(column)


for _place in _named():
    sys.meta_path.insert(0, _Import(*_place))
