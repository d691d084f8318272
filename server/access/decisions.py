"""The Decision: what the caller of one request may do, compiled into the SQL of searches and checked on every retrieve.

Scopes follow SMART App Launch 2.2 (scopes and launch context), v2 `patient/ImagingStudy.rs` and v1 `patient/*.read`.
A scope with a query opens the resources that meet it (`access.constraints`), a token for single studies what is about those (`access.studies`), and
of both what consents do not withhold (`access.consents`). Who asks for SQL of rows has all of that; who asks by the patient alone has less.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, and_, false, literal, or_, select, true
from sqlalchemy.sql.elements import True_

from profiles.smart.scopes import Interaction, Scope, parse_scopes
from server.access import constraints, studies
from server.access.consent_whose import is_shared
from server.access.consents import NOTHING, Withheld
from server.errors import AccessError, Forbidden, NotFound
from server.records.catalogue import PATIENT, SERIES, STUDY
from server.records.fhir_search.matches import ResourceRow, Whose
from server.records.fhir_search.terms import RESOURCE

__all__ = ["OTHER_PATIENT", "Decision", "Interaction", "Scope", "everything", "parse_scopes"]

ONLY_LOOKS: Final = "these images were shared to be looked at, not to be downloaded; ask whoever shared them"
IMAGING_STUDY: Final = "ImagingStudy"
RESERVED: Final = frozenset({"Consent", "PractitionerRole"})
"""Types that say who may see what. Whom they bind does not write them, whatever the scopes (`Decision.writes`)."""
OTHER_PATIENT = "the token is for another patient"
"""What is said of another patient's data, whether or not there are any."""


class Unseen(NotFound, AccessError):
    """What is told of what consents withhold: as if it were not there. To the trail it is a refusal; `patients` are whose it is."""

    def __init__(self, detail: str, patients: frozenset[str]) -> None:
        super().__init__(detail)
        self.patients = patients


@dataclass(frozen=True, slots=True)
class Asserted:
    """The user of whom a SAML assertion of `issuer` speaks, and as audit messages name them: `alias<user@issuer>` (ITI TF-2 section 3.40.4.2)."""

    identifier: str
    issuer: str
    user_name: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the caller may do. `subject` names the caller in the audit trail, `patient` is the token's patient context.

    A `patient/` scope opens the compartment of that one patient and nothing without one; `user/` and `system/` scopes open every
    patient whom the caller reaches.
    """

    subject: str
    scopes: tuple[Scope, ...]
    patient: str | None = None
    token_id: str = field(default="", repr=False)
    user: str = ""
    """Who asks through the client, as a relative reference; empty for a client by itself."""
    account: str = ""
    reach: frozenset[str] | None = None
    """Patients whom the user, or a client by itself, may see by own right; None: every one."""
    studies: frozenset[str] | None = None
    """Study Instance UIDs, where the token opens those alone."""
    actors: frozenset[str] = frozenset()
    """References by which a Consent may name the caller."""
    purposes: frozenset[str] = frozenset()
    """Codes of v3-ActReason, such as TREAT; BTG for break-glass."""
    grant: str = ""
    """Id of the `access_grant`; empty for a token of the command line."""
    withheld: Withheld = NOTHING
    """What consents keep from the caller."""
    writes: frozenset[str] = RESERVED
    """Which of the `RESERVED` types the caller may write."""
    known_as: str = ""
    """What `patient` is called where a foreign token comes from, which is another id than here; searches may say either."""
    issuer: str = ""
    """The foreign authorization server whose token it is; empty for ours."""
    asserted: Asserted | None = None
    """Whom a SAML assertion names; not for a token."""
    share: str = ""
    """Id of the share by which somebody sees what a patient has opened to them."""
    only_looks: bool = False
    """Whether images are only to be looked at: no object leaves as a whole, in any form (`require_taking`)."""

    @property
    def grants_any(self) -> bool:
        """Whether there is a scope at all that opens something."""
        return any(
            (scope.context != "patient" or self.patient) and (not scope.query or constraints.opens(scope.type, scope.query))
            for scope in self.scopes
        )

    def require_taking(self) -> None:
        """Raises `Forbidden` where images may be looked at, and not be taken away as the objects that they are."""
        if self.only_looks:
            raise Forbidden(ONLY_LOOKS, frozenset([self.patient or ""]))

    # --- by the patient alone

    def patients(self, type_: str, interaction: Interaction) -> frozenset[str] | None:
        """The patients of whom the caller may do this to every `type_` resource that consents do not withhold; None means every patient."""
        if self.studies is not None:
            return frozenset()
        return self._of(scope for scope in self._granting(type_, interaction) if not scope.query)

    def require_patient(self, type_: str, interaction: Interaction, patient: str) -> None:
        """Raises `Forbidden` unless the caller may do this to this patient's resources. Same words whether he exists or not."""
        self.require_patients(type_, interaction, frozenset([patient]))

    def require_patients(self, type_: str, interaction: Interaction, patients: frozenset[str]) -> None:
        """The same for each of `patients`. The error says for the trail whose resources were refused."""
        self._require(type_, interaction, patients, self.patients(type_, interaction))

    def where(self, type_: str, interaction: Interaction, patient_column: ColumnElement[str]) -> ColumnElement[bool]:
        """The Decision as SQL for what has a patient and is no row of `resource`: less than `rows` where it takes more to tell."""
        return _and(
            _among(self.patients(type_, interaction), patient_column), self._told(type_, interaction, Whose(patient_column))
        )

    def sees_whose(self, connection: Connection, type_: str, interaction: Interaction, patient: str) -> bool:
        """Whether `where` has what is this patient's."""
        if not self._withholds(interaction):
            allowed = self.patients(type_, interaction)
            return allowed is None or patient in allowed
        found = select(1).where(self.where(type_, interaction, literal(patient)))
        return connection.execute(found).first() is not None

    # --- by the resource

    def some_of(self, type_: str, interaction: Interaction) -> frozenset[str] | None:
        """The patients of whom the caller may do this to one `type_` resource or another; None means every patient."""
        return self._of(self._granting(type_, interaction))

    def is_limited(self, type_: str, interaction: Interaction) -> bool:
        """Whether the caller may do this to some `type_` resources only, before any consent."""
        return self.patients(type_, interaction) is not None

    def is_by_patient(self, type_: str, interaction: Interaction) -> bool:
        """Whether `patients` says all, so that no resource needs to be looked at."""
        return self.studies is None and not self._constrained(type_, interaction) and not self._withholds(interaction)

    def require(self, type_: str, interaction: Interaction) -> None:
        """Raises `Forbidden` if no scope covers this at all."""
        if self._is_reserved(type_, interaction):
            raise Forbidden(f"{type_} says who may see what: it is not written with this token, whatever its scopes")
        if self.some_of(type_, interaction) == frozenset():
            raise Forbidden(f"the token grants no scope for {type_} that includes '{interaction.value}'")

    def require_some(self, type_: str, interaction: Interaction, patients: frozenset[str]) -> None:
        """Raises `Forbidden` unless the caller may do this to one resource or another of each of `patients`; then `sees` says to which."""
        self._require(type_, interaction, patients, self.some_of(type_, interaction))

    def rows(self, type_: str, interaction: Interaction, row: ResourceRow) -> ColumnElement[bool]:
        """The Decision as SQL over a row of `resource`, of this type: true for what the caller may do this to. `true()` itself for everything."""
        return _and(self.granted(type_, interaction, row), self._told(type_, interaction, row))

    def granted(self, type_: str, interaction: Interaction, row: ResourceRow) -> ColumnElement[bool]:
        """The same before any consent: what scopes, the caller's own right and the token's studies open."""
        if isinstance(row, Whose):
            return _among(self.patients(type_, interaction), row.patient)
        patient: ColumnElement[str] = row.c.patient
        whole = _among(self._of(each for each in self._granting(type_, interaction) if not each.query), patient)
        parts = [
            and_(_among(self._of([each]), patient), constraints.where(type_, each.query, row))
            for each in self._constrained(type_, interaction)
        ]
        opened = or_(whole, *parts) if parts else whole
        if self.studies is None:
            return opened
        if type_ == "Patient" and interaction not in (Interaction.READ, Interaction.SEARCH):
            return false()  # whose the study is may be known, no more
        return and_(opened, studies.about(type_, row, self.studies))

    def earlier(
        self, type_: str, interaction: Interaction, row: FromClause, version: FromClause | None = None
    ) -> ColumnElement[bool]:
        """Whether the caller may know of a resource also what it was before, and that it was there: where that does not depend on its content.

        With `version`, the row of one of its versions: of this one. Whose a version was, or something deleted, that could be several patients', is
        not known if it names none.
        """
        opened = _among(self.patients(type_, interaction), row.c.patient)
        if not self._withholds(interaction):
            return opened
        tests = [opened, self.withheld.untouched(type_, row)]
        if is_shared(type_):
            tests += [or_(row.c.deleted == 0, row.c.patient != ""), *([] if version is None else [version.c.patient != ""])]
        return and_(*tests)

    def sees(self, connection: Connection, type_: str, interaction: Interaction, id_: str, *, now: bool = True) -> bool:
        """Whether `rows` has the resource of this id; with `now` False, whether `earlier` has it too. The patient is to be asked for before."""
        if self.is_by_patient(type_, interaction):
            return True
        tests = [self.rows(type_, interaction, RESOURCE)]
        tests += [] if now else [self.earlier(type_, interaction, RESOURCE)]
        return _there(connection, type_, id_, *tests)

    def may_be(self, connection: Connection, type_: str, interaction: Interaction, id_: str) -> bool:
        """Whether `granted` has the resource of this id, which was just written. The patient is to be asked for before."""
        if self.studies is None and not self._constrained(type_, interaction):
            return True
        return _there(connection, type_, id_, self.granted(type_, interaction, RESOURCE))

    # --- studies

    def studies_where(self, interaction: Interaction, series: ColumnElement[str] | None = None) -> ColumnElement[bool]:
        """The Decision as SQL over the catalogue's `study` and `patient`: studies that the caller may do this to, as their ImagingStudies.

        With `series`, a column of Series Instance UIDs: those of their series, of which consents may withhold some alone. Without, studies of
        which nothing is withheld.
        """
        if self.is_by_patient(IMAGING_STUDY, interaction):
            return _among(self.patients(IMAGING_STUDY, interaction), PATIENT.c.id)
        row = RESOURCE.alias()
        found = [row.c.type == IMAGING_STUDY, row.c.id == STUDY.c.id, self.granted(IMAGING_STUDY, interaction, row)]
        if self._withholds(interaction):
            found.append(self.withheld.told(IMAGING_STUDY, row, series))
        return select(row.c.pk).where(*found).correlate_except(row).exists()

    def sees_study(self, connection: Connection, interaction: Interaction, uid: str, series: str | None = None) -> bool:
        """Whether `studies_where` has the study, whole, or one of its series. The patient is to be asked for before."""
        if self.is_by_patient(IMAGING_STUDY, interaction):
            return True
        where = self.studies_where(interaction, None if series is None else literal(series))
        return connection.execute(select(STUDY.c.pk).where(STUDY.c.uid == uid, where)).first() is not None

    def seen_series(self, connection: Connection, interaction: Interaction, uid: str) -> frozenset[str]:
        """The UIDs of the study's series that the caller may do this to, if its patient is his."""
        found = (
            select(SERIES.c.uid).join(STUDY, SERIES.c.study_pk == STUDY.c.pk).join(PATIENT, STUDY.c.patient_pk == PATIENT.c.pk)
        )
        return frozenset(
            connection.execute(found.where(STUDY.c.uid == uid, self.studies_where(interaction, SERIES.c.uid))).scalars()
        )

    def unseen(self, type_: str, interaction: Interaction, patient: str, nothing: str) -> "Forbidden | Unseen":
        """The error for something of `patient` that the caller may not know of: that of what is not there, said in `nothing`.

        The trail of that patient is to have it.
        """
        if self.is_limited(type_, interaction):
            return Forbidden(OTHER_PATIENT, frozenset([patient]))
        return Unseen(nothing, frozenset([patient]))

    def _told(self, type_: str, interaction: Interaction, row: ResourceRow) -> ColumnElement[bool]:
        return self.withheld.told(type_, row) if self._withholds(interaction) else true()

    def _withholds(self, interaction: Interaction) -> bool:
        """Consents are about what is told, and changed by who may not know of it; what is new is nobody's yet."""
        return interaction is not Interaction.CREATE and not self.withheld.is_nothing

    def _is_reserved(self, type_: str, interaction: Interaction) -> bool:
        return type_ in RESERVED - self.writes and interaction not in (Interaction.READ, Interaction.SEARCH)

    def _granting(self, type_: str, interaction: Interaction) -> tuple[Scope, ...]:
        if self._is_reserved(type_, interaction):
            return ()
        return tuple(
            each
            for each in self.scopes
            if each.covers(type_, interaction) and (not each.query or constraints.is_understood(type_, each.query))
        )

    def _constrained(self, type_: str, interaction: Interaction) -> tuple[Scope, ...]:
        """Scopes with a query that open something which no other does."""
        granting = self._granting(type_, interaction)
        whole = self._of(each for each in granting if not each.query)
        if whole is None:
            return ()
        return tuple(each for each in granting if each.query and not _within(self._of([each]), whole))

    def _of(self, scopes: Iterable[Scope]) -> frozenset[str] | None:
        """The patients whom these scopes are for, as far as the caller reaches them."""
        contexts = {scope.context for scope in scopes}
        if contexts - {"patient"}:
            return self.reach
        own = frozenset([self.patient]) if contexts and self.patient else frozenset()
        return own if self.reach is None else own & self.reach

    def _require(self, type_: str, interaction: Interaction, patients: frozenset[str], allowed: frozenset[str] | None) -> None:
        try:
            self.require(type_, interaction)
        except Forbidden as error:
            raise Forbidden(error.detail, patients) from None
        if allowed is not None and not patients <= allowed:
            raise Forbidden(OTHER_PATIENT, patients - allowed)


def _within(some: frozenset[str] | None, whole: frozenset[str]) -> bool:
    return some is not None and some <= whole


def _among(patients: frozenset[str] | None, column: ColumnElement[str]) -> ColumnElement[bool]:
    if patients is None:
        return true()
    return column.in_(sorted(patients)) if patients else false()


def _and(one: ColumnElement[bool], other: ColumnElement[bool]) -> ColumnElement[bool]:
    """Both; `true()` itself where that is what both are."""
    if isinstance(other, True_):
        return one
    return other if isinstance(one, True_) else and_(one, other)


def _there(connection: Connection, type_: str, id_: str, *tests: ColumnElement[bool]) -> bool:
    found = select(RESOURCE.c.pk).where(RESOURCE.c.type == type_, RESOURCE.c.id == id_, *tests)
    return connection.execute(found).first() is not None


def everything(subject: str) -> Decision:
    """A trusted partner's Decision: a peer that its connection has authenticated (SOAP from loopback, a known AE)."""
    return Decision(subject, parse_scopes("system/*.cruds"))
