"""Access codes as people type them: 60 random bits and a check character, in Crockford's alphabet of 32, forgiving of how they are written.

A code is thirteen characters, `K7QF-2M9T-XW4H-R` on paper. Letters that look like digits are those digits, case and what stands between the
groups do not matter. The check character (Luhn mod N, ISO/IEC 7812-1 annex B with N = 32) tells a slip from a code that never was.
"""

from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOOKS_LIKE: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})
_RANDOM: Final = 12
BITS: Final = 5 * _RANDOM
"""Of chance that a code needs."""
LENGTH: Final = _RANDOM + 1
_BETWEEN: Final = " -\u2010\u2011\u2012\u2013\u2014\u2212_.\u00a0\u202f\t"
_SPACES: Final = str.maketrans(dict.fromkeys(_BETWEEN))


def of(number: int) -> str:
    """The code, as it is compared, of a number of `BITS` bits, which whoever issues it has drawn."""
    body = "".join(_ALPHABET[number >> shift & 31] for shift in range(0, BITS, 5))
    return body + _check(body)


def written(code: str) -> str:
    """The code in groups of four, for paper and screens."""
    return "-".join(code[at : at + 4] for at in range(0, LENGTH, 4))


def read(text: str) -> str | None:
    """The code that somebody has typed, as it is compared; None for what can be none: a slip, or something else."""
    code = text.translate(_SPACES).upper().translate(_LOOKS_LIKE)
    if len(code) != LENGTH or any(each not in _ALPHABET for each in code):
        return None
    return code if _check(code[:_RANDOM]) == code[_RANDOM] else None


def _check(body: str) -> str:
    """Luhn mod 32: finds every single wrong character, and every two neighbours that changed places but 0 and Z."""
    total = 0
    for place, each in enumerate(reversed(body)):
        value = _ALPHABET.index(each) * (2 if place % 2 == 0 else 1)
        total += value // 32 + value % 32
    return _ALPHABET[-total % 32]
