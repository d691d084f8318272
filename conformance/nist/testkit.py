"""A folder of the toolkit's tests: which there are, their sections in order, their files."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Final

from conformance.nist.plan import PlanError, Section, parse_plan
from conformance.nist.preparing import ORDERS

_AREAS: Final = ("tests", "testdata", "testdata-registry", "testdata-repository", "testdata-xdr", "internal", "utilities")

_EARLY: Final = re.compile(
    r"pif|patient_?feed|reset|register|add_initial|init|create|submit|original|load|single|two|multi", re.IGNORECASE
)
_LATE: Final = re.compile(r"eval|verify|query|validate|retrieve|check|find|get", re.IGNORECASE)


@dataclass(frozen=True)
class Test:
    """One test: its folder and its sections in the order in which they are run."""

    id: str
    folder: Path
    sections: tuple[Section, ...]

    @cached_property
    def title(self) -> str:
        """The first line of its readme."""
        lines = _text(self.folder / "readme.txt").strip().splitlines()
        return lines[0].strip() if lines else ""

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """The collections that it is in, such as `reg` and `SQ.b`."""
        return tuple(_text(self.folder / "collections.txt").split())

    def folder_of(self, section: str) -> Path:
        """Where the files of a section lie."""
        return self.folder / section if section else self.folder


class Testkit:
    """The tests below a folder: the toolkit's `testkit`, or its `tests`."""

    __test__ = False  # not one of pytest's

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._areas = [area for name in _AREAS if (area := folder / name).is_dir()] or [folder]
        self._read: dict[str, Test | None] = {}

    def ids(self) -> list[str]:
        """The tests of the first area, which is `tests` in the toolkit's layout."""
        return sorted((each.name for each in self._areas[0].iterdir() if each.is_dir()), key=_natural)

    def chosen(self, only: Sequence[str]) -> list[tuple[str, str]]:
        """Ids of tests, each with a section or an empty string for all, that `only` names: `11897`, `11897/approved`, with * and ?."""
        if not only:
            return [(each, "") for each in self.ids()]
        found = []
        for word in only:
            test, _, section = word.partition("/")
            ids = [each for each in self.ids() if fnmatchcase(each, test)] or [test]
            for each in ids:
                there = self.test(each)
                names = [one.name for one in there.sections] if there and section else []
                found += [(each, name) for name in names if fnmatchcase(name, section)] if section else [(each, "")]
        return list(dict.fromkeys(found))

    def listing(self, chosen: Iterable[tuple[str, str]]) -> list[str]:
        """A line for each of these tests: id, sections, title."""
        lines = []
        for id_, only in chosen:
            found = self.test(id_)
            names = [each.name for each in found.sections if not only or each.name == only] if found else []
            lines.append("\t".join((id_, " ".join(names) or "-", found.title if found else "not in the testkit")))
        return lines

    def test(self, id: str) -> Test | None:
        """The test with this id; None where it is not here. Raises `PlanError`."""
        if id not in self._read:
            folder = next((area / id for area in self._areas if (area / id).is_dir()), None) if _is_name(id) else None
            self._read[id] = _read(id, folder) if folder else None
        return self._read[id]


def _is_name(id: str) -> bool:
    return bool(id) and "/" not in id and id not in (".", "..")


def _read(id: str, folder: Path) -> Test:
    plans = {} if not (folder / "testplan.xml").is_file() else {"": folder / "testplan.xml"}
    plans |= {each.parent.name: each for each in sorted(folder.glob("*/testplan.xml"))}
    sections = {}
    for name, path in plans.items():
        try:
            sections[name] = parse_plan(path.read_bytes(), id, name)
        except PlanError as error:
            sections[name] = Section(id, name, (), reasons=(str(error),))
    named = _text(folder / "index.idx").split() or ORDERS.get(id, "").split()
    return Test(id, folder, tuple(ordered(sections.values(), named)))


def ordered(sections: Iterable[Section], named: Sequence[str] = ()) -> list[Section]:
    """Sections in the order of `named`; the others so that each comes after what it needs, submissions before queries."""
    waiting = sorted(sections, key=lambda each: _rank(each.name, named))
    done: list[Section] = []
    while waiting:
        names = {each.name for each in waiting}
        ready = next((each for each in waiting if each.name in named or not _own_needs(each) & (names - {each.name})), waiting[0])
        waiting.remove(ready)
        done.append(ready)
    return done


def _own_needs(section: Section) -> set[str]:
    return {need.section for need in section.needs if need.test == section.test}


def _rank(name: str, named: Sequence[str]) -> tuple[int, int, tuple[tuple[int, str], ...]]:
    place = named.index(name) if name in named else len(named)
    kind = 0 if _EARLY.match(name) else 2 if _LATE.match(name) else 1
    return place, kind, _natural(name)


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(each), "") if each.isdigit() else (-1, each) for each in re.split(r"(\d+)", name))


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
