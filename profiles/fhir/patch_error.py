"""Why a patch is not carried out (FHIR R4 section 3.1.0.6 patch): a malformed one is a 400, one that does not fit the resource a 422."""

from typing import Final

from profiles.fhir.issues import Issue


class PatchError(ValueError):
    """`issue` says what is wrong and what would be right, and quotes no content; `status` is the HTTP status."""

    def __init__(self, issue: Issue, status: int) -> None:
        super().__init__(issue.diagnostics)
        self.issue: Final = issue
        self.status: Final = status


def malformed(why: str, expression: str = "") -> PatchError:
    """The document is no patch of its kind: it could be applied to no resource at all."""
    return PatchError(Issue("error", "structure", expression, why), 400)


def inapplicable(why: str, expression: str = "", code: str = "processing") -> PatchError:
    """It can't be applied to this resource. A failed test is one of these: http.html names 422 for it, and 412 is for If-Match."""
    return PatchError(Issue("error", code, expression, why), 422)
