"""The pictures of pages in README and docs, out of those that the tests leave in `build/screens`: `make pictures`.

Smaller, with few colours, and without what changes from run to run in the file itself, so that a page that looks the same is the same file.
"""

from pathlib import Path
from typing import Final

from PIL import Image

ROOT: Final = Path(__file__).resolve().parents[2]
SCREENS, PICTURES = ROOT / "build" / "screens", ROOT / "docs" / "images"
SHOWN: Final = {
    "worklist": "1-worklist-1280", "access-code": "2-access-code-1280", "claim": "3-claim-1280", "images": "4-images-1280", "study": "5-study-1280",
    "viewer": "6-viewer-1280", "share": "7-share-1280", "open-share-phone": "9-open-390", "viewer-phone": "10-viewer-390",
    "who-looked": "11-who-looked-1280", "taken-home": "taken-home-1280", "ohif": "ohif",
    "launched": "launched-chart-1280",
    "measuring": "measuring-planes",
    "brought-in-staff": "brought-in-staff-1280",
}  # fmt: skip
"""A picture's name in docs, and whose it is."""
_WIDTH, _HEIGHT, _COLOURS = 960, 900, 96


def smaller(taken: Path, shown: Path) -> None:
    """At most 960 pixels wide and 900 high; of a longer page its upper part."""
    with Image.open(taken) as opened:
        image = opened.convert("RGB")
    scale = min(1.0, _WIDTH / image.width)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    image = image.crop((0, 0, image.width, min(image.height, _HEIGHT)))
    image.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(shown, optimize=True)


def main() -> None:
    """Every one that the tests have taken; those of tests that were skipped stay as they are."""
    for name, source in SHOWN.items():
        taken = SCREENS / f"{source}.png"
        if taken.exists():
            smaller(taken, PICTURES / f"{name}.png")
            print(f"docs/images/{name}.png")  # noqa: T201


if __name__ == "__main__":
    main()
