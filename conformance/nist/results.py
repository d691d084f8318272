"""What came of a run: tests, their sections, their steps."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from conformance.nist.expected import Check
from conformance.nist.wire import Exchange


class Outcome(StrEnum):
    """How a step ended. An error is a step that could not be carried out to its end: no answer, a plan that cannot be followed."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    NOT_RUN = "not run"


_WORST = (Outcome.FAIL, Outcome.ERROR, Outcome.NOT_RUN, Outcome.PASS)
BAD = (Outcome.FAIL, Outcome.ERROR)


class NotRun(Exception):
    """A step, or part of one, cannot be run here; the words say why."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a step. `words` say what was wrong, or why it was not run."""

    id: str
    outcome: Outcome
    words: str = ""
    goals: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    exchanges: tuple[Exchange, ...] = field(default=(), repr=False)
    seconds: float = 0


@dataclass(frozen=True, slots=True)
class SectionResult:
    """What came of a section."""

    test: str
    name: str
    steps: tuple[StepResult, ...]

    @property
    def outcome(self) -> Outcome:
        return worst(each.outcome for each in self.steps)


@dataclass(slots=True)
class TestResult:
    """What came of a test. `asked` is False where it was run because another needs its data."""

    __test__ = False  # not one of pytest's

    id: str
    title: str
    asked: bool = True
    sections: list[SectionResult] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        return worst(each.outcome for each in self.sections)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """A failure, else an error, else that something was not run; not run, too, where there is nothing."""
    there = set(outcomes)
    return next((each for each in _WORST if each in there), Outcome.NOT_RUN)


def counted(results: Iterable[TestResult]) -> Counter[Outcome]:
    """How many tests ended how."""
    return Counter(each.outcome for each in results)
