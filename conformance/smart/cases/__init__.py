"""The cases, a module for each area."""

from importlib import import_module
from typing import Final

from conformance.smart.kit import Case

AREAS: Final = (
    "discovery", "registration", "authorize", "token", "refresh", "context", "scopes", "openid", "asymmetric", "backend",
    "introspection", "cors", "brands", "imaging_search", "imaging_profiles", "imaging_retrieve", "imaging_decisions",
    "imaging_scopes", "imaging_withheld", "imaging_capability",
)  # fmt: skip


def all_cases() -> list[Case]:
    """Every case, area by area; ids are unique."""
    found: list[Case] = [each for name in AREAS for each in import_module(f"{__name__}.{name}").AREA.cases]
    names = [each.id for each in found]
    if len(set(names)) != len(names):
        raise ValueError(f"two cases have one id: {sorted({each for each in names if names.count(each) > 1})}")
    return found
