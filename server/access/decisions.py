"""The Decision: what the caller of one request may do, compiled into the SQL of searches and checked on every retrieve.

Scopes follow SMART App Launch 2.2 (scopes and launch context), v2 `patient/ImagingStudy.rs` and v1 `patient/*.read`.
A scope with a query constraint grants nothing here yet: narrower than asked is safe, wider is not.
"""

from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, false, true

from profiles.smart.scopes import Interaction, Scope, parse_scopes
from server.errors import Forbidden

__all__ = ["OTHER_PATIENT", "Decision", "Interaction", "Scope", "everything", "parse_scopes"]

OTHER_PATIENT = "the token is for another patient"
"""What is said of another patient's data, whether or not there are any."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the caller may do. `subject` names the caller in the audit trail, `patient` is the token's patient context.

    A `patient/` scope opens the compartment of that one patient and nothing without one; `user/` and `system/` scopes
    open every patient, as long as consent and users' own rights are not kept here.
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

    @property
    def grants_any(self) -> bool:
        """Whether there is a scope at all that opens something."""
        return any(scope.context != "patient" or self.patient for scope in self.scopes if not scope.query)

    def patients(self, type_: str, interaction: Interaction) -> frozenset[str] | None:
        """The patients whose `type_` resources the caller may do this to; None means every patient."""
        granted = [scope for scope in self.scopes if not scope.query and scope.covers(type_, interaction)]
        if any(scope.context != "patient" for scope in granted):
            return self.reach
        own = frozenset([self.patient]) if granted and self.patient else frozenset()
        return own if self.reach is None else own & self.reach

    def require(self, type_: str, interaction: Interaction) -> None:
        """Raises `Forbidden` if no scope covers this at all."""
        if self.patients(type_, interaction) == frozenset():
            raise Forbidden(f"the token grants no scope for {type_} that includes '{interaction.value}'")

    def require_patient(self, type_: str, interaction: Interaction, patient: str) -> None:
        """Raises `Forbidden` unless the caller may do this to this patient's resources. Same words whether he exists or not."""
        self.require_patients(type_, interaction, frozenset([patient]))

    def require_patients(self, type_: str, interaction: Interaction, patients: frozenset[str]) -> None:
        """The same for each of `patients`. The error says for the trail whose resources were refused."""
        try:
            self.require(type_, interaction)
        except Forbidden as error:
            raise Forbidden(error.detail, patients) from None
        allowed = self.patients(type_, interaction)
        if allowed is not None and not patients <= allowed:
            raise Forbidden(OTHER_PATIENT, patients - allowed)

    def where(self, type_: str, interaction: Interaction, patient_column: ColumnElement[str]) -> ColumnElement[bool]:
        """The Decision as SQL: true for the rows whose patient the caller may see."""
        allowed = self.patients(type_, interaction)
        if allowed is None:
            return true()
        return patient_column.in_(sorted(allowed)) if allowed else false()


def everything(subject: str) -> Decision:
    """A trusted partner's Decision: a peer that its connection has authenticated (SOAP from loopback, a known AE)."""
    return Decision(subject, parse_scopes("system/*.cruds"))
