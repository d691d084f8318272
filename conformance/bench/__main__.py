"""`python -m conformance.bench`: every benchmark, one after the other, and a report."""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pydicom
from rich.progress import Progress

from conformance.bench import abuse, ehr, fhir, images, network, peers, portal, registry, report, smart, transfers, viewer, web
from conformance.bench.corpus import ct_series, ct_study
from conformance.bench.peers import Peer
from conformance.bench.postgresql import NoPostgresql
from conformance.bench.report import Measurement

_AUTHORITY = "1.2.3.4.5"
_SUITES = ("store", "images", "web", "fhir", "smart", "abuse", "transfers", "registry", "viewer", "portal")
_ROUNDS = 3
_NAGLED = 60


def main() -> None:
    """Runs what is asked for and prints the table; writes bench.json and bench.png where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m conformance.bench", description=__doc__)
    parser.add_argument("what", nargs="*", default=list(_SUITES), help=f"{', '.join(_SUITES)} (default: all)")
    parser.add_argument("--instances", type=int, default=500, help="images of the CT study")
    parser.add_argument("--archive", type=int, default=201, help="small studies of 10 images behind the DICOMweb searches")
    parser.add_argument("--studies", type=int, default=200_000, help="studies behind the FHIR searches")
    parser.add_argument("--patients", type=int, default=50_000, help="patients that those studies are of")
    parser.add_argument(
        "--database", choices=(*fhir.DATABASES, "both"), default="both", help="of the suites fhir, smart and registry"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=4.0, help="of the study of the suite transfers; its folder takes four times as much"
    )
    parser.add_argument("--entries", type=int, default=1_000_000, help="Document Entries of the suite registry")
    parser.add_argument(
        "--copies", action="store_true", help="registry: one submission is registered, the others are copies of its rows"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="of the C-STORE and WADO-RS measurements, interleaved")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for bench.json and bench.png")
    asked = parser.parse_args()
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="imageshare-bench-") as name, Progress() as progress:
        folder = Path(name)
        files = ct_study(folder / "ct", asked.instances) if {"store", "images", "web"} & set(asked.what) else []
        if "store" in asked.what:
            measured += _store(folder, files, asked.rounds, progress)
        if "images" in asked.what:
            measured += _images(folder, files, asked.rounds, progress)
        if "web" in asked.what:
            measured += _web(folder, files, asked.archive, asked.seconds, progress)
        of_fhir = _fhir(folder, asked, progress) if "fhir" in asked.what else []
        of_smart = _smart(folder, asked, progress) if "smart" in asked.what else []
        of_transfers = _transfers(folder, asked.gigabytes, progress) if "transfers" in asked.what else []
        of_registry = _registry(folder, asked, progress) if "registry" in asked.what else []
        of_viewer = _viewer(folder, asked.rounds, progress) if "viewer" in asked.what else []
        of_portal = _portal(folder, asked.rounds, progress) if "portal" in asked.what else []
        outcomes = _abuse(folder, progress) if "abuse" in asked.what else []
    if measured:
        measured = report.best(measured)
        report.show(measured)
        report.keep(report.with_earlier(measured, asked.out), asked.out)
    if of_fhir:
        report.show_fhir(of_fhir)
        report.keep_fhir(of_fhir, asked.out)
    if of_smart:
        of_smart = report.best(of_smart)
        report.show_fhir(of_smart, "SMART on FHIR")
        report.keep_fhir(of_smart, asked.out, "smart")
    if of_transfers:
        report.show_fhir(of_transfers, "Transfers; p50 is the time until the first byte")
        report.keep_fhir(of_transfers, asked.out, "transfers")
    if of_registry:
        report.show_fhir(of_registry, "Document Registry")
        report.keep_fhir(of_registry, asked.out, "registry")
    if of_viewer:
        report.show_fhir(of_viewer, "Viewer, in Chromium; p95 is the slowest")
        report.keep_fhir(of_viewer, asked.out, "viewer")
    if of_portal:
        report.show_fhir(of_portal, "Portal, under Lighthouse; p50 is its largest contentful paint")
        report.keep_fhir(of_portal, asked.out, "portal")
    if outcomes:
        report.show_abuse(outcomes)
        report.keep_abuse(outcomes, asked.out)


@contextmanager
def _both(folder: Path, *, durable: bool = True, nodelay: bool = True) -> Iterator[list[Peer]]:
    """Both servers at once, each over an empty folder."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh, ExitStack() as stack:
        ours = stack.enter_context(peers.imageshare(Path(fresh) / "ours" / "data", durable=durable))
        theirs = stack.enter_context(peers.orthanc(Path(fresh) / "orthanc" / "data", durable=durable, nodelay=nodelay))
        yield [ours, theirs] if theirs else [ours]


def _store(folder: Path, files: Sequence[Path], rounds: int, progress: Progress) -> list[Measurement]:
    """C-STORE: durable and not, 1, 4 and 16 associations, and with clients and servers as they come. Every store is a first one."""
    measured = []
    for durable in (True, False):
        for associations in (1, 4, 16) if durable else (1, 4):
            work = f"C-STORE CT, {associations} association{'s' if associations > 1 else ''}{'' if durable else ', not durable'}"
            task = progress.add_task(work, total=rounds)
            for _ in range(rounds):
                with _both(folder, durable=durable) as both:
                    measured += [network.store(peer, files, associations, work=work) for peer in both]
                progress.advance(task)
    task = progress.add_task("C-STORE, clients as they come", total=1)
    with _both(folder, nodelay=False) as both:
        work = "C-STORE CT, 1 association, Nagle's algorithm left on"
        measured += [network.store(peer, files[:_NAGLED], nodelay=False, work=work) for peer in both]
    progress.advance(task)
    with peers.bare_pynetdicom() as bare:
        measured.append(network.store(bare, files))
    return measured


def _images(folder: Path, files: Sequence[Path], rounds: int, progress: Progress) -> list[Measurement]:
    """STOW-RS, WADO-RS of the study, and the DICOM network's questions about it."""
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    measured = []
    for number in range(rounds):
        task = progress.add_task(f"STOW-RS, WADO-RS, C-GET, C-MOVE, round {number + 1}", total=None)
        with _both(folder) as both:
            for peer in both:
                measured += [images.stow(peer, files), images.until_visible(peer, uid, files)]
            for _ in range(rounds):
                measured += [images.retrieve(peer, files) for peer in both]
                measured.append(images.ceiling(files))
            measured += [row for peer in both for row in network.ask(peer, files)]
        progress.update(task, completed=1, total=1)
    return measured


def _web(folder: Path, files: Sequence[Path], studies: int, seconds: float, progress: Progress) -> list[Measurement]:
    with _both(folder) as both:
        stored = [web.fill(peer, files, studies, progress) for peer in both]
        task = progress.add_task("QIDO-RS, C-FIND, metadata, frames, rendered, ZIP", total=len(both))
        measured = []
        for peer, what in zip(both, stored, strict=True):
            measured += [*web.measure(peer, what, seconds), *network.find(peer)]
            progress.advance(task)
    return measured


def _fhir(folder: Path, asked: argparse.Namespace, progress: Progress) -> list[Measurement]:
    return _on_databases(
        folder, asked.database, progress, lambda peer, _: fhir.suite(peer, asked.studies, asked.patients, asked.seconds, progress)
    )


def _smart(folder: Path, asked: argparse.Namespace, progress: Progress) -> list[Measurement]:
    """Without limits for wrong passwords: what a flood of them costs is to be seen, not how soon it is turned away."""
    return _on_databases(
        folder, asked.database, progress, lambda peer, own: smart.suite(peer, own, asked.seconds, asked.rounds, progress), smart.SETTINGS
    )  # fmt: skip


def _registry(folder: Path, asked: argparse.Namespace, progress: Progress) -> list[Measurement]:
    return _on_databases(
        folder, asked.database, progress, lambda peer, _: registry.suite(peer, asked.entries, asked.seconds, progress, copies=asked.copies),
        registry.settings(),
    )  # fmt: skip


def _viewer(folder: Path, rounds: int, progress: Progress) -> list[Measurement]:
    """A CT of one series of 100 slices, and another one as the next study."""
    studies = [ct_series(folder / f"series-{seed}", 100, seed, issuer="SITE") for seed in (7, 8)]
    first = pydicom.dcmread(studies[0][0], stop_before_pixels=True)
    uids = [str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID) for files in studies]
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(dir=folder) as fresh, ExitStack() as stack:
        socket_ = ehr.free()
        told = {**ehr.settings(socket_.getsockname()[1], _AUTHORITY), "authorities": {"SITE": _AUTHORITY}}
        settings = {name: json.dumps(value) for name, value in told.items()}
        ours = stack.enter_context(peers.imageshare(Path(fresh) / "ours" / "data", settings=settings))
        chart = stack.enter_context(ehr.running(socket_, ours.base))
        chart.knows("bench", str(first.PatientID))
        theirs = None
        try:
            theirs = stack.enter_context(peers.orthanc(Path(fresh) / "orthanc" / "data", more=viewer.ohif(Path(fresh) / "ohif")))
        except viewer.NotHere as reason:
            progress.console.print(f"OHIF is left out: {reason}")
        for peer in filter(None, (ours, theirs)):
            viewer.fill(peer, studies)
        ours.await_results("/dicomweb/studies", 2)
        try:
            browser = stack.enter_context(viewer.chromium())
            for row in viewer.suite(browser, ours, theirs, chart, uids, rounds, progress):
                measured.append(row)  # noqa: PERF402 what comes before an error stays
        except viewer.NotHere as reason:
            progress.console.print(f"the viewer is left out: {reason}")
    return measured


def _portal(folder: Path, rounds: int, progress: Progress) -> list[Measurement]:
    """With a patient who has one study."""
    files = ct_series(folder / "series", 20, 7)
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(dir=folder) as fresh, peers.imageshare(Path(fresh) / "data") as ours:
        viewer.fill(ours, [files])
        ours.await_results("/dicomweb/studies", 1)
        try:
            with viewer.chromium() as browser:
                for row in portal.suite(browser, ours, Path(fresh) / "lighthouse", rounds, progress):
                    measured.append(row)  # noqa: PERF402 what comes before an error stays
        except viewer.NotHere as reason:
            progress.console.print(f"the portal is left out: {reason}")
    return measured


def _transfers(folder: Path, gigabytes: float, progress: Progress) -> list[Measurement]:
    """What was measured before something broke is kept."""
    what, measured = transfers.study(folder / "template", gigabytes), list[Measurement]()
    task = progress.add_task(f"transfers of {what.count:,} instances, {what.size / 1e9:.1f} GB", total=None)
    with (
        tempfile.TemporaryDirectory(dir=folder) as fresh,
        peers.imageshare(Path(fresh) / "data", settings=transfers.SETTINGS) as peer,
    ):
        try:
            for row in transfers.suite(peer, Path(fresh), what):
                measured.append(row)
                progress.update(task, description=f"after {row.work}")
        except fhir.BROKEN as error:
            progress.console.print(f"transfers are broken off: {error}")
    progress.update(task, completed=1, total=1)
    return measured


def _on_databases(
    folder: Path,
    databases: str,
    progress: Progress,
    suite: Callable[[Peer, Path], Iterator[Measurement]],
    settings: Mapping[str, object] = {},
) -> list[Measurement]:
    """One database after the other, each in a folder of its own. What was measured before something broke is kept."""
    measured: list[Measurement] = []
    for database in fhir.DATABASES if databases == "both" else (databases,):
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            try:
                with fhir.server(Path(fresh), database, settings) as peer:
                    for row in suite(peer, Path(fresh)):
                        measured.append(row)  # noqa: PERF402 what comes before an error stays
            except NoPostgresql as reason:
                progress.console.print(f"{fhir.DATABASES[database]} is left out: {reason}")
            except fhir.BROKEN as error:
                progress.console.print(f"{fhir.DATABASES[database]} is broken off: {error}")
    return measured


def _abuse(folder: Path, progress: Progress) -> list[abuse.Outcome]:
    outcomes = []
    for name, server in (("ours", peers.imageshare), ("orthanc", peers.orthanc)):
        task = progress.add_task(f"bad input: {name}", total=len(abuse.CASES))
        outcomes += abuse.run(
            lambda name=name, server=server: server(Path(tempfile.mkdtemp(dir=folder)) / name / "data"),  # type: ignore[misc]
            lambda told, task=task: progress.update(task, advance=1, description=told),  # type: ignore[misc]
        )
    return outcomes


if __name__ == "__main__":
    main()
