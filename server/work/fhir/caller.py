"""Who asks, and what comes of it: what every interaction of FHIR R4 section 3.1.0 takes and gives, whatever door it came by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Literal

from profiles.fhir.issues import Issue
from server.access.decisions import Decision, Interaction
from server.errors import Forbidden
from server.records.resources import Stored
from server.records.trail import Audited
from server.store.db import moment
from server.work.fhir.listing import Listing

References = Literal["allow", "check"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What an installation decides where the standard leaves it open.

    `update_creates`: an update of what is not there creates it (FHIR R4 section 3.1.0.4.1). `references` that lead to nothing here are
    taken ("allow"), for a resource may come before what it refers to, or refused ("check"). `deletes_many` is whether a conditional delete is of
    all that meet its condition (3.1.0.7.1).
    """

    update_creates: bool = True
    references: References = "allow"
    deletes_many: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """One request: what it may do, and how it asked. `base` is our FHIR base URL, without a slash at its end."""

    decision: Decision
    base: str
    request_id: str = ""
    lenient: bool = False
    rules: Rules = Rules()
    request: object = field(default_factory=object, compare=False, repr=False)
    """Tells requests apart, whatever clients call them: copies of a caller have the same."""

    def require(self, type_: str, interaction: Interaction) -> None:
        """Raises `Forbidden` if no scope covers this at all."""
        self.decision.require(type_, interaction)

    def require_patient(self, type_: str, interaction: Interaction, patient: str) -> None:
        """Raises `Forbidden` unless the caller may do this to one resource of this patient or another; empty is nobody's, or several patients' together."""
        self.decision.require_some(type_, interaction, frozenset([patient]))

    def is_confined(self, type_: str, interaction: Interaction) -> bool:
        """Whether this is for some resources of the type only, such as those of the one patient of a `patient/` scope."""
        return self.decision.is_limited(type_, interaction)

    def require_new(self, type_: str, interaction: Interaction, patient: str) -> None:
        """As `require_patient`, for what is not there yet: a `patient/` scope makes no Patient, not even its own."""
        self.require_patient(type_, interaction, patient)
        if type_ == "Patient" and self.is_confined(type_, interaction):
            raise Forbidden("a patient/ scope makes no Patient")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an interaction. `stored` is the version that is there now; without one nothing is.

    `location` is the URL of a version that was made, else empty; `issues` are told where the client wants an OperationOutcome; `audited`
    is for the trail, in the same transaction. A search or history has a `listing` instead, an operation a resource of its own, as JSON: `made`.
    """

    status: int
    stored: Stored | None = None
    listing: Listing | None = None
    made: bytes = b""
    location: str = ""
    issues: tuple[Issue, ...] = ()
    audited: tuple[Audited, ...] = field(default=())
    removed: tuple[str, ...] = ()
    """The ids of what was deleted by a condition that several met."""

    @property
    def body(self) -> bytes:
        """The resource as JSON, empty where there is none."""
        if self.listing is not None:
            return self.listing.json()
        if self.made:
            return self.made
        return self.stored.body if self.stored is not None and not self.stored.deleted else b""

    @property
    def headers(self) -> Mapping[str, str]:
        """FHIR R4 section 3.1.0.1.3: ETag and Last-Modified of the version that is there now, Location of one that was made."""
        made: dict[str, str] = {}
        if self.stored is not None:
            made["ETag"] = self.stored.etag
            made["Last-Modified"] = format_datetime(moment(self.stored.updated), usegmt=True)
        if self.location:
            made["Location"] = self.location
        return made
