"""The corpus of valid and broken resources in `corpus_fhir`, with what HL7's validator says of each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "corpus_fhir"


@dataclass(frozen=True, slots=True)
class Case:
    """One resource. `valid` is HL7's verdict."""

    type: str
    name: str
    valid: bool
    resource: dict[str, Any]


def cases() -> Iterator[Case]:
    for file in sorted(_FOLDER.glob("*.json")):
        for each in json.loads(file.read_text()):
            yield Case(file.stem, each["name"], each["valid"], each["resource"])
