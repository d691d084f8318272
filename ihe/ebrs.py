"""ebRS 3.0 answers: RegistryResponse, RegistryErrorList, status (ITI TF-3 section 4.2.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lxml.etree import _Element

from ihe import xml

SUCCESS: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
# IHE's own: ebRS has no such status (ITI TF-3 section 4.2.4.2).
PARTIAL_SUCCESS: Final = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"

ERROR: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
WARNING: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"
_LONGEST: Final = 1000


class RegistryRefusal(Exception):
    """A request that is answered with status Failure and `errors`."""

    def __init__(self, errors: Sequence["RegistryError"]) -> None:
        super().__init__("; ".join(f"{error.code}: {error.context}" for error in errors))
        self._errors = tuple(errors)

    @property
    def errors(self) -> tuple["RegistryError", ...]:
        """What goes into the RegistryErrorList."""
        return self._errors


class RegistryError(RegistryRefusal):
    """One RegistryError (ITI TF-3 table 4.2.4.1-2): a value, and also the refusal that it stands for.

    `code` from ITI TF-3 table 4.2.4.1-2 (`XDSStoredQueryMissingParam`), `context` a sentence for a person, `location`
    what it is about (a document's unique id, a home community id; empty if none), `severity` `ERROR` or `WARNING`.
    `sent` is a value of the sender's own that the answer repeats after the context, and nothing else may have: a patient id.
    """

    def __init__(self, code: str, context: str, location: str = "", severity: str = ERROR, sent: str = "") -> None:
        self.code = code
        self.context = context
        self.location = location
        self.severity = severity
        self.sent = sent[:_LONGEST]
        super().__init__((self,))

    @property
    def errors(self) -> tuple["RegistryError", ...]:
        """Itself alone."""
        return (self,)

    def _key(self) -> tuple[str, ...]:
        return (self.code, self.context, self.location, self.severity, self.sent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegistryError) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """ITI TF-3 section 4.2.4: status and errors of an answer."""

    status: str
    errors: tuple[RegistryError, ...] = ()


def response_to(errors: Sequence[RegistryError], results: bool) -> RegistryResponse:
    """The status that follows: Success without errors (warnings allowed), else PartialSuccess if there are `results`."""
    if all(error.severity == WARNING for error in errors):
        return RegistryResponse(SUCCESS, tuple(errors))
    return RegistryResponse(PARTIAL_SUCCESS if results else FAILURE, tuple(errors))


def fill(element: _Element, response: RegistryResponse) -> None:
    """Writes `response` into an element of RegistryResponseType: its `status` and its RegistryErrorList."""
    element.set("status", response.status)
    if not response.errors:
        return
    highest = ERROR if any(error.severity == ERROR for error in response.errors) else response.errors[0].severity
    listed = xml.child(element, xml.RS, "RegistryErrorList", highestSeverity=highest)
    for error in response.errors:
        context = f"{error.context}: {error.sent}" if error.sent else error.context
        made = xml.child(listed, xml.RS, "RegistryError", codeContext=context, errorCode=error.code, severity=error.severity)
        if error.location:
            made.set("location", xml.clean(error.location))


def to_element(response: RegistryResponse) -> _Element:
    """`response` as `rs:RegistryResponse`."""
    element = xml.element(xml.RS, "RegistryResponse")
    fill(element, response)
    return element


def read(element: _Element) -> RegistryResponse:
    """The status and errors of `rs:RegistryResponse`, or of an element that extends it (AdhocQueryResponse)."""
    errors = tuple(
        RegistryError(
            found.get("errorCode", ""), found.get("codeContext", ""), found.get("location", ""), found.get("severity", ERROR)
        )
        for found in element.iterfind("{*}RegistryErrorList/{*}RegistryError")
    )
    return RegistryResponse(element.get("status", ""), errors)
