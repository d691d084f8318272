"""Codes on paper: what is forgiven, and what is found to be a slip."""

from hypothesis import given
from hypothesis import strategies as st

from profiles import access_code

CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
codes = st.builds(access_code.of, st.integers(0, (1 << access_code.BITS) - 1))


@given(codes)
def test_what_is_printed_is_read(code: str) -> None:
    assert access_code.read(access_code.written(code)) == code
    assert access_code.written(code).count("-") == 3


@given(codes)
def test_how_it_is_written_does_not_matter(code: str) -> None:
    sloppy = " " + access_code.written(code).lower().replace("-", " \u2013 ").replace("0", "o").replace("1", "l") + " "
    assert access_code.read(sloppy) == code


@given(codes, st.integers(0, 12), st.sampled_from(CHARACTERS))
def test_one_wrong_character_is_a_slip(code: str, place: int, other: str) -> None:
    wrong = code[:place] + other + code[place + 1 :]
    assert access_code.read(wrong) == (code if wrong == code else None)


@given(codes, st.integers(0, 11))
def test_neighbours_that_changed_places_are_a_slip(code: str, place: int) -> None:
    swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
    if {code[place], code[place + 1]} != {"0", "Z"}:
        assert access_code.read(swapped) == (code if swapped == code else None)


@given(st.text(max_size=30))
def test_anything_else_is_none(text: str) -> None:
    assert access_code.read(text) is None or len(access_code.read(text) or "") == access_code.LENGTH


@given(st.lists(st.integers(0, (1 << access_code.BITS) - 1), unique=True, min_size=2))
def test_each_number_has_a_code_of_its_own(numbers: list[int]) -> None:
    assert len({access_code.of(each) for each in numbers}) == len(numbers)
