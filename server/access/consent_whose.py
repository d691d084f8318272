# ruff: noqa: S608 what goes into the text are names of R4 and numbers; all else is bound
"""Whose a resource is, to consents: the patients in whose compartment it is (FHIR R4 section 2.17), and those of whom it is all the same.

R4 has types outside that compartment which name a patient, such as Task; and a Provenance is of those of whom its targets are.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from profiles.r4.search import compartment, parameters
from server.records import index_keys as keys
from server.records.fhir_search.references import OF_ONE_PATIENT

NAMING: Final = frozenset({"Contract", "Device", "GuidanceResponse", "Task"})
"""Types outside the compartment with a search parameter that says which patient they are of."""
_SAYS_WHOSE: Final = ("patient", "subject")
_FOLLOWING: Final = "Provenance"


@cache
def is_anybodys(type_: str) -> bool:
    """Whether resources of the type can be a patient's. Of what is nobody's nothing is withheld."""
    return type_ == "Patient" or type_ in compartment("Patient") or type_ in NAMING


@cache
def is_of_one(type_: str) -> bool:
    """Whether the row of such a resource always names its patient."""
    return type_ == "Patient" or type_ in OF_ONE_PATIENT


def is_shared(type_: str) -> bool:
    """Whether a row of the type which names no patient may be of some all the same."""
    return is_anybodys(type_) and not is_of_one(type_)


def is_by_rows(type_: str) -> bool:
    """Whether rows of searches say whose it is: while they are made anew after an update of the server that is not known."""
    return type_ in NAMING or type_ == _FOLLOWING


def whose(type_: str, row: str, free: Sequence[str]) -> str:
    """SQL for the patients (ids) of whom the row is, an alias of `resource`, but for those in `free`, which are names of values."""
    but = ", ".join(["''", *free])
    one = f"SELECT {row}.patient AS patient WHERE {row}.patient NOT IN ({but})"
    if is_of_one(type_):
        return one
    parts = [one]
    if type_ in NAMING:
        parts.append(f"SELECT n.target_id FROM {_named([type_])} AND n.resource_pk = {row}.pk AND n.target_id NOT IN ({but})")
    else:
        parts.append(
            f"SELECT c.id FROM compartment c WHERE {row}.patient = '' AND c.resource_pk = {row}.pk AND c.name = 'Patient' AND c.id NOT IN ({but})"
        )
    if type_ == _FOLLOWING:
        parts += _of_targets(row, but)
    return " UNION ALL ".join(parts)


def _of_targets(row: str, but: str) -> list[str]:
    """The patients of what a Provenance is about, whichever way that one says whose it is."""
    target = f"""resource f JOIN reference_value l ON f.type = l.target_type AND f.id = l.target_id
      AND l.resource_pk = {row}.pk AND l.parameter = {keys.parameter_hash(_FOLLOWING, "target")}"""
    within = "compartment c ON c.resource_pk = f.pk AND c.name || '' = 'Patient'"  # so that nobody's whole compartment is walked
    return [
        f"SELECT f.patient FROM {target} WHERE f.patient NOT IN ({but})",
        f"SELECT c.id FROM {target} JOIN {within} WHERE f.patient = '' AND c.id NOT IN ({but})",
        f"SELECT n.target_id FROM {target}, {_named(sorted(NAMING))} AND n.resource_pk = f.pk AND n.target_id NOT IN ({but})",
    ]


def _named(types: Iterable[str]) -> str:
    """Rows of references, as `n`, by which resources of these types name their patients."""
    codes = [(type_, code) for type_ in types for code in _SAYS_WHOSE if code in parameters(type_)]
    hashes = ", ".join(str(keys.parameter_hash(*each)) for each in codes)
    return f"reference_value n WHERE n.parameter IN ({hashes}) AND n.target_type = 'Patient'"
