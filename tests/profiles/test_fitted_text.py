import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.fitted_text import fitted


@pytest.mark.parametrize(
    ("text", "vr", "expected"),
    [
        ("CT of the chest", "LO", "CT of the chest"),
        ("two  spaces", "LO", "two  spaces"),
        ("CT\r\nthorax", "LO", "CT thorax"),
        ("a\\b", "LO", "a b"),
        ("bell\x07", "LO", "bell"),
        ("x" * 100, "LO", "x" * 64),
        ("y" * 15 + " z", "SH", "y" * 15),
        ("Müller^Jürgen=山田^太郎", "PN", "Müller^Jürgen=山田^太郎"),
        ("=山田^太郎", "PN", "=山田^太郎"),
        ("A^B^C^D^E^F^G", "PN", "A^B^C^D^E F G"),
        ("A^^^", "PN", "A"),
        ("A" * 80 + "=" + "B" * 80, "PN", "A" * 64 + "=" + "B" * 64),
        ("Dr. X\\Y^Z", "PN", "Dr. X Y^Z"),
        ("a=b=c=d", "PN", "a=b=c"),
        ("", "PN", ""),
    ],
)
def test_text_is_made_to_fit(text: str, vr: str, expected: str) -> None:
    assert fitted(text, vr) == expected  # type: ignore[arg-type]


@given(st.text(), st.sampled_from(["LO", "SH", "PN"]))
def test_what_fits_stays(text: str, vr: str) -> None:
    once = fitted(text, vr)  # type: ignore[arg-type]
    assert fitted(once, vr) == once  # type: ignore[arg-type]
    assert "\\" not in once
