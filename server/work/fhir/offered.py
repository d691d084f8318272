"""Which interactions each resource type has here (FHIR R4 section 3.1.0): routes refuse by it, the CapabilityStatement tells it."""

from functools import cache
from typing import Final

from profiles.r4.definitions import resource_types
from server.errors import NotFound

FHIR_VERSION: Final = "4.0.1"
NOT_STORED: Final = frozenset({"Parameters"})
"""What has no endpoint of its own (section 2.27): it is the body of operations."""

_EVERY: Final = (
    "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type",
)  # fmt: skip
_SPECIAL: Final = {
    # The trail: written by the server alone, and never again.
    "AuditEvent": ("read", "search-type"),
    "Binary": ("read", "vread", "update", "delete", "create"),
}
SYSTEM: Final = ("transaction", "batch", "search-system", "history-system")


class NotOffered(NotFound):
    """A resource type or interaction of FHIR that this server does not have."""

    fhir_code = "not-supported"


class MethodNotOffered(NotOffered):
    """A method that a resource does not take. `allow` are those that it takes, as the header of that name has them."""

    http_status = 405

    def __init__(self, detail: str, allow: str = "GET, HEAD") -> None:
        super().__init__(detail)
        self.allow = allow


@cache
def types() -> tuple[str, ...]:
    """The resource types that there are here, in order."""
    return tuple(each for each in resource_types() if each not in NOT_STORED)


@cache
def interactions(type_: str) -> tuple[str, ...]:
    """The interactions with a type by their codes (value set type-restful-interaction), in the order of the specification; none for no type."""
    return _SPECIAL.get(type_, _EVERY) if type_ in types() else ()


@cache
def searched() -> tuple[str, ...]:
    """The types that can be searched."""
    return tuple(each for each in types() if "search-type" in interactions(each))


@cache
def of_history() -> tuple[str, ...]:
    """The types that have a history."""
    return tuple(each for each in types() if "history-type" in interactions(each))


def known(type_: str) -> str:
    """The same. Raises `NotOffered` for what is no resource type here."""
    if type_ not in types():
        raise NotOffered("this server has no resources of this type; it has those of FHIR R4 (see [base]/metadata)")
    return type_


def require(type_: str, interaction: str) -> None:
    """Raises `NotOffered` for what is no type here, `MethodNotOffered` where the type does not have the interaction."""
    if interaction not in interactions(known(type_)):
        raise MethodNotOffered(f"{type_} has no {interaction} here; it has {', '.join(interactions(type_))}")
