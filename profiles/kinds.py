"""What kind of thing a SOP Instance is to somebody who looks at it (PS3.4 annex B.5, PS3.6 table A-1): a picture, a film, a page, a text, or nothing to be seen."""

from typing import Final, Literal

from profiles.vocabulary import KEY_OBJECT_SELECTION

Kind = Literal["image", "video", "document", "report", "other"]
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_ENCAPSULATED: Final = f"{_STORAGE}104."
"""Encapsulated PDF, CDA, STL, OBJ, MTL."""
_STRUCTURED_REPORTS: Final = f"{_STORAGE}88."
_NOT_SEEN: Final = (f"{_STORAGE}11.", f"{_STORAGE}66", f"{_STORAGE}9.", f"{_STORAGE}67", f"{_STORAGE}4.2")
"""Presentation states, registration and segmentation, waveforms, real world value mappings, spectroscopy: they say how others are to be shown, or are no pictures."""
_VIDEO: Final = frozenset({f"{_STORAGE}77.1.1.1", f"{_STORAGE}77.1.2.1", f"{_STORAGE}77.1.4.1"})
_VIDEO_SYNTAXES: Final = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 110))
"""MPEG2, MPEG-4 and HEVC, and their fragmentable forms (.100.1 and the like)."""


def kind(sop_class: str, transfer_syntax: str, frames: int) -> Kind:
    """Of an instance with so many frames."""
    if sop_class.startswith(_ENCAPSULATED):
        return "document"
    if sop_class.startswith(_STRUCTURED_REPORTS):
        return "other" if sop_class == KEY_OBJECT_SELECTION else "report"
    if sop_class.startswith(_NOT_SEEN):
        return "other"
    if is_film(transfer_syntax) or (sop_class in _VIDEO and frames):
        return "video"
    return "image" if frames else "other"


def is_film(transfer_syntax: str) -> bool:
    """Whether its pixels are a stream of video, which browsers decode and we do not."""
    return any(transfer_syntax == each or transfer_syntax.startswith(f"{each}.") for each in _VIDEO_SYNTAXES)
