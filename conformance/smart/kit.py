"""Cases, and the runner: a case is a small function that asks the system something and fails, skips, or passes.

@case("token-once", "A code works once", 57, needs="public")
def _(system: System) -> None: ...
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import httpx2

from conformance.smart.requirements import requirements

if TYPE_CHECKING:
    from conformance.smart.system import System
    from conformance.smart.wire import Exchange


Body: TypeAlias = "Callable[[System], None]"


class Failed(AssertionError):
    """The system did what the case says that it must not, or the other way round."""


class Skipped(Exception):
    """The case cannot be judged here: what it needs is not in the target file, or not offered by the system."""


class Outcome(StrEnum):
    """How a case ended. An error is a case that could not be carried out: no answer, or something that the kit does not understand."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `requirements` are numbers of SMART App Launch 2.2.0; `source` is a section of another specification."""

    id: str
    title: str
    area: str
    run: Body
    requirements: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case, with what went over the wire meanwhile."""

    case: Case
    outcome: Outcome
    words: str
    seconds: float
    exchanges: tuple[Exchange, ...]


class Area:
    """The cases of one module, in the order in which they stand there."""

    def __init__(self, name: str, source: str = "") -> None:
        """`source` is what its cases come from that name no other."""
        self.name, self.source = name, source
        self.cases: list[Case] = []

    def case(self, id: str, title: str, *numbers: int, source: str = "") -> Callable[[Body], Body]:
        """Makes a case of a function. `id` is unique within the kit when the area's name stands before it."""
        if unknown := [each for each in numbers if each not in requirements()]:
            raise ValueError(f"{id}: {unknown} is not in the requirement list")

        def add(run: Body) -> Body:
            self.cases.append(Case(f"{self.name}/{id}", title, self.name, run, numbers, source or self.source))
            return run

        return add


def check(true: object, words: str) -> None:
    """Fails the case with these words unless `true`."""
    if not true:
        raise Failed(words)


def fail(words: str) -> NoReturn:
    raise Failed(words)


def chosen(cases: Iterable[Case], only: Sequence[str]) -> list[Case]:
    """The cases whose id, area or requirement number is among `only` (`*` and `?` are wildcards); all of them where nothing is named."""
    return [
        each
        for each in cases
        if not only
        or any(fnmatchcase(each.id, word) or each.area == word or word in map(str, each.requirements) for word in only)
    ]


def run(cases: Sequence[Case], system: System, told: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Runs them one after another. `told` hears of each as it ends."""
    results = []
    for each in cases:
        result = _run(each, system)
        results.append(result)
        told(result)
    return results


def _run(case: Case, system: System) -> Result:
    system.wire.drained()
    began = time.perf_counter()
    outcome, words = Outcome.PASS, ""
    try:
        if reason := system.target.skip.get(case.id) or system.target.skip.get(case.area):
            raise Skipped(reason)
        case.run(system)
    except Skipped as reason:
        outcome, words = Outcome.SKIP, str(reason)
    except Failed as error:
        outcome, words = Outcome.FAIL, str(error)
    except httpx2.HTTPError as error:
        outcome, words = Outcome.ERROR, f"no answer: {error!r}"
    except Exception as error:  # noqa: BLE001 - an answer that no case expected must not end the run
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome, words = Outcome.ERROR, f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    return Result(case, outcome, words, time.perf_counter() - began, system.wire.drained())
