"""How the demo is told: numbered steps with a tick, what was done, the evidence and where to look."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

_WITHOUT_TERMINAL = 110
"""Columns where there is no terminal to ask: a log file of a build."""


class Failed(Exception):
    """A step did not show what it should; the message says what was seen instead."""


def require(condition: object, otherwise: str) -> None:
    """Raises `Failed` with `otherwise` unless `condition` holds."""
    if not condition:
        raise Failed(otherwise)


class Told:
    """What a step found out: lines of evidence, where to look, and anything larger below."""

    def __init__(self) -> None:
        self.evidence: list[str] = []
        self.look: list[str] = []
        self.below: list[RenderableType] = []

    def say(self, line: str) -> None:
        """One more line of evidence."""
        self.evidence.append(line)

    def look_at(self, line: str) -> None:
        """A request, file or URL where the reader can see it for himself."""
        self.look.append(line)

    def show(self, table: RenderableType) -> None:
        """Something of more than a line, such as a table."""
        self.below.append(table)


class Story:
    """Numbers the steps and draws them. A step that raises is drawn with a cross and ends the story."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.number = 0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self.started

    def title(self, headline: str, *lines: str) -> None:
        self.console.print()
        self.console.print(Rule(Text(headline, style="bold"), characters="━", style="cyan"))
        for line in lines:
            self.console.print(Text(f"  {line}", style="dim"))

    def chapter(self, name: str) -> None:
        self.console.print()
        self.console.print(Rule(Text(f" {name} ", style="bold cyan"), align="left", characters="─", style="cyan"))

    @contextmanager
    def step(self, what: str, *, spinner: bool = True) -> Iterator[Told]:
        """One step: a spinner while it runs, then its line. Exceptions pass on as `Failed`, drawn already.

        Without `spinner` the step may draw a progress bar of its own.
        """
        self.number += 1
        told, began = Told(), time.monotonic()
        try:
            with self._spinner(f"{self.number:>2}  {what} ...") if spinner else nullcontext():
                yield told
        except Failed as reason:
            self._cross(what, str(reason))
            raise
        except Exception as error:
            # Whatever a library raised: one clear line, the server's log has the rest.
            self._cross(what, f"{type(error).__name__}: {str(error) or 'no message'}")
            raise Failed(what) from error
        self._tick(what, told, time.monotonic() - began)

    @contextmanager
    def _spinner(self, text: str) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(Text(text, style="bold"), spinner="dots"):
            yield

    def _tick(self, what: str, told: Told, seconds: float) -> None:
        self.console.print(self._line("✓", "green", what, Text("\n".join(told.evidence)), f"{seconds:.1f} s"))
        for line in told.look:
            self.console.print(Padding(Text(f"→ {line}", style="dim", overflow="fold"), (0, 0, 0, 8)))
        for renderable in told.below:
            self.console.print(Padding(renderable, (0, 0, 0, 8)))

    def _cross(self, what: str, reason: str) -> None:
        self.console.print(self._line("✗", "bold red", what, Text(reason, style="red"), ""))

    def _line(self, mark: str, style: str, what: str, evidence: Text, seconds: str) -> Table:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=3, justify="right")
        grid.add_column(width=3, justify="right", style="bold")
        grid.add_column(width=29, style="bold")
        grid.add_column(ratio=1, overflow="fold")
        grid.add_column(width=6, justify="right", style="dim")
        grid.add_row(Text(mark, style=style), str(self.number), what, evidence, seconds)
        return grid


def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], style: Callable[[tuple[str, ...]], str]) -> RenderableType:
    """A small table; `style` gives each row's style."""
    made = Table(box=None, padding=(0, 3, 0, 0), header_style="bold dim")
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="right" if place == len(headings) - 1 else "left")
    for row in rows:
        made.add_row(*row, style=style(row))
    return Group(made)


def console() -> Console:
    """The console of the demo: as wide as the terminal, and wide enough for whole lines where there is none."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made = Console(highlight=False, width=_WITHOUT_TERMINAL)
    return made
