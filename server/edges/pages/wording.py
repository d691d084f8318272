"""Dates, ways to sign in and kinds of images as people say them."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Final

from profiles.anatomy import region
from profiles.modalities import modality
from server.languages import day_of, listed, marked, month_of, translated

_KINDS: Final = marked({
    "CT": "CT scan", "MR": "MRI scan", "US": "Ultrasound", "CR": "X-ray", "DX": "X-ray", "RG": "X-ray", "MG": "Mammogram",
    "PT": "PET scan", "NM": "Nuclear medicine scan", "XA": "Angiogram", "RF": "Fluoroscopy", "ES": "Endoscopy", "BMD": "Bone density scan",
    "IO": "Dental X-ray", "PX": "Dental X-ray", "ECG": "ECG", "OP": "Photograph of the eye", "OPT": "Scan of the eye",
    "OCT": "OCT scan", "SM": "Microscope slides", "XC": "Photographs", "GM": "Microscope images", "DOC": "Documents", "SR": "Report",
    "OT": "Images",
})  # fmt: skip
_BESIDE: Final = frozenset({"SR", "PR", "KO", "DOC", "SEG", "REG", "OT", "AU"})
"""What comes along with images, and is not what the examination was."""
_MOST_PARTS: Final = 3
_WAYS: Final = marked({"password": "password", "code": "code by e-mail", "passkey": "passkey", "hospital": "your hospital"})


def day(text: str) -> str:
    """`19740712`, `1974-07-12` or a part of it as `12 July 1974`, `July 1974`, `1974`; empty for what is no date."""
    digits = text.replace("-", "")[:8]
    if not digits.isdecimal() or len(digits) not in (4, 6, 8):
        return ""
    if len(digits) == 4:
        return digits
    try:
        at = date(int(digits[:4]), int(digits[4:6]), int(digits[6:] or 1))
    except ValueError:
        return ""
    return day_of(at) if len(digits) == 8 else month_of(at)


def moment(at: datetime) -> str:
    """`12 July 2026, 14:05`, in the zone that `at` has."""
    return f"{day_of(at.date())}, {at:%H:%M}"


def kinds(modalities: Iterable[str]) -> str:
    """`CT scan and report` out of DICOM modalities (PS3.3 section C.7.3.1.1.1); empty where there is none."""
    said = dict.fromkeys(translated(_KINDS.get(each) or modality(each).display or "") or each for each in modalities)
    first, *rest = said or [""]
    return listed([first, *(each if each[1:2].isupper() else each[:1].lower() + each[1:] for each in rest)])


def examination(modalities: Iterable[str], body_parts: Iterable[str]) -> str:
    """`CT scan of the chest` out of DICOM modalities and Body Part Examined; the kind alone where no part is known."""
    seen = [each for each in modalities if each not in _BESIDE] or list(modalities)
    kind, parts = kinds(seen) or translated("Images"), [_part(each) for each in dict.fromkeys(body_parts)]
    named = [each for each in dict.fromkeys(parts) if each]
    if not 0 < len(named) <= _MOST_PARTS:
        return kind
    return translated("{kind} of the {parts}").format(kind=kind, parts=listed(named[:2]))


def _part(body_part: str) -> str:
    """A body part in the words of people: `CHEST` as `chest`; empty where its name is nobody's."""
    known = region(body_part)
    return translated(known.display.lower()) if known is not None and known.display else ""


def ways(methods: Iterable[str]) -> str:
    """How somebody signed in: `password and passkey`."""
    return listed([translated(_WAYS.get(each, each)) for each in methods])


def host_of(address: str) -> str:
    """Who an address belongs to, for people: `app.example.org`, or `org.example.app` for an app on their device."""
    scheme, _, rest = address.partition(":")
    if scheme not in ("http", "https"):
        return scheme
    return rest.lstrip("/").partition("/")[0].partition("?")[0].rpartition("@")[2]


_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("CriOS", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS", "Mac"),
    ("Linux", "Linux"),
)


def browser_of(user_agent: str) -> str:
    """A User-Agent (RFC 9110 section 10.1.5) in a few words, such as `Chrome on Windows`; empty where it says nothing that people know."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return " on ".join(filter(None, (browser, system)))
