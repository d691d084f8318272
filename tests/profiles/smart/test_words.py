"""What people read of a scope: every word has a sentence, and what is dangerous is said."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.r4.definitions import resource_types
from profiles.smart.scopes import OTHER_WORDS
from profiles.smart.words import DELETES, EVERYTHING, MANY, OFFLINE, UNKNOWN, WRITES, wish

ORDERED = ["".join(letter for letter, on in zip("cruds", chosen, strict=True) if on) for chosen in product((0, 1), repeat=5)][1:]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("patient/ImagingStudy.rs", "See imaging studies with their pictures"),
        ("patient/ImagingStudy.read", "See imaging studies with their pictures"),
        ("patient/Observation.cu", "Add to and change measurements and laboratory results"),
        ("patient/Substance.s", "See data of the kind Substance"),
        ("user/*.rs", "See everything in the record, of all patients whom you may see"),
        ("system/Patient.d", "Delete name, birth date and address, without anybody signed in"),
        (
            "patient/Observation.rs?category=http://x|laboratory,vital-signs&status=final",
            "See measurements and laboratory results, but only those with category: laboratory / vital-signs, status: final",
        ),
        (
            "patient/ImagingStudy.rs?identifier=urn:dicom:uid|urn:oid:1.2,urn:dicom:uid|urn:oid:1.3",
            "See imaging studies with their pictures, but only single ones",
        ),
        (
            "patient/ImagingStudy.rs?status=available&identifier=urn:dicom:uid|urn:oid:1.2",
            "See imaging studies with their pictures, but only single ones, but only those with status: available",
        ),
        ("patient/ImagingStudy.rs?identifier=x|7", "See imaging studies with their pictures, but only those with identifier: 7"),
        ("openid", "Know that it is you who signed in"),
        ("offline_access", "Keep access when you are not there"),
        ("colours", "Something that this server does not know: colours"),
    ],
)
def test_plain_words(word: str, said: str) -> None:
    assert wish(word).sentence.said() == said


@given(
    st.sampled_from(["patient", "user", "system"]), st.sampled_from([*resource_types(), "*"]), st.sampled_from([*ORDERED, "read", "write", "*"])
)  # fmt: skip
def test_every_scope_has_words_and_warnings(context: str, type_: str, permission: str) -> None:
    found = wish(f"{context}/{type_}.{permission}")
    letters = {"read": "rs", "write": "cud", "*": "cruds"}.get(permission, permission)
    assert "{" not in found.sentence.said()
    verbs = {"See": "r" in letters or "s" in letters, "dd to": "c" in letters, "hange": "u" in letters, "elete": "d" in letters}
    assert {verb: verb in found.sentence.text for verb in verbs} == verbs
    assert (EVERYTHING in found.warnings) is (type_ == "*")
    assert (MANY in found.warnings) is (context == "user")
    assert (DELETES in found.warnings) is ("d" in letters)
    assert (WRITES in found.warnings) is (bool({"c", "u"} & set(letters)) and "d" not in letters)


def test_all_other_words_are_known() -> None:
    for word in OTHER_WORDS:
        assert wish(word).sentence.text != UNKNOWN.text
    assert wish("offline_access").warnings == (OFFLINE,)


@given(st.text(max_size=30))
def test_what_a_client_sends_is_never_read_for_places(text: str) -> None:
    assert text in wish(text).sentence.said() or wish(text).sentence.text != UNKNOWN.text


def test_places_are_translated_and_filled() -> None:
    words = {"See {what}": "{what} ansehen", "imaging studies with their pictures": "Bilduntersuchungen"}
    assert wish("patient/ImagingStudy.rs").sentence.said(lambda text: words.get(text, text)) == "Bilduntersuchungen ansehen"
