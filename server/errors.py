"""One tree of errors, one number per error; each knows how every protocol says it.

    ImageShareError 1000
    |-- SettingsError 1100            the configuration is wrong; the process does not start
    |-- Refused 2000                  the request itself is wrong
    |   |-- MalformedQuery 2001       a search parameter that its standard refuses
    |   |-- MalformedBody 2002        a message or multipart body that is cut off or not what its headers say
    |   |-- MalformedInstance 2101    bytes that are not a complete DICOM instance
    |   |-- InstanceMismatch 2102     the dataset is not what the command or URL announced
    |   |-- NotSupported 2201         known to the standard, not offered here
    |   |-- NotAcceptable 2202        no representation that the client accepts
    |   |-- UnsupportedMediaType 2203 a body of a type that is not taken here
    |   `-- TooLarge 2301             beyond a configured limit
    |-- AccessError 3000
    |   |-- Unauthenticated 3001      no token, or one that is expired, forged or for another server
    |   `-- Forbidden 3002            known, but not allowed
    |-- NotFound 4001                 nothing under this name that may be told of
    |-- Gone 4002                     it was here and is deleted
    |-- Conflict 5000                 it contradicts what is stored
    |   |-- ContentConflict 5001      the same SOP Instance UID with other bytes
    |   `-- PatientConflict 5002      a study or series that belongs to another patient or study
    `-- Unavailable 6000              try again later
        |-- StorageFull 6001          no room left
        `-- Busy 6002                 too many at once

Messages name the rule and the remedy, never a value that a patient could be known by.
"""


class ImageShareError(Exception):
    """The root. `detail` is fit to be sent to the client."""

    number = 1000
    http_status = 500
    fhir_code = "exception"
    """FHIR issue type (R4 ValueSet issue-type)."""
    dimse_status = 0x0110
    """C-STORE status (PS3.4 table B.2-1, PS3.7 annex C)."""
    stow_reason = 0x0110
    """Failure Reason 0008,1197 of a STOW-RS response (PS3.18 section 10.5.3)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class SettingsError(ImageShareError):
    number = 1100


class Refused(ImageShareError):
    number = 2000
    http_status = 400
    fhir_code = "invalid"
    dimse_status = 0xC000
    stow_reason = 0xC000


class MalformedQuery(Refused):
    number = 2001


class MalformedBody(Refused):
    number = 2002
    fhir_code = "structure"


class MalformedInstance(Refused):
    number = 2101
    fhir_code = "structure"
    dimse_status = 0xC000
    stow_reason = 0xC000


class InstanceMismatch(Refused):
    number = 2102
    dimse_status = 0xA900
    stow_reason = 0xA900


class NotSupported(Refused):
    number = 2201
    fhir_code = "not-supported"
    dimse_status = 0x0122
    stow_reason = 0x0122


class NotAcceptable(Refused):
    number = 2202
    http_status = 406
    fhir_code = "not-supported"


class UnsupportedMediaType(Refused):
    number = 2203
    http_status = 415
    fhir_code = "not-supported"


class TooLarge(Refused):
    number = 2301
    http_status = 413
    fhir_code = "too-long"
    dimse_status = 0xA700
    stow_reason = 0xA700


class AccessError(ImageShareError):
    number = 3000
    http_status = 403
    fhir_code = "forbidden"
    dimse_status = 0x0124
    stow_reason = 0x0124


class Unauthenticated(AccessError):
    number = 3001
    http_status = 401
    fhir_code = "login"


class Forbidden(AccessError):
    number = 3002


class NotFound(ImageShareError):
    number = 4001
    http_status = 404
    fhir_code = "not-found"


class Gone(ImageShareError):
    number = 4002
    http_status = 410
    fhir_code = "deleted"


class Conflict(ImageShareError):
    number = 5000
    http_status = 409
    fhir_code = "conflict"
    dimse_status = 0x0111
    stow_reason = 0x0111


class ContentConflict(Conflict):
    number = 5001


class PatientConflict(Conflict):
    number = 5002
    dimse_status = 0xA900
    stow_reason = 0xA900


class Unavailable(ImageShareError):
    number = 6000
    http_status = 503
    fhir_code = "transient"
    dimse_status = 0xA700
    stow_reason = 0xA700


class StorageFull(Unavailable):
    number = 6001
    http_status = 507
    fhir_code = "no-store"


class Busy(Unavailable):
    number = 6002
    fhir_code = "throttled"
