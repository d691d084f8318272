"""What was measured, as a table, as JSON and as a picture; with machine and load, since absolutes do not travel."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conformance.bench.abuse import Outcome
from conformance.bench.targets import MARKS, MEMORY, PROCESSOR, RATIOS, Mark

PEER = "Orthanc"


@dataclass(frozen=True, slots=True)
class Measurement:
    """`cpu_ms` is server CPU per file, `memory` the peak MB of its processes; 0 where it was not measured."""

    work: str
    who: str
    rate: float
    unit: str
    megabytes: float = 0.0
    cpu_ms: float = 0.0
    memory: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    ceiling: str = ""
    """The work, of the same server in the same run, that this one cannot be faster than."""
    database_ms: float = 0.0
    """CPU of the database server per file, where there is one."""
    client_ms: float = 0.0
    """CPU of the load generator per file, on the same machine."""
    note: str = ""
    """What is to be known of this row, such as that requests failed."""

    @property
    def per_core(self) -> float:
        """How many a second would take one core of the server's CPU; 0 where that was not measured."""
        return 1000 / self.cpu_ms if self.cpu_ms else 0.0


def machine() -> str:
    """Processor, cores, memory, load and versions, in one line."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{cpu}, {os.cpu_count()} cores, {memory} GiB · load {load} · Python {platform.python_version()} · {platform.system()} {platform.release()}"


def best(measured: Sequence[Measurement]) -> list[Measurement]:
    """Of several rounds of the same work by the same server the fastest one."""
    kept: dict[tuple[str, str], Measurement] = {}
    for row in measured:
        known = kept.get((row.work, row.who))
        if known is None or row.rate > known.rate:
            kept[row.work, row.who] = row
    return sorted(kept.values(), key=lambda row: [each.work for each in measured].index(row.work))


def show(measured: Sequence[Measurement], ours: str = "imageshare") -> None:
    """A table on the terminal: for others the ratio of ours to theirs in the same work, for ours that to its ceiling."""
    table = Table(title="Benchmarks", caption=machine())
    shares = (f"CPU of {PROCESSOR:g}", f"memory of {MEMORY:g}")
    for column in ("work", "who", "rate", "MB/s", "CPU ms/file", "peak MB", "p50 ms", "p95 ms", "ratio", *shares):
        table.add_column(column, justify="left" if column in ("work", "who") else "right")
    mine = {row.work: row for row in measured if row.who == ours}
    rates = {work: row.rate for work, row in mine.items()}
    for row in measured:
        ratio = ""
        if row.who != ours and row.rate and row.work in rates:
            ratio = f"ours {rates[row.work] / row.rate:.2f} x" + (
                f" of {RATIOS[row.work]:g}" if row.who == PEER and row.work in RATIOS else ""
            )
        elif row.ceiling in rates:
            ratio = f"{row.rate / rates[row.ceiling]:.2f} of ceiling"
        table.add_row(
            row.work, row.who, f"{row.rate:,.0f} {row.unit}", _or_blank(row.megabytes), _or_blank(row.cpu_ms, 2), _or_blank(row.memory),
            _or_blank(row.p50, 2), _or_blank(row.p95, 2), ratio,
            *(_share(mine.get(row.work), row) if row.who == PEER else ("", "")),
        )  # fmt: skip
    Console(width=200).print(table)


def _share(ours: Measurement | None, theirs: Measurement) -> tuple[str, str]:
    """Our CPU and our memory as parts of theirs, where both were measured."""
    if ours is None:
        return "", ""
    pairs = ((ours.cpu_ms, theirs.cpu_ms), (ours.memory, theirs.memory))
    cpu, memory = (f"{mine / other:.2f}" if mine and other else "" for mine, other in pairs)
    return cpu, memory


def with_earlier(measured: Sequence[Measurement], folder: Path) -> list[Measurement]:
    """`measured`, and before it what `bench.json` in `folder` has of other works: suites may be run one by one."""
    file = folder / "bench.json"
    if not file.exists():
        return list(measured)
    now = {row.work for row in measured}
    return [
        row for row in (Measurement(**each) for each in json.loads(file.read_text())["measured"]) if row.work not in now
    ] + list(measured)


def _told(measured: Sequence[Measurement]) -> dict[str, object]:
    """As JSON, with when and where."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": at, "machine": machine(), "measured": [asdict(row) for row in measured]}


def keep(measured: Sequence[Measurement], folder: Path) -> None:
    """`bench.json` and, where matplotlib is installed, `bench.png` and `ratios.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(_told(measured), indent=1) + "\n")
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("agg")
    from matplotlib import pyplot as plt

    works = list(dict.fromkeys(row.work for row in measured))
    figure, axes = plt.subplots(figsize=(11, 1.2 + 0.34 * len(measured)))
    labels, values, colours = [], [], []
    shades = {"imageshare": "#3b6ea5", "Orthanc": "#b07a2a"}
    for work in works:
        for row in (row for row in measured if row.work == work):
            labels.append(f"{work} · {row.who}")
            values.append(row.rate)
            colours.append(shades.get(row.who, "#9aa7b3"))
    axes.barh(range(len(values)), values, color=colours)
    axes.set_yticks(range(len(values)), labels, fontsize=8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:,.0f}", va="center", fontsize=8)
    axes.set_title("files/s or requests/s, log scale")
    axes.text(0, -0.08, machine(), transform=axes.transAxes, fontsize=6, color="#55697d")
    figure.tight_layout()
    figure.savefig(folder / "bench.png", dpi=110)
    plt.close(figure)
    _ratios(measured, folder / "ratios.png")


def _ratios(measured: Sequence[Measurement], path: Path, ours: str = "imageshare") -> None:
    """Our rate as a multiple of the peer's, work by work, with what we have set ourselves to reach."""
    from matplotlib import pyplot as plt

    rates = {(row.work, row.who): row.rate for row in measured}
    works = [work for work, who in rates if who == PEER and rates.get((work, ours)) and rates[work, PEER]]
    if not works:
        return
    figure, axes = plt.subplots(figsize=(11, 1.4 + 0.3 * len(works)))
    values = [rates[work, ours] / rates[work, PEER] for work in works]
    reached = ["#3b6ea5" if value >= RATIOS.get(work, 0) else "#b5483a" for work, value in zip(works, values, strict=True)]
    axes.barh(range(len(works)), values, color=reached)
    axes.set_yticks(range(len(works)), works, fontsize=8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.axvline(1, color="#55697d", linewidth=0.8)
    for place, (work, value) in enumerate(zip(works, values, strict=True)):
        axes.text(value, place, f" {value:,.1f}", va="center", fontsize=8)
        if work in RATIOS:
            axes.plot([RATIOS[work]] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    axes.set_title("rate of imageshare as a multiple of Orthanc's in the same run; black: what it is meant to reach")
    axes.text(0, -0.06, machine(), transform=axes.transAxes, fontsize=6, color="#55697d")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


_FHIR_COLUMNS = (
    "work", "on", "rate", "p50 ms", "p95 ms", "CPU us", "per core", "database CPU us", "client CPU us", "peak MB", "meant",
)  # fmt: skip


def show_fhir(measured: Sequence[Measurement], title: str = "FHIR") -> None:
    """A table on the terminal, with what is meant to be reached beside what was, and a word for all of it."""
    table = Table(title=title, caption=machine())
    for column in _FHIR_COLUMNS:
        table.add_column(column, justify="left" if column in ("work", "on", "meant") else "right")
    for cells in _fhir_rows(measured):
        table.add_row(*cells)
    console = Console(width=240)
    console.print(table)
    for line in _in_words(measured):
        console.print(line)


def keep_fhir(measured: Sequence[Measurement], folder: Path, name: str = "fhir") -> None:
    """`fhir.json` and `fhir.md`, or of another `name`: the same table and words for people."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(_told(measured), indent=1) + "\n")
    lines = [f"| {' | '.join(_FHIR_COLUMNS)} |", "|---" * len(_FHIR_COLUMNS) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in _fhir_rows(measured)]
    words = [f"- {line}" for line in _in_words(measured)]
    (folder / f"{name}.md").write_text("\n".join([*lines, "", *words, "", machine(), ""]))


def verdicts(row: Measurement, measured: Sequence[Measurement]) -> list[tuple[str, bool]]:
    """What of a row is meant to reach something: in words, and whether it has. A row with requests that failed reaches nothing."""
    found = []
    for mark in (each for each in MARKS.get(row.work, ()) if each.on in ("", row.who)):
        other = next((each for each in measured if (each.work, each.who) == (mark.of, row.who)), None)
        if mark.of and (other is None or not _figure(other, mark)):
            continue
        against = _figure(other, mark) if other else 0.0
        value = _figure(row, mark) - against if mark.more else _figure(row, mark) / (against or 1)
        reached = bool(value) and (value >= mark.bound if mark.at_least else value <= mark.bound) and "failed" not in row.note
        of = f" {'more than' if mark.more else 'x that of'} {mark.of}" if mark.of else ""
        word = "at least" if mark.at_least else "at most"
        amount = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
        found.append((f"{mark.figure} {amount}{of}, {word} {mark.bound:g}: {'reached' if reached else 'NOT reached'}", reached))
    return found


def _figure(row: Measurement, mark: Mark) -> float:
    return float(getattr(row, mark.figure.replace(" ", "_")))


def _fhir_rows(measured: Sequence[Measurement]) -> list[tuple[str, ...]]:
    return [
        (
            row.work, row.who, f"{row.rate:,.0f} {row.unit}", _or_blank(row.p50, 2), _or_blank(row.p95, 2),
            _or_blank(1000 * row.cpu_ms), _or_blank(row.per_core), _or_blank(1000 * row.database_ms), _or_blank(1000 * row.client_ms),
            _or_blank(row.memory), "; ".join([*(words for words, _ in verdicts(row, measured)), *filter(None, [row.note])]),
        )
        for row in measured
    ]  # fmt: skip


def _in_words(measured: Sequence[Measurement]) -> list[str]:
    """How many marks were reached on which database, and which were not."""
    told = []
    for who in dict.fromkeys(row.who for row in measured):
        found = [(row.work, *each) for row in measured if row.who == who for each in verdicts(row, measured)]
        told.append(f"{who}: {sum(reached for *_, reached in found)} of {len(found)} marks reached")
        told += [f"{who}: {work}: {words}" for work, words, reached in found if not reached]
    return told


def show_abuse(outcomes: Sequence[Outcome], ours: str = "imageshare") -> None:
    """What bad input did, case by case, ours first."""
    table = Table(title="Bad input", caption=machine())
    for column in ("case", "who", "answer", "s", "peak MB", "grown MB", "serves on"):
        table.add_column(column, justify="left" if column in ("case", "who", "answer") else "right")
    for case in dict.fromkeys(outcome.case for outcome in outcomes):
        for row in (row for row in outcomes if row.case == case):
            table.add_row(
                case if row.who == ours else "", row.who, row.answer[:70], f"{row.seconds:.1f}", f"{row.memory:,.0f}",
                f"{row.grown:,.0f}", "yes" if row.serves else "NO",
            )  # fmt: skip
    Console(width=180).print(table)


def keep_abuse(outcomes: Sequence[Outcome], folder: Path) -> None:
    """`abuse.json` and `abuse.md`, the same table for people."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "abuse.json").write_text(
        json.dumps({"machine": machine(), "outcomes": [asdict(row) for row in outcomes]}, indent=1)
    )
    lines = ["| case | who | answer | s | peak MB | serves on |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.case} | {row.who} | {row.answer} | {row.seconds:.1f} | {row.memory:,.0f} | {'yes' if row.serves else '**no**'} |"
        for case in dict.fromkeys(outcome.case for outcome in outcomes)
        for row in outcomes
        if row.case == case
    ]
    (folder / "abuse.md").write_text("\n".join(lines) + "\n")


def _or_blank(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if value else ""
