"""Text burnt into a rendered image (PS3.18 section 8.3.5.1.1). Runs in a process that may die."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_TECHNIQUE = (
    ("", "Modality"), ("", "StudyDate"), ("Series ", "SeriesNumber"), ("Image ", "InstanceNumber"), ("kVp ", "KVP"),
    ("mAs ", "Exposure"), ("Slice ", "SliceThickness"), ("TR ", "RepetitionTime"), ("TE ", "EchoTime"),
)  # fmt: skip
_LONGEST = 64


def burnt_in(image: Image.Image, dataset: Dataset, wanted: Sequence[str], number: int) -> Image.Image:
    """The image with who it is of at its upper left (`patient`), and how it was made at its lower left (`technique`)."""
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(max(8, round(min(image.size) / 32)))
    white, black = (255, 0) if image.mode == "L" else ((255, 255, 255), (0, 0, 0))
    for kind, lines in (("patient", _patient(dataset)), ("technique", _technique(dataset, number))):
        if kind not in wanted or not lines:
            continue
        text = "\n".join(line[:_LONGEST] for line in lines)
        top = 4.0
        if kind == "technique":
            top = image.height - pen.multiline_textbbox((4, 0), text, font=font, stroke_width=1)[3] - 4
        pen.multiline_text((4, top), text, fill=white, font=font, stroke_width=1, stroke_fill=black)
    return drawn


def _patient(dataset: Dataset) -> list[str]:
    name = _text(dataset, "PatientName").split("=")[0].replace("^", " ").strip()
    return [line for line in (name, *(_text(dataset, keyword) for keyword in _PATIENT[1:])) if line]


def _technique(dataset: Dataset, number: int) -> list[str]:
    lines = [label + value for label, keyword in _TECHNIQUE if (value := _text(dataset, keyword))]
    return [*lines, f"Frame {number}"] if _text(dataset, "NumberOfFrames") not in ("", "1") else lines


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").replace("\n", " ")
    except (ValueError, TypeError, NotImplementedError):
        return ""
