"""Strings and URIs as SQL (FHIR R4 sections 3.1.1.4.8 and 3.1.1.4.9): ranges of folded text; prefixes of URLs."""

from collections.abc import Callable

from sqlalchemy import FromClause, and_, false

from profiles.fhir.query import Criterion, Text
from profiles.fhir.search_values import PHONETIC, folded
from server.records import index_keys as keys
from server.records.fhir_search.terms import TEXT, Term, Test, begins, either, ends, has, part, pks, probe

_Tests = Callable[[FromClause], Test]


def text_term(criterion: Criterion, type_: str, r: FromClause) -> Term:
    """A string or URI parameter with any modifier but `:missing`."""
    parameter = keys.parameter_hash(type_, criterion.parameter.code)
    is_uri = criterion.parameter.type == "uri"
    modifier = "equals" if criterion.parameter.code == PHONETIC else criterion.modifier
    tests = [
        _uri(value.text, modifier) if is_uri else _string(value.text, modifier)
        for value in criterion.values if isinstance(value, Text)
    ]  # fmt: skip
    row = TEXT.alias()
    return Term(
        probe(row, r, row.c.parameter == parameter, either(test(row) for test in tests)),
        lambda: pks(TEXT, TEXT.c.parameter == parameter, either(test(TEXT) for test in tests)),
    )


def _string(text: str, modifier: str) -> _Tests:
    """Folded on both sides but for `:exact`. Text of which folding leaves nothing matches nothing else.

    Of a long text the index has the beginning (`index_keys`): a part that stands behind it is not found.
    """
    plain = folded(text)
    if modifier == "exact":
        return lambda row: and_(row.c.folded == keys.folded_key(text), row.c.exact == keys.exact_key(text))
    if not plain:
        return lambda row: false()
    match modifier:
        case "contains":
            return lambda row: has(row.c.folded, part(plain))
        case "equals":
            return lambda row: row.c.folded == keys.folded_key(text)
        case "ends":
            return lambda row: ends(row.c.folded, part(plain))
    return lambda row: begins(row.c.folded, plain)


def _uri(text: str, modifier: str) -> _Tests:
    """Byte for byte; an index finds them by their folded form."""
    if modifier == "below":
        return lambda row: and_(begins(row.c.folded, folded(text)), begins(row.c.exact, text))
    wanted = above(text) if modifier == "above" else [text]
    return lambda row: and_(
        row.c.folded.in_({keys.folded_key(each) for each in wanted}), row.c.exact.in_([keys.exact_key(each) for each in wanted])
    )


def above(url: str) -> list[str]:
    """A URL and the beginnings of its path, with and without a slash at their ends; of a `urn:` itself alone."""
    found = {url}
    rest = url.rstrip("/")
    while "://" in rest and not rest.endswith(":/"):
        found |= {rest, rest + "/"}
        rest = rest.rpartition("/")[0].rstrip("/") if rest.count("/") > 2 else ""
    return sorted(found)
