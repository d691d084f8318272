"""The Query/Retrieve information models as tables: PS3.4 sections C.3 and C.6, and what an Identifier must have in each.

A level's results have all levels above it as well; `Level` is how the catalogue calls it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from profiles.query_attributes import Level
from profiles.query_identifier import Identifier

QUERY_RETRIEVE_LEVEL: Final = "00080052"
ISSUER: Final = "00100021"
_WILD: Final = re.compile(r"[*?]")
_UID_LIST: Final = re.compile(r"[0-9.]{1,64}(\\[0-9.]{1,64})*")
MAX_LISTED: Final = 20_000
MAX_LISTED_ABOVE: Final = 500
"""UIDs in one list of a retrieve request, at its level and, where it is relational, at others."""


class IdentifierRefused(ValueError):
    """An Identifier that its SOP Class does not allow (0xA900). `tags` are the elements at fault; the message has no value of theirs."""

    def __init__(self, message: str, *tags: str) -> None:
        super().__init__(message)
        self.tags = tuple(int(tag, 16) for tag in tags)


@dataclass(frozen=True, slots=True)
class Model:
    """An information model: its levels (PS3.4 section C.3) from the top, and its SOP Classes for the three services."""

    name: str
    levels: tuple[str, ...]
    find: str
    move: str
    get: str


PATIENT_ROOT: Final = Model(
    "Patient Root", ("PATIENT", "STUDY", "SERIES", "IMAGE"),
    "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.1.3",
)  # fmt: skip
STUDY_ROOT: Final = Model(
    "Study Root", ("STUDY", "SERIES", "IMAGE"),
    "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3",
)  # fmt: skip
PATIENT_STUDY_ONLY: Final = Model(
    "Patient/Study Only (retired)", ("PATIENT", "STUDY"),
    "1.2.840.10008.5.1.4.1.2.3.1", "1.2.840.10008.5.1.4.1.2.3.2", "1.2.840.10008.5.1.4.1.2.3.3",
)  # fmt: skip
MODELS: Final = (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
_BY_SOP_CLASS: Final = {uid: model for model in MODELS for uid in (model.find, model.move, model.get)}

# PS3.4 tables C.6-1 to C.6-5: the unique key of each level, and the level's name in the catalogue
UNIQUE_KEYS: Final[Mapping[str, str]] = {"PATIENT": "00100020", "STUDY": "0020000D", "SERIES": "0020000E", "IMAGE": "00080018"}
LEVELS: Final[Mapping[str, Level]] = {"PATIENT": "patient", "STUDY": "study", "SERIES": "series", "IMAGE": "instance"}


def model_of(sop_class_uid: str) -> Model:
    """The information model that a Query/Retrieve SOP Class belongs to. Raises `KeyError`."""
    return _BY_SOP_CLASS[sop_class_uid]


def level_of(identifier: Identifier, model: Model) -> str:
    """Query/Retrieve Level (0008,0052). Raises `IdentifierRefused` where it is missing or not of this model."""
    level = identifier.value(QUERY_RETRIEVE_LEVEL).upper()
    if level not in model.levels:
        raise IdentifierRefused(
            f"Query/Retrieve Level must be one of {', '.join(model.levels)} in the {model.name} model (PS3.4 section C.3)",
            QUERY_RETRIEVE_LEVEL,
        )
    return level


def check_query(identifier: Identifier, model: Model, *, relational: bool) -> str:
    """PS3.4 section C.4.1.2.1: the level of a query; each level above must be given by one value unless the query is relational.

    Raises `IdentifierRefused`.
    """
    level = level_of(identifier, model)
    if not relational:
        _require_above(identifier, model, level)
    return level


def _require_above(identifier: Identifier, model: Model, level: str) -> None:
    for above in model.levels[: model.levels.index(level)]:
        value = identifier.value(UNIQUE_KEYS[above])
        if not value or "\\" in value or _WILD.search(value):
            raise IdentifierRefused(
                f"the unique key of level {above} must be there with one value (PS3.4 section C.4.1.2.1)", UNIQUE_KEYS[above]
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be retrieved: everything that is in all of these. Empty or None is no restriction; never all of them."""

    level: str
    patient: str | None = None
    issuer: str = ""
    """Issuer of Patient ID (0010,0021): who gave `patient` out, where the request says so."""
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


def selection(identifier: Identifier, model: Model, *, relational: bool) -> Selection:
    """PS3.4 sections C.4.2.2.1 and C.4.3.2.1: what a C-MOVE or C-GET names, by unique keys only. Raises `IdentifierRefused`."""
    level = level_of(identifier, model)
    if not relational:
        _require_above(identifier, model, level)
    named = {each: identifier.value(UNIQUE_KEYS[each]) for each in ("PATIENT", "STUDY", "SERIES", "IMAGE")}
    if not named[level]:
        raise IdentifierRefused(f"the unique key of level {level} must be there with a value", UNIQUE_KEYS[level])
    if "\\" in named["PATIENT"] or _WILD.search(named["PATIENT"]):
        raise IdentifierRefused("a retrieve names one Patient ID, without wildcards", UNIQUE_KEYS["PATIENT"])
    issuer = identifier.value(ISSUER)
    if "\\" in issuer or _WILD.search(issuer):
        raise IdentifierRefused("a retrieve names one Issuer of Patient ID, without wildcards", ISSUER)
    for each in ("STUDY", "SERIES", "IMAGE"):
        if named[each] and not _UID_LIST.fullmatch(named[each]):
            raise IdentifierRefused("a retrieve names UIDs, one or a list of them", UNIQUE_KEYS[each])
        most = MAX_LISTED if each == level else MAX_LISTED_ABOVE
        if named[each].count("\\") >= most:
            raise IdentifierRefused(f"a retrieve names at most {most} UIDs of level {each}", UNIQUE_KEYS[each])
    studies, series, instances = (
        tuple(dict.fromkeys(named[each].split("\\"))) if named[each] else () for each in ("STUDY", "SERIES", "IMAGE")
    )
    return Selection(level, named["PATIENT"] or None, issuer, studies, series, instances)
