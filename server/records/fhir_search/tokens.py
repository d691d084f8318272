"""Tokens as SQL (FHIR R4 section 3.1.1.4.10): hashes of every form by which a code is looked for; codes of value sets and hierarchies."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, FromClause, and_, or_

from profiles.fhir.query import Criterion, OfType, Text, TokenValue
from profiles.fhir.search_values import folded
from profiles.r4.terminology import Terminology
from server.errors import NotSupported
from server.records import index_keys as keys
from server.records.fhir_search.matches import TooCostly
from server.records.fhir_search.terms import MOST_WALKS, NOTHING, TEXT, TOKEN, Term, Test, Walk, any_of, has, pks, probe

MOST_CODES: Final = 5000
_PROBED: Final = 32


Coded = tuple[str | None, str | None]
"""System and code; None: any. One of them is given."""


def of_tokens(type_: str, code: str, tokens: Sequence[Coded], r: FromClause) -> Term:
    """A resource with one of these values of a token parameter."""
    exact = [(system, value) for system, value in tokens if system is not None and value is not None]
    terms = []
    if any_system := [value for system, value in tokens if system is None]:
        terms.append(of_hashes([keys.token_hash(type_, code, None, value) for value in any_system], r))
    if exact:
        terms.append(_of_exact([exact_keys(type_, code, *each) for each in exact], r))
    if any_code := [system for system, value in tokens if system is not None and value is None]:
        terms.append(_of_systems([keys.token_hash(type_, code, system, None) for system in any_code], r))
    return any_of(terms)


def exact_keys(type_: str, code: str, system: str, value: str) -> tuple[int, int, int]:
    """What rows of `system|code` have: `token.hash`, and either of two for `token.exact`."""
    exact = keys.exact_token(type_, code, system, value)
    return keys.token_hash(type_, code, None, value), exact, ~exact


def of_hashes(hashes: Sequence[int], r: FromClause) -> Term:
    """A resource with one of these codes, of whatever system."""
    given = sorted(set(hashes))
    row = TOKEN.alias()
    walks = [Walk(each := TOKEN.alias(), (each.c.hash == value, each.c.exact >= 0)) for value in given[: MOST_WALKS + 1]]
    return Term(
        _probed(row, r, given, row.c.hash),
        lambda: pks(TOKEN, TOKEN.c.hash.in_(given)),
        tuple(walks) if len(walks) <= MOST_WALKS else (),
    )


def _of_exact(given: Sequence[tuple[int, int, int]], r: FromClause) -> Term:
    """A resource with one of these codes of their systems, as `exact_keys`."""
    hashes, exact = sorted({each[0] for each in given}), sorted({number for each in given for number in each[1:]})
    row = TOKEN.alias()
    walks = [
        Walk(each := TOKEN.alias(), (each.c.hash == of_code, or_(each.c.exact == one, each.c.exact == other)))
        for of_code, one, other in sorted(set(given))[: MOST_WALKS + 1]
    ]
    where = (  # the sum keeps the engine from the other index
        _probed(row, r, hashes, row.c.hash, (row.c.exact + 0).in_(exact)) if len(hashes) <= _PROBED
        else _probed(row, r, exact, row.c.exact)
    )  # fmt: skip
    return Term(
        where,
        lambda: pks(TOKEN, TOKEN.c.hash.in_(hashes), TOKEN.c.exact.in_(exact)),
        tuple(walks) if len(walks) <= MOST_WALKS else (),
    )


def _of_systems(hashes: Sequence[int], r: FromClause) -> Term:
    """A resource with a code of one of these systems; their rows have no date."""
    given = sorted(set(hashes))
    row = TOKEN.alias()
    return Term(probe(row, r, row.c.hash.in_(given), row.c.date == 0), lambda: pks(TOKEN, TOKEN.c.hash.in_(given)))


def _probed(row: FromClause, r: FromClause, given: Sequence[int], column: ColumnElement[int], *tests: Test) -> Test:
    """The resource has a row of one of these values."""
    if len(given) <= _PROBED:  # a look into the table's primary key for each
        return probe(row, r, column.in_(given), row.c.date == r.c.date, *tests)
    # all tokens of the resource, of which there are fewer; the sum keeps the engine from the other way
    return probe(row, r, (column + 0).in_(given), *tests)


def token_term(criterion: Criterion, type_: str, r: FromClause, terminology: Terminology) -> Term:
    """A token parameter with any modifier but `:missing`."""
    code, modifier = criterion.parameter.code, criterion.modifier
    if modifier == "text":
        return any_of([_text(type_, code, value.text, r) for value in criterion.values if isinstance(value, Text)])
    if modifier == "of-type":
        values = [value for value in criterion.values if isinstance(value, OfType)]
        return of_hashes([keys.of_type_hash(type_, code, each.system, each.code, each.value) for each in values], r)
    tokens = [(each.system, each.code) for each in criterion.values if isinstance(each, TokenValue)]
    if modifier in ("in", "not-in"):
        tokens = [pair for each in criterion.values if isinstance(each, Text) for pair in _members(each.text, terminology)]
    elif modifier in ("above", "below"):
        tokens = [pair for each in tokens for pair in _related(*each, modifier, terminology)]
    if len(tokens) > MOST_CODES:
        raise TooCostly(f"{code}: these are more than {MOST_CODES} codes; ask for fewer")
    found = of_tokens(type_, code, tokens, r)
    return Term(~found.where) if modifier in ("not", "not-in") else found


def _text(type_: str, code: str, text: str, r: FromClause) -> Term:
    """`:text`: each word begins a word of one of the texts."""
    words = folded(text).split()
    if not words:
        return NOTHING
    parameter = keys.parameter_hash(type_, code + keys.TEXT)

    def tests(row: FromClause) -> tuple[Test, ...]:
        within = (or_(row.c.folded.startswith(word, autoescape=True), has(row.c.folded, f" {word}")) for word in words)
        return (row.c.parameter == parameter, and_(*within))

    row = TEXT.alias()
    return Term(probe(row, r, *tests(row)), lambda: pks(TEXT, *tests(TEXT)))


def _members(value_set: str, terminology: Terminology) -> Sequence[tuple[str | None, str | None]]:
    """`:in`: the codes of a value set."""
    codes = terminology.codes(value_set)
    if codes is None:
        raise NotSupported(
            "the codes of this value set are not known here, or can't be listed; store the ValueSet with all its codes"
        )
    return [(system, code) for system, code in codes]


def _related(
    system: str | None, code: str | None, modifier: str, terminology: Terminology
) -> Sequence[tuple[str | None, str | None]]:
    """`:above` and `:below`: a code with those above or below it."""
    if not system or code is None:
        raise NotSupported(f":{modifier} needs the system of the code: system|code")
    found = terminology.ancestors(system, code) if modifier == "above" else terminology.descendants(system, code)
    if found is None:
        raise NotSupported("what is above or below this code is not known here; store the CodeSystem with its hierarchy")
    return [(system, each) for each in (code, *found)]
