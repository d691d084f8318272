"""Tokens as SQL (FHIR R4 section 3.1.1.4.10): hashes of every form by which a code is looked for; codes of value sets and hierarchies."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import FromClause, and_, or_

from profiles.fhir.query import Criterion, OfType, Text, TokenValue
from profiles.fhir.search_values import folded
from profiles.r4.terminology import Terminology
from server.errors import NotSupported
from server.records import index_keys as keys
from server.records.fhir_search.matches import TooCostly
from server.records.fhir_search.terms import MOST_WALKS, NOTHING, TEXT, TOKEN, Term, Test, Walk, any_of, has, pks, probe

MOST_CODES: Final = 5000
_PROBED: Final = 32


def of_hashes(hashes: Sequence[int], r: FromClause) -> Term:
    """A resource with one of these token values."""
    if not hashes:
        return NOTHING
    given = sorted(set(hashes))
    row = TOKEN.alias()
    if len(given) <= _PROBED:  # a look into the table's primary key for each
        where = probe(row, r, row.c.hash.in_(given), row.c.date == r.c.date)
    else:  # all tokens of the resource, of which there are fewer; the sum keeps the engine from the other way
        where = probe(row, r, (row.c.hash + 0).in_(given))
    walks = tuple(Walk(each := TOKEN.alias(), (each.c.hash == value,)) for value in given) if len(given) <= MOST_WALKS else ()
    return Term(where, lambda: pks(TOKEN, TOKEN.c.hash.in_(given)), walks)


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
    found = of_hashes([keys.token_hash(type_, code, *each) for each in tokens], r)
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
