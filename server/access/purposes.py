"""Purposes of use as partners say them, as the codes of v3-ActReason by which Consents and the trail know them.

Break-glass (BTG) is not among them: nobody is let past a Consent because another server says so, but where the settings give one of its codes that
meaning.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from profiles.document import Code

_ACT_REASON: Final = "2.16.840.1.113883.5.8"
_NHIN: Final = "2.16.840.1.113883.3.18.7.1"
_ISO_14265: Final = ("1.0.14265.1", "1.0.14265")
_BREAK_GLASS: Final = "BTG"

# code systems with their codes: HL7 v3-ActReason itself; those of NHIN Authorization Framework 3.0 section 3.2.3; ISO/TS 14265:2011 table 1
_KNOWN: Final[Mapping[tuple[str, str], str]] = {
    **{
        (_NHIN, theirs): ours
        for theirs, ours in {
            "TREATMENT": "TREAT", "PAYMENT": "HPAYMT", "OPERATIONS": "HOPERAT", "SYSADMIN": "HSYSADMIN", "PUBLICHEALTH": "PUBHLTH",
            "RESEARCH": "HRESCH", "EMERGENCY": "ETREAT", "COVERAGE": "COVERAGE", "REQUEST": "PATRQT", "MARKETING": "HMARKT",
            "DISASTER": "DISASTER", "THREAT": "THREAT", "FAMILY": "FAMRQT", "LEGAL": "HLEGAL",
        }.items()
    },
    **{
        (system, theirs): ours
        for system in _ISO_14265
        for theirs, ours in {
            "1": "TREAT", "2": "ETREAT", "3": "TREAT", "4": "HPAYMT", "5": "HOPERAT", "6": "TRAIN", "7": "PUBHLTH", "8": "THREAT",
            "10": "HRESCH", "11": "HMARKT", "12": "HLEGAL",
        }.items()
    },
}  # fmt: skip


def of(codes: Iterable[Code], own: Mapping[str, str]) -> frozenset[str]:
    """The codes of v3-ActReason; `own` are a partner's, `code^codeSystem`, and come first.

    One that nobody knows stands for itself as `system|code`: a purpose that no Consent permits is still one that was declared.
    """
    return frozenset(_of(each, own) for each in codes)


def _of(code: Code, own: Mapping[str, str]) -> str:
    if (meant := own.get(f"{code.code}^{code.scheme}")) is not None:
        return meant
    if code.scheme == _ACT_REASON and code.code != _BREAK_GLASS:
        return code.code
    return _KNOWN.get((code.scheme, code.code), f"urn:oid:{code.scheme}|{code.code}")
