"""What a read or search is refused for beyond the errors that every protocol has: parameters, by their names."""

import re
from typing import Final

from profiles.fhir.issues import Issue
from profiles.fhir.search_request import SearchRefused
from server.errors import Invalid, MalformedQuery


class ParameterError(MalformedQuery):
    """A parameter that is at fault. `parameter` is its name, where that is fit to be repeated."""

    def __init__(self, parameter: str, detail: str, code: str = "value") -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.fhir_code = code

    @property
    def issues(self) -> tuple[Issue, ...]:
        return (Issue("error", self.fhir_code, "", self.detail, self.parameter),)


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", re.ASCII)


def of_search(refused: SearchRefused) -> Invalid:
    """FHIR R4 section 3.1.1.3: every parameter that a search is refused for. A name that is not a plain one is not repeated."""
    return Invalid(Issue("error", each.code, "", each.detail, told_name(each.parameter)) for each in refused.errors)


def told_name(name: str) -> str:
    """The name of a parameter without its modifier, if it looks like one: what else a client writes there is not repeated."""
    return name.partition(":")[0] if _NAME.fullmatch(name) else ""
