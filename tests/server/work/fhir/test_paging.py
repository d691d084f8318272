"""Page links: sealed, for one request of one caller, and unreadable: sort keys are names and birth dates."""

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access.decisions import Decision, parse_scopes
from server.work.fhir.paging import seal, unseal
from server.work.fhir.refusals import ParameterError

KEY, PATH = b"k" * 32, "Patient"
ASKED = [("_sort", "family"), ("gender", "female")]
SHE = Decision("app", parse_scopes("patient/*.rs"), "p")
PLACE = [1_700_000_000_000_000, ["xaver"], 15, 0]


def unread(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@given(
    st.lists(st.integers() | st.text() | st.none(), min_size=1).filter(
        lambda each: all(not isinstance(n, int) or abs(n) < 2**63 for n in each)
    )
)
def test_what_is_sealed_is_the_same_afterwards(place: list[int | str | None]) -> None:
    assert unseal(KEY, seal(KEY, place, PATH, ASKED, SHE), PATH, ASKED, SHE) == place


def test_nobody_reads_where_a_page_ended() -> None:
    for key in (["xaver"], ["1970-05-01"], [None], ["x" * 200]):
        text = seal(KEY, [PLACE[0], key, 15, 0], PATH, ASKED, SHE)
        assert (key[0] or "null").encode() not in unread(text)
        assert str(PLACE[0]).encode() not in unread(text)


@pytest.mark.parametrize(
    ("key", "path", "asked", "made"),
    [
        (b"other", PATH, ASKED, SHE),
        (KEY, "Observation", ASKED, SHE),
        (KEY, PATH, ASKED[:1], SHE),
        (KEY, PATH, ASKED, Decision("app", parse_scopes("patient/*.rs"), "q")),
        (KEY, PATH, ASKED, Decision("app", parse_scopes("system/*.rs"))),
        (KEY, PATH, ASKED, Decision("another", parse_scopes("patient/*.rs"), "p")),
    ],
)
def test_it_is_for_this_request_of_this_caller(key: bytes, path: str, asked: Sequence[tuple[str, str]], made: Decision) -> None:
    text = seal(KEY, PLACE, PATH, ASKED, SHE)
    assert unseal(KEY, text, PATH, [*ASKED, ("_format", "xml")], SHE) == PLACE
    with pytest.raises(ParameterError):
        unseal(key, text, path, asked, made)


@pytest.mark.parametrize("text", ["", "A", "AAAA", "A" * 64, "%", "é", "=" * 5])
def test_what_was_not_made_here_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        unseal(KEY, text, PATH, ASKED, SHE)


def test_a_changed_one_is_refused() -> None:
    text = seal(KEY, PLACE, PATH, ASKED, SHE)
    sealed = unread(text)
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(ParameterError):
            unseal(KEY, base64.urlsafe_b64encode(changed).decode(), PATH, ASKED, SHE)
