"""A folder of the toolkit's tests: which there are, their sections in order, their files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from conformance.nist.plan import PlanError, Section, parse_plan
from conformance.nist.preparing import ORDERS, STAND_INS, WITHDRAWN

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
    original: Mapping[str, str] = field(default_factory=dict)
    """The names of its sections in the folder of the test that it stands in for, where it does."""

    left_out: frozenset[str] = frozenset()
    """Sections that its index does not name: the toolkit does not run them, and here they are run when they are named."""

    @cached_property
    def title(self) -> str:
        """The first line of its readme."""
        lines = _text(self.folder / "readme.txt").strip().splitlines()
        first = lines[0].strip() if lines else ""
        return f"{self.folder.name} stands in for it: {first}" if self.original else first

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """The collections that it is in, such as `reg` and `SQ.b`."""
        return tuple(_text(self.folder / "collections.txt").split())

    def folder_of(self, section: str) -> Path:
        """Where the files of a section lie."""
        return self.folder / self.original.get(section, section) if section else self.folder


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
        """Ids of tests, each with a section or an empty string for all, that `only` names: `11897`, `11897/approved`, with * and ?.

        Where it names none: those that are in a collection of an actor; others are there for what these need.
        """
        if not only:
            return [(each, "") for each in self.ids() if (there := self.test(each)) and there.collections]
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

    def test(self, id_: str) -> Test | None:
        """The test with this id, or one that stands in for it; None where neither is here."""
        if id_ not in self._read:
            folder = self._folder(id_)
            self._read[id_] = _read(id_, folder) if folder else self._stand_in(id_)
        return self._read[id_]

    def _folder(self, id_: str) -> Path | None:
        named = bool(id_) and "/" not in id_ and id_ not in (".", "..")
        return next((area / id_ for area in self._areas if (area / id_).is_dir()), None) if named else None

    def _stand_in(self, id_: str) -> Test | None:
        other, names, words = STAND_INS.get(id_, ("", {}, {}))
        folder = self._folder(other)
        if folder is None:
            return None
        sections = (_section(id_, name, folder / found / "testplan.xml", words) for name, found in names.items())
        return Test(id_, folder, tuple(sections), names)


def _read(id_: str, folder: Path) -> Test:
    plans = {} if not (folder / "testplan.xml").is_file() else {"": folder / "testplan.xml"}
    plans |= {each.parent.name: each for each in sorted(folder.glob("*/testplan.xml"))}
    sections = [_section(id_, name, path) for name, path in plans.items()]
    index = _text(folder / "index.idx").split()
    left_out = {each.name for each in sections}.difference(index) if index else WITHDRAWN.get(id_, frozenset())
    return Test(id_, folder, tuple(ordered(sections, index or ORDERS.get(id_, "").split())), left_out=frozenset(left_out))


def _section(id_: str, name: str, path: Path, words: Mapping[str, str] = MappingProxyType({})) -> Section:
    """A section of a plan's file, with some words of it replaced."""
    try:
        data = path.read_bytes()
        for old, new in words.items():
            data = data.replace(old.encode(), new.encode())
        return parse_plan(data, id_, name)
    except (OSError, PlanError) as error:
        return Section(id_, name, (), reasons=(str(error),))


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
