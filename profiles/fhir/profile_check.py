"""`$validate` (FHIR R4 section 3.1.0.8, resource-operation-validate): structure, bindings, invariants and profiles of a resource in one."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from profiles.fhir import invariants, profile_slices, validation
from profiles.fhir.bindings import member_of
from profiles.fhir.fhirpath import Node, PathError, root
from profiles.fhir.fhirpath_run import Resolve
from profiles.fhir.invariants import Scope
from profiles.fhir.issues import Issue
from profiles.fhir.profile_elements import Check
from profiles.fhir.profile_rules import Find, Json, core_type, unversioned
from profiles.r4.terminology import BUILT_IN, Terminology
from profiles.structure_definitions import find as ours

_WORST: Final = ("fatal", "error", "warning", "information")
MOST: Final = 200
"""Issues that are told; there may be more."""


def conforms(
    resource: Json,
    profile: Json,
    *,
    find: Find = ours,
    terminology: Terminology = BUILT_IN,
    resolve: Resolve | None = None,
    now: str = "",
) -> list[Issue]:
    """FHIR R4 section 5.1.0.13: what is wrong with a resource by one StructureDefinition, on top of what R4 itself asks for.

    `find` gives other StructureDefinitions by canonical URL without version, None for those that are not known.
    """
    url = unversioned(str(profile.get("url", "")))
    check = Check(lambda wanted: profile if wanted == url else find(wanted), terminology, profile_slices.sliced, resolve, now)
    node = root(resource)
    return _told(_bounded(check.profile(node, url, check.scope(node))))


def validate(
    resource: Json,
    *,
    profiles: Iterable[str] = (),
    find: Find = ours,
    terminology: Terminology = BUILT_IN,
    resolve: Resolve | None = None,
    now: str = "",
) -> list[Issue]:
    """FHIR R4 section 3.1.0.8, $validate: all issues of structure, bindings, invariants, of the profiles in `profiles` and in `meta.profile`, and of extensions.

    A resource whose structure is wrong is not looked at further. A profile that is not known is an information issue.
    """
    found = validation.check(resource)
    if any(issue.severity in ("fatal", "error") for issue in found):
        return _told(found)
    found += invariants.violations(resource, resolve=resolve, member_of=member_of(terminology))
    check = Check(find, terminology, profile_slices.sliced, resolve, now)
    node = root(resource)
    scope = check.scope(node)
    found += _bounded(issue for each in profiles for issue in check.profile(node, each, scope))
    found += _bounded(issue for each, within in invariants.walk(node, scope) for issue in _claimed(check, each, within))
    return _told(found)


def _claimed(check: Check, node: Node, scope: Scope) -> Iterator[Issue]:
    """What a resource says that it conforms to, and extensions whose definition is known."""
    if not isinstance(node.value, dict):
        return
    if node.type == "Extension":
        url = str(node.value.get("url", ""))
        if check.find(unversioned(url)) is not None:
            yield from check.profile(node, url, scope)
    elif "resourceType" in node.value:
        claimed: Any = node.value.get("meta", {}).get("profile", ())
        for url in claimed:
            if isinstance(url, str) and not core_type(url):
                yield from check.profile(node, url, scope)


def _bounded(issues: Iterable[Issue]) -> Iterator[Issue]:
    """As many as are told; an issue of its own where the profiles take too much work."""
    try:
        for number, issue in enumerate(issues):
            if number >= MOST:
                return
            yield issue
    except PathError as error:
        yield Issue("warning", "too-costly", "", f"The check of profiles was not finished: {error}")


def _told(issues: Iterable[Issue]) -> list[Issue]:
    """Each once, the worst first."""
    return sorted(dict.fromkeys(issues), key=lambda issue: _WORST.index(issue.severity))[:MOST]
