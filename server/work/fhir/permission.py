"""How the Decision applies to FHIR types: most are in a patient's compartment, an Endpoint is in nobody's."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from sqlalchemy import ColumnElement, Connection, FromClause, and_, false, or_, true

from server.access.decisions import OTHER_PATIENT, Decision, Interaction
from server.errors import Forbidden, Gone, NotFound
from server.records import history
from server.records.fhir_search import Allowed, ResourceRow

Where = Callable[[FromClause], ColumnElement[bool]]


def is_granted(made: Decision, type_: str, interaction: Interaction) -> bool:
    """Whether any scope covers this."""
    try:
        require(made, type_, interaction)
    except Forbidden:
        return False
    return True


def require(made: Decision, type_: str, interaction: Interaction) -> None:
    """Raises `Forbidden` if no scope covers this at all. Who may see studies may see where they are."""
    if _is_open(type_, interaction) and made.some_of("ImagingStudy", interaction) != frozenset():
        return
    made.require(type_, interaction)


def require_resource(
    connection: Connection, made: Decision, type_: str, interaction: Interaction, id_: str, patient: str, *, now: bool = True
) -> None:
    """Raises `Forbidden`, or `Unseen`, unless the caller may do this to a resource of `patient` (empty: of nobody) that is there.

    `now` False: to what it was before, or to know that it was there. What consents keep from somebody who is not limited otherwise is answered as
    what is not there.
    """
    if _is_open(type_, interaction):
        require(made, type_, interaction)
        return
    made.require_some(type_, interaction, frozenset([patient]))
    if not made.sees(connection, type_, interaction, id_, now=now):
        raise made.unseen(type_, interaction, patient, f"there is no {type_} with this id")


@contextlib.contextmanager
def if_granted(made: Decision, type_: str, interaction: Interaction = Interaction.READ) -> Iterator[None]:
    """Who may not read a type at all is told so, and not whether the resource is there; nor is who may read one patient's.

    It is looked up all the same: the trail of the patient whose it is shall have the attempt (`require_resource`). What raises `Gone` has asked
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
    if is_limited(made, type_, interaction):
        raise Forbidden(OTHER_PATIENT)


def confined(made: Decision, type_: str, interaction: Interaction = Interaction.SEARCH) -> frozenset[str] | None:
    """The only patients of whose `type_` resources one or another may be told; None: no such limit."""
    return None if _is_open(type_, interaction) else made.some_of(type_, interaction)


def is_limited(made: Decision, type_: str, interaction: Interaction = Interaction.SEARCH) -> bool:
    """Whether some resources of the type only may be told, before any consent."""
    return not _is_open(type_, interaction) and made.is_limited(type_, interaction)


def is_by_patient(made: Decision, type_: str, interaction: Interaction = Interaction.SEARCH) -> bool:
    """Whether `confined` says all of what may be told."""
    return _is_open(type_, interaction) or made.is_by_patient(type_, interaction)


def require_patients(made: Decision, type_: str, patients: frozenset[str], interaction: Interaction = Interaction.SEARCH) -> None:
    """Raises `Forbidden` if one of the patients that are searched for is not the caller's, whether or not there is such a patient."""
    if _is_open(type_, interaction):
        require(made, type_, interaction)
    else:
        made.require_some(type_, interaction, patients)


def allowed(made: Decision, interaction: Interaction = Interaction.SEARCH) -> Allowed:
    """The Decision as SQL, for a type over a resource's row."""

    def where(type_: str, row: ResourceRow) -> ColumnElement[bool]:
        if type_ == "Binary":  # is its security context's (FHIR R4 section 2.44.2), so that it comes along with nothing
            return false()
        if _is_open(type_, interaction) and is_granted(made, type_, interaction):
            return true()
        return made.rows(type_, interaction, row)

    return where


def together(made: Decision, types: Iterable[str], interaction: Interaction = Interaction.SEARCH) -> dict[tuple[str, ...], Where]:
    """The Decision as SQL, of types that may be told: those together that it says the same of."""
    where, alike = allowed(made, interaction), dict[object, list[str]]()
    for each in types:
        same = is_by_patient(made, each, interaction) and each != "Binary"
        alike.setdefault(confined(made, each, interaction) if same else each, []).append(each)
    return {tuple(group): partial(where, group[0]) for group in alike.values()}


def versions(made: Decision, types: Iterable[str], interaction: Interaction) -> history.Allowed:
    """The Decision as SQL over a resource's row and that of a version. A version is for those who may see whose it was and whose the resource is now.

    Rows of searches say what a resource is now: where it takes these to decide, only the version that is there now is told.
    """
    groups = together(made, types, interaction)

    def where(row: FromClause, version: FromClause) -> ColumnElement[bool]:
        tests = (
            and_(row.c.type.in_(each), of(row), *_of_version(made, each[0], interaction, row, version))
            for each, of in groups.items()
        )
        return or_(false(), *tests)

    return where


def _of_version(
    made: Decision, type_: str, interaction: Interaction, row: FromClause, version: FromClause
) -> Iterator[ColumnElement[bool]]:
    """What a version has to be besides."""
    whom = confined(made, type_, interaction)
    if whom is not None:
        yield version.c.patient.in_(sorted(whom))
    if not is_by_patient(made, type_, interaction):
        is_there = and_(row.c.deleted == 0, version.c.version == row.c.version)
        was = made.earlier(type_, interaction, row, version), made.where(type_, interaction, version.c.patient)
        yield or_(is_there, and_(*was))


def _is_open(type_: str, interaction: Interaction) -> bool:
    """Whether all resources of the type are for whoever may see any: Endpoints, to be looked at. They are changed as other resources of nobody's are."""
    return type_ == "Endpoint" and interaction in (Interaction.READ, Interaction.SEARCH)
