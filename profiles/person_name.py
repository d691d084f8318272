"""Person names as they are matched: PS3.4 section C.2.2.2.1 and, for fuzzy matching, PS3.18 section 8.3.4.2.

Literal matching knows no case and no accents. Fuzzy matching goes word by word: each word that is asked for is the beginning of a word of
the name, or sounds like one (Soundex, as the United States National Archives describe it).
"""

import re
import unicodedata

_BETWEEN_WORDS = re.compile(r"[\^=\s,.*?]+")
_SOUNDS = {letter: digit for digit, letters in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"), 1) for letter in letters}


def folded(name: str) -> str:
    """A person name as it is matched: no case, no accents, one space, components kept (PS3.4 section C.2.2.2.1)."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return " ".join(plain.casefold().split())


def forms(name: str) -> frozenset[str]:
    """What a name to match may be equal to: each component group, and groups that follow each other, without empty components behind.

    PS3.5 section 6.2.1.1: groups are joined by `=`, trailing empty components may be absent.
    """
    groups = [group.rstrip("^ ") for group in folded(name).split("=")][:3]
    spans = ("=".join(groups[a:b]) for a in range(len(groups)) for b in range(a + 1, len(groups) + 1))
    return frozenset(span for span in spans if span.strip("="))


def words(name: str) -> frozenset[str]:
    """The words of a name, folded; of all component groups."""
    return frozenset(word for word in _BETWEEN_WORDS.split(folded(name)) if word)


def sound(word: str) -> str:
    """The Soundex code of a folded word, such as `s530`; empty where it has other letters than a to z."""
    letters = word.replace("'", "").replace("-", "")
    if not (letters.isascii() and letters.isalpha()):
        return ""
    code, last = letters[0], _SOUNDS.get(letters[0])
    for letter in letters[1:]:
        digit = _SOUNDS.get(letter)
        if digit is not None and digit != last:
            code += str(digit)
        if letter not in "hw":
            last = digit
    return code.ljust(4, "0")[:4]


def spoken(name: str) -> str:
    """A PN as people say it: prefix, given and middle name, family name, suffix; of its component groups the first that says anything."""
    group = next((each for each in name.split("=") if each.strip("^ ")), "")
    family, given, middle, prefix, suffix = [*(part.strip() for part in group.split("^")), *[""] * 5][:5]
    return " ".join(part for part in (prefix, given, middle, family, suffix) if part)
