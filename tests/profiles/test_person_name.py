"""`profiles.person_name`: how names are folded, split and heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.person_name import folded, forms, sound, words


def test_forms_are_groups_and_spans_of_groups_without_empty_ends() -> None:
    assert forms("Yamada^Tarou^^=山田^太郎=") == {"yamada^tarou", "山田^太郎", "yamada^tarou=山田^太郎", "山田^太郎=", "yamada^tarou=山田^太郎="}  # fmt: skip
    assert forms("DOE^^^") == {"doe"}
    assert forms("^^^^") == forms("") == forms("==") == frozenset()


def test_words_are_of_all_groups() -> None:
    assert words("Müller-Lüdenscheidt^Anna  Maria=山田") == {"muller-ludenscheidt", "anna", "maria", "山田"}


@pytest.mark.parametrize(
    ("word", "code"),
    # Examples of the National Archives, and names that differ in spelling only.
    [("washington", "w252"), ("lee", "l000"), ("gutierrez", "g362"), ("pfister", "p236"), ("jackson", "j250"), ("tymczak", "t522"),
     ("ashcraft", "a261"), ("smith", "s530"), ("schmidt", "s530"), ("山田", ""), ("m4x", ""), ("", ""), ("o'neil", "o540")],
)  # fmt: skip
def test_sounds(word: str, code: str) -> None:
    assert sound(word) == code


@given(st.text(max_size=20))
def test_forms_and_words_fold_once(name: str) -> None:
    assert forms(folded(name)) == forms(name)
    for word in words(name):
        assert words(word) == {word}
        assert sound(word) == sound(folded(word))
