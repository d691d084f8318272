"""How the Decision applies to FHIR types: most are in a patient's compartment, an Endpoint is in nobody's."""

import contextlib
from collections.abc import Callable, Iterator

from sqlalchemy import ColumnElement, false, true

from server.access.decisions import OTHER_PATIENT, Decision, Interaction
from server.errors import Forbidden, Gone, NotFound

Where = Callable[[ColumnElement[str]], ColumnElement[bool]]


def is_granted(made: Decision, type_: str, interaction: Interaction) -> bool:
    """Whether any scope covers this."""
    try:
        require(made, type_, interaction)
    except Forbidden:
        return False
    return True


def require(made: Decision, type_: str, interaction: Interaction) -> None:
    """Raises `Forbidden` if no scope covers this at all. Who may see studies may see where they are."""
    if type_ == "Endpoint" and _sees_studies(made, interaction):
        return
    made.require(type_, interaction)


def require_patient(made: Decision, type_: str, interaction: Interaction, patient: str) -> None:
    """Raises `Forbidden` unless the resource of `patient` (empty: of nobody) may be told."""
    if type_ == "Endpoint":
        require(made, type_, interaction)
    else:
        made.require_patient(type_, interaction, patient)


@contextlib.contextmanager
def if_granted(made: Decision, type_: str, interaction: Interaction = Interaction.READ) -> Iterator[None]:
    """Who may not read a type at all is told so, and not whether the resource is there; nor is who may read one patient's.

    It is looked up all the same: the trail of the patient whose it is shall have the attempt (`require_patient`). What raises `Gone` has asked
    whose it was.
    """
    try:
        yield
    except NotFound:
        require_absent(made, type_, interaction)
        raise
    except Gone:
        require(made, type_, interaction)
        raise


def require_absent(made: Decision, type_: str, interaction: Interaction) -> None:
    """Raises `Forbidden` for whom it is not told that there is no such resource: a patient/ scope is answered as for another patient's.

    Ids are often made of what people know, such as a patient's number. FHIR R4 section 6.1, Access Denied Response Handling, leaves it to the server
    how it says that.
    """
    require(made, type_, interaction)
    if confined(made, type_, interaction) is not None:
        raise Forbidden(OTHER_PATIENT)


def confined(made: Decision, type_: str, interaction: Interaction = Interaction.SEARCH) -> frozenset[str] | None:
    """The only patients whose resources of `type_` may be told; None: no limit."""
    return None if type_ == "Endpoint" else made.patients(type_, interaction)


def require_patients(made: Decision, type_: str, patients: frozenset[str], interaction: Interaction = Interaction.SEARCH) -> None:
    """Raises `Forbidden` if one of the patients that are searched for is not the caller's, whether or not there is such a patient."""
    if type_ == "Endpoint":
        require(made, type_, interaction)
    else:
        made.require_patients(type_, interaction, patients)


def allowed(made: Decision, type_: str, interaction: Interaction = Interaction.SEARCH) -> Where:
    """The Decision as SQL, over the column that holds the patient."""

    def where(column: ColumnElement[str]) -> ColumnElement[bool]:
        if type_ == "Binary":  # is its security context's (FHIR R4 section 2.44.2), so that it comes along with nothing
            return false()
        if type_ == "Endpoint" and is_granted(made, type_, interaction):
            return true()
        return made.where(type_, interaction, column)

    return where


def _sees_studies(made: Decision, interaction: Interaction) -> bool:
    return interaction in (Interaction.READ, Interaction.SEARCH) and made.patients("ImagingStudy", interaction) != frozenset()
