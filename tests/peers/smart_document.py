"""docs/smart.md, made of the requirement list, the tests that name requirements, and the cases of the kit (`make smart-doc`)."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from peers.requires import Required, required

from conformance.smart.cases import all_cases
from conformance.smart.kit import Case
from conformance.smart.requirements import GUIDE, Requirement, requirements, unseen

_INTRODUCTION: Final = """# SMART App Launch and SMART Imaging Access

`imageshare` is an authorization server and a resource server of [SMART App Launch 2.2]({guide}), and a server of SMART Imaging Access (the Argonaut draft). The table has
every requirement that the guide makes of a server, by the number of its requirement list, in our words: {binding} that it SHALL or SHALL NOT, {others} that it SHOULD or SHOULD NOT.
Beside each stand the tests that name it, and the cases of the black-box kit `conformance/smart` that look for it from outside. **{shown}** of the {binding} are shown by one or
the other; [why the rest is not](#what-is-not-shown) is told below. This document is written by `make smart-doc`.

## The kit

    imageshare check smart https://example.org/fhir --target target.toml --report report/

It tests any server, ours or another: {cases} cases, {imaging} of them of SMART Imaging Access. The [target file](../conformance/smart/example.toml) says which clients, people, patients and
studies exist there, and how people sign in; what it leaves out is skipped, with the reason. Reports are text, JUnit XML, HTML and JSON, with the requests of what failed and all secrets masked.
The kit is tested against a small server that is right in everything and wrong in one of {faults} ways at will: each is caught.

A person's Patient.link changes nothing of what is authorized: a token for one Patient opens that one record (number 139).

SMART App State (`smart_app_state_endpoint`) is not offered: the guide calls it experimental and has deprecated its announcement, so that no app can count on it. An app keeps what it wants to
remember as a resource of the patient, such as a Basic, under the scopes that it was given.
"""


def document() -> str:
    """The whole of it, as Markdown."""
    from peers.faulty_smart.state import FAULTS

    found, tests, cases = requirements(), _by_requirement(required()), _by_case(all_cases())
    binding = [each for each in found.values() if each.binding]
    parts = [
        _INTRODUCTION.format(
            guide=GUIDE,
            binding=len(binding),
            others=len(found) - len(binding),
            shown=sum(each.id in tests or each.id in cases for each in binding),
            cases=len(all_cases()),
            imaging=sum(each.area.startswith("imaging") for each in all_cases()),
            faults=len(FAULTS),
        ),
        "## Requirements\n",
    ]
    for area in dict.fromkeys(each.area for each in found.values()):
        rows = [_row(each, tests, cases) for each in found.values() if each.area == area]
        parts.append(f"### {area}\n\n| | | tests | kit |\n| --- | --- | --- | --- |\n" + "".join(rows))
    parts.append(
        "## SMART Imaging Access\n\nThe draft has no numbers; these are the cases by its sections.\n\n" + "".join(_imaging())
    )
    parts.append(_not_shown(found.values(), tests, cases))
    return "\n".join(parts)


def _by_requirement(found: Iterable[Required]) -> Mapping[int, list[Required]]:
    by: dict[int, list[Required]] = defaultdict(list)
    for each in found:
        by[each.id].append(each)
    return by


def _by_case(found: Iterable[Case]) -> Mapping[int, list[Case]]:
    by: dict[int, list[Case]] = defaultdict(list)
    for each in found:
        for id_ in each.requirements:
            by[id_].append(each)
    return by


def _row(each: Requirement, tests: Mapping[int, list[Required]], cases: Mapping[int, list[Case]]) -> str:
    shown = "; ".join(f"[{_words(one.test)}](../{one.path})" for one in tests.get(each.id, ()))
    kit = ", ".join(f"`{one.id}`" for one in cases.get(each.id, ()))
    condition = f" *Where: {each.condition}.*" if each.condition else ""
    return f"| [{each.id}]({each.url}) {each.level} | {_cell(each.words)}.{_cell(condition)} | {shown} | {kit} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").rstrip(".") if not text.endswith("*") else text.replace("|", "\\|")


def _words(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


def _imaging() -> Iterable[str]:
    by: dict[str, list[Case]] = defaultdict(list)
    for each in all_cases():
        if each.source.startswith("SMART Imaging Access"):
            by[each.source.partition(", ")[2]].append(each)
    for section, found in sorted(by.items()):
        yield f"### {section}\n\n" + "".join(f"- `{each.id}` {each.title}\n" for each in found) + "\n"


def _not_shown(found: Iterable[Requirement], tests: Mapping[int, list[Required]], cases: Mapping[int, list[Case]]) -> str:
    left = [each for each in found if each.id not in tests and each.id not in cases and (each.binding or each.id in unseen())]
    lines = [f"- [{each.id}]({each.url}) {_cell(each.words)}: {unseen().get(each.id, '**no test yet**')}.\n" for each in left]
    return "".join(["## What is not shown\n\n", *lines])


if __name__ == "__main__":
    sys.stdout.write(document())
