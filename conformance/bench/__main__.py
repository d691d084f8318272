"""`python -m conformance.bench`: every benchmark, one after the other, and a report."""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pydicom
from rich.progress import Progress

from conformance.bench import images, peers, report, resources
from conformance.bench.corpus import ct_study

_ROUNDS = 3


def main() -> None:
    """Runs what is asked for and prints the table; writes bench.json and bench.png where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m conformance.bench", description=__doc__)
    parser.add_argument("what", nargs="*", default=["images", "fhir"], help="images, fhir (default: both)")
    parser.add_argument("--instances", type=int, default=500, help="images of the CT study")
    parser.add_argument("--studies", type=int, default=20_000, help="studies behind the FHIR searches")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each FHIR load")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for bench.json and bench.png")
    asked = parser.parse_args()
    measured: list[report.Measurement] = []
    with tempfile.TemporaryDirectory(prefix="imageshare-bench-") as folder, Progress() as progress:
        if "images" in asked.what:
            measured += _images(Path(folder), asked.instances, progress)
        if "fhir" in asked.what:
            with peers.imageshare(Path(folder) / "fhir" / "data") as ours:
                seconds = resources.fill(ours, asked.studies, progress)
                measured.append(
                    report.Measurement("STOW-RS and publish, small studies", ours.name, asked.studies / seconds, "studies/s")
                )
                measured += resources.measure(ours, asked.seconds)
    measured = report.best(measured)
    report.show(measured)
    report.keep(measured, asked.out)


def _images(folder: Path, instances: int, progress: Progress) -> list[report.Measurement]:
    task = progress.add_task("generate the CT study", total=None)
    files = ct_study(folder / "ct", instances)
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    progress.update(task, completed=1, total=1)
    measured = []
    for door in (images.store, images.stow):
        with ExitStack() as stack:
            ours = stack.enter_context(peers.imageshare(folder / f"ours-{door.__name__}" / "data"))
            theirs = stack.enter_context(peers.orthanc(folder / f"orthanc-{door.__name__}" / "data"))
            for peer in filter(None, (ours, theirs)):
                task = progress.add_task(f"{door.__name__}: {peer.name}", total=None)
                measured.append(door(peer, files))
                if door is images.stow:
                    measured.append(images.until_visible(peer, uid, files))
                progress.update(task, completed=1, total=1)
            if door is images.store:
                with peers.bare_pynetdicom() as bare:
                    measured.append(door(bare, files))
                continue
            for _ in range(_ROUNDS):  # interleaved, so that what else the machine does meets all alike
                measured += [images.retrieve(peer, files) for peer in (ours, theirs) if peer]
                measured.append(images.ceiling(files))
    return measured


if __name__ == "__main__":
    main()
