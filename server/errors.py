"""One tree of errors, one number per error; each knows how every protocol says it.

    ImageShareError 1000
    |-- SettingsError 1100            the configuration is wrong; the process does not start
    |-- Refused 2000                  the request itself is wrong
    |   |-- MalformedQuery 2001       a search parameter that its standard refuses
    |   |-- MalformedBody 2002        a message or multipart body that is cut off or not what its headers say
    |   |-- MalformedInstance 2101    bytes that are not a complete DICOM instance
    |   |-- InstanceMismatch 2102     the dataset is not what the command or URL announced
    |   |-- WrongAttributes 2103      attributes of a managed SOP Instance that its service does not take
    |   |-- NotSupported 2201         known to the standard, not offered here
    |   |-- NotAcceptable 2202        no representation that the client accepts
    |   |-- UnsupportedMediaType 2203 a body of a type that is not taken here
    |   |-- TooLarge 2301             beyond a configured limit
    |   |-- TooSlow 2302              a body that does not arrive in time
    |   `-- Invalid 2401              a resource that its definition or a rule refuses, with an issue for each element at fault
    |       `-- Contradiction 2402    a resource that says otherwise than the DICOM catalogue
    |-- AccessError 3000
    |   |-- Unauthenticated 3001      no token, or one that is expired, forged or for another server
    |   |-- Forbidden 3002            known, but not allowed
    |   |-- SignInRefused 3003        a person did not sign in; why is never said
    |   |-- TooManyAttempts 3004      guesses, or requests for codes, faster than is taken
    |   `-- StepUpNeeded 3005         signed in, but not strongly or recently enough for this
    |-- NotFound 4001                 nothing under this name that may be told of
    |-- Gone 4002                     it was here and is deleted
    |-- Conflict 5000                 it contradicts what is stored
    |   |-- ContentConflict 5001      the same SOP Instance UID with other bytes
    |   |-- PatientConflict 5002      a study or series that belongs to another patient or study
    |   |-- RejectedInstance 5003     an instance that was rejected or deleted here
    |   |-- LegallyHeld 5004          a study that may not be deleted
    |   |-- StepEnded 5005            a performed step that may no longer be changed
    |   |-- WorkitemConflict 5006     a workitem whose state or lock does not allow it
    |   `-- PreconditionFailed 5007   If-Match names another version, or a condition is met by several resources
    `-- Unavailable 6000              try again later
        |-- StorageFull 6001          no room left
        `-- Busy 6002                 too many at once

Messages name the rule and the remedy, never a value that a patient could be known by.
"""

import re
from collections.abc import Iterable
from typing import Final

from profiles.fhir.issues import Issue

_LONGEST_LO: Final = 64
_CITATION: Final = re.compile(r" \([A-Z][^()]*\)")


class ImageShareError(Exception):
    """The root. `detail` is fit to be sent to the client; `short` too, where there is room for a line only."""

    number = 1000
    http_status = 500
    fhir_code = "exception"
    """FHIR issue type (R4 ValueSet issue-type)."""
    dimse_status = 0x0110
    """C-STORE status (PS3.4 table B.2-1, PS3.7 annex C)."""
    stow_reason = 0x0110
    """Failure Reason 0008,1197 of a STOW-RS response (PS3.18 section 10.5.3)."""
    summary = "the server could not do it"
    """What every error of this class has in common, in at most 64 characters."""

    def __init__(self, detail: str, short: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self._short = short

    @property
    def short(self) -> str:
        """Error Comment (0000,0902), a Long String of at most 64 characters (PS3.7 annex C, PS3.5 table 6.2-1). Never cut in a phrase.

        What the raiser gave, else `detail` without the paragraphs that it cites, else what stands before its first semicolon
        (the rule; the remedy comes after it), else what the class says.
        """
        whole = _CITATION.sub("", self.detail)
        for text in (self._short, whole, whole.partition(";")[0]):
            if 0 < len(text) <= _LONGEST_LO:
                return text
        return self.summary


class SettingsError(ImageShareError):
    number = 1100
    summary = "the configuration is wrong"


class Refused(ImageShareError):
    number = 2000
    http_status = 400
    fhir_code = "invalid"
    dimse_status = 0xC000
    stow_reason = 0xC000
    summary = "the request is refused"


class MalformedQuery(Refused):
    number = 2001
    summary = "a parameter is wrong"


class MalformedBody(Refused):
    number = 2002
    fhir_code = "structure"
    summary = "the body is malformed"


class MalformedInstance(Refused):
    number = 2101
    fhir_code = "structure"
    dimse_status = 0xC000
    stow_reason = 0xC000
    summary = "these bytes are not a complete DICOM instance"


class InstanceMismatch(Refused):
    number = 2102
    dimse_status = 0xA900
    stow_reason = 0xA900
    summary = "the data set is not what was announced"


class WrongAttributes(Refused):
    """`dimse_status` is that of PS3.7 annex C that fits, `tags` are the attributes at fault."""

    number = 2103
    dimse_status = 0x0106
    stow_reason = 0x0110
    summary = "an attribute is missing or has a value that is not taken"

    def __init__(self, detail: str, status: int = 0x0106, tags: tuple[int, ...] = ()) -> None:
        super().__init__(detail)
        self.dimse_status = status
        self.tags = tags


class NotSupported(Refused):
    number = 2201
    fhir_code = "not-supported"
    dimse_status = 0x0122
    stow_reason = 0x0122
    summary = "this is not supported here"


class NotAcceptable(Refused):
    number = 2202
    http_status = 406
    fhir_code = "not-supported"
    summary = "this is not offered in a form that was asked for"


class UnsupportedMediaType(Refused):
    number = 2203
    http_status = 415
    fhir_code = "not-supported"
    summary = "a body of this type is not taken here"


class TooLarge(Refused):
    number = 2301
    http_status = 413
    fhir_code = "too-long"
    dimse_status = 0xA700
    stow_reason = 0xA700
    summary = "this is larger than is taken here"


class TooSlow(Refused):
    """A request of which too little arrives: whoever sends it holds a connection that others want."""

    number = 2302
    http_status = 408
    fhir_code = "timeout"
    summary = "the request took too long to arrive"


class Invalid(Refused):
    """`issues` say what is wrong, element by element; `status` is 400 for what is no valid resource, 422 for what a rule here refuses."""

    number = 2401
    summary = "the resource is not valid"

    def __init__(self, issues: Iterable[Issue], status: int = 400) -> None:
        self.issues = tuple(issues)
        super().__init__(self.issues[0].diagnostics)
        self.fhir_code = self.issues[0].code
        self.http_status = status


class Contradiction(Invalid):
    """`expression` is the element that the catalogue owns."""

    number = 2402
    summary = "this contradicts the DICOM catalogue"

    def __init__(self, detail: str, expression: str) -> None:
        super().__init__([Issue("error", "business-rule", expression, detail)], status=422)
        self.expression = expression


class AccessError(ImageShareError):
    number = 3000
    http_status = 403
    fhir_code = "forbidden"
    dimse_status = 0x0124
    stow_reason = 0x0124
    summary = "access is denied"


class Unauthenticated(AccessError):
    number = 3001
    http_status = 401
    fhir_code = "login"
    summary = "a valid token is needed"


class Forbidden(AccessError):
    """`patients` are the resource ids of those whose data were refused, as far as is known: for the trail, never for the answer."""

    number = 3002
    summary = "this is not allowed"

    def __init__(self, detail: str, patients: frozenset[str] = frozenset()) -> None:
        super().__init__(detail)
        self.patients = patients - {""}


class SignInRefused(AccessError):
    """The same words whatever was wrong, and whatever who raises it knows: no such account, a wrong secret, one that is over, a lockout."""

    number = 3003
    http_status = 401
    fhir_code = "login"
    summary = "this did not work"

    def __init__(self, _: str = "") -> None:
        super().__init__("this did not work; check what you typed, or wait a few minutes and try again")


class TooManyAttempts(AccessError):
    """`retry_after` is in seconds."""

    number = 3004
    http_status = 429
    fhir_code = "throttled"
    summary = "too many attempts; wait a little and try again"

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many attempts; wait a little and try again")
        self.retry_after = retry_after


class StepUpNeeded(AccessError):
    """`by` is the way in which it has to be, such as `code`; empty for the strongest of the account."""

    number = 3005
    summary = "sign in again, with the strongest way of this account"

    def __init__(self, detail: str, by: str = "") -> None:
        super().__init__(detail)
        self.by = by


class NotFound(ImageShareError):
    number = 4001
    http_status = 404
    fhir_code = "not-found"
    summary = "this is not here"


class Gone(ImageShareError):
    number = 4002
    http_status = 410
    fhir_code = "deleted"
    summary = "this was deleted"


class Conflict(ImageShareError):
    number = 5000
    http_status = 409
    fhir_code = "conflict"
    dimse_status = 0x0111
    stow_reason = 0x0111
    summary = "this contradicts what is stored"


class ContentConflict(Conflict):
    number = 5001
    summary = "this UID is stored with other content"


class PatientConflict(Conflict):
    number = 5002
    dimse_status = 0xA900
    stow_reason = 0xA900
    summary = "this UID belongs to another patient or study"


class RejectedInstance(Conflict):
    """IHE RAD IOCM has no status for it; 0xA770 is what dcm4chee says of a subsequent occurrence of a rejected object."""

    number = 5003
    dimse_status = 0xA770
    stow_reason = 0xA770
    summary = "this instance was rejected or deleted here"


class LegallyHeld(Conflict):
    number = 5004
    summary = "this study is under a legal hold"


class StepEnded(Conflict):
    """`error_id` is its Error ID (0000,0903): PS3.4 table F.7.2-2."""

    number = 5005
    dimse_status = 0x0110
    error_id = 0xA710
    summary = "Performed Procedure Step Object may no longer be updated"


class WorkitemConflict(Conflict):
    """`dimse_status` is that of PS3.4 tables CC.2.1-2, CC.2.2-2 and CC.2.6-2, `warning` what PS3.18 section 11 has in the Warning header."""

    number = 5006
    summary = "the state of the workitem does not allow it"

    def __init__(self, detail: str, status: int, http_status: int, warning: str) -> None:
        super().__init__(detail)
        self.dimse_status = status
        self.http_status = http_status
        self.warning = warning


class PreconditionFailed(Conflict):
    """`code` is a FHIR issue type: `conflict` for another version, `multiple-matches` for a condition that several meet."""

    number = 5007
    http_status = 412
    summary = "a precondition of the request does not hold"

    def __init__(self, detail: str, code: str = "conflict") -> None:
        super().__init__(detail)
        self.fhir_code = code


class Unavailable(ImageShareError):
    number = 6000
    http_status = 503
    fhir_code = "transient"
    dimse_status = 0xA700
    stow_reason = 0xA700
    summary = "this is not possible now; try again later"


class StorageFull(Unavailable):
    number = 6001
    http_status = 507
    fhir_code = "no-store"
    summary = "the server has no room left; try again later"


class Busy(Unavailable):
    number = 6002
    fhir_code = "throttled"
    summary = "the server is busy; try again"
