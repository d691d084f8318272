"""What SMART App Launch 2.2.0 asks of a server: one row for each SHALL and SHOULD, by the numbers of its requirement list, in our words."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

GUIDE: Final = "https://hl7.org/fhir/smart-app-launch/STU2.2/"
_HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement. `place` is page and anchor within the guide, `level` SHALL, SHALL NOT, SHOULD or SHOULD NOT, `condition` may be empty."""

    id: int
    place: str
    level: str
    condition: str
    words: str
    area: str

    @property
    def binding(self) -> bool:
        """Whether it is a SHALL or SHALL NOT."""
        return self.level.startswith("SHALL")

    @property
    def url(self) -> str:
        return GUIDE + self.place


@cache
def requirements() -> MappingProxyType[int, Requirement]:
    """All of them by number, in the guide's order."""
    found = {each.id: each for name in ("requirements.tsv", "recommendations.tsv") for each in _read(_HERE / name)}
    return MappingProxyType(dict(sorted(found.items())))


@cache
def unseen() -> MappingProxyType[int, str]:
    """Of those that nobody can see from outside, or that say nothing that can be wrong: why."""
    with (_HERE / "unseen.tsv").open(newline="") as file:
        return MappingProxyType({int(row["id"]): row["why"] for row in csv.DictReader(file, delimiter="\t")})


def _read(path: Path) -> list[Requirement]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        Requirement(int(row["id"]), row["page+anchor"], row["conformance"], row["condition"], row["requirement"], row["area"])
        for row in rows
    ]
