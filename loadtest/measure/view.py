"""The live view of a run on standard error: a panel on a terminal, otherwise a line every 5 s."""

from __future__ import annotations

import time
from typing import Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from loadtest.measure.watch import Glance, RunWatch
from loadtest.traffic.traffic import Traffic

PANEL_EVERY_S: Final = 0.5
LINE_EVERY_S: Final = 5.0
COLOURS: Final = {"approve": "green", "review": "yellow", "block": "red"}


class ViewDetails(Protocol):
    """Something that a view shows besides the figures."""

    def panel(self, traffic: Traffic) -> RenderableType:
        """Return the part to draw under the figures on a terminal."""

    def lines(self) -> list[str]:
        """Return what is new since the last call, as lines of text."""


class RunView:
    """Context manager that shows a run while `tick` is called, at least every 50 ms or so."""

    def __init__(
        self,
        watch: RunWatch,
        console: Console,
        *,
        details: ViewDetails | None = None,
    ) -> None:
        self.title = ""
        self._watch = watch
        self._console = console
        self._details = details
        self._every = PANEL_EVERY_S if console.is_terminal else LINE_EVERY_S
        self._shown = 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def say(self, text: str) -> None:
        """Print a line above the panel, and make it the panel's title."""
        self.title = text
        self._console.print(text, markup=False, soft_wrap=True)

    def tick(self, traffic: Traffic) -> bool:
        """Update the view if it is time to; always returns True."""
        now = time.monotonic()
        if now - self._shown >= self._every:
            self._shown = now
            glance = self._watch.look(traffic)
            if self._live is None:
                more = self._details.lines() if self._details is not None else []
                for text in (line(glance), *more):
                    self._console.print(text, markup=False, soft_wrap=True)
            else:
                self._live.update(self._panel(glance, traffic), refresh=True)
        return True

    def _panel(self, glance: Glance, traffic: Traffic) -> RenderableType:
        parts: list[RenderableType] = [figures(glance)]
        if self._details is not None:
            parts.append(self._details.panel(traffic))
        return Panel(Group(*parts), title=self.title, title_align="left")

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; the last state stays on the screen."""
        if self._live is not None:
            self._live.stop()


def line(glance: Glance) -> str:
    """Return the figures as one line of text."""
    mix = ", ".join(f"{name} {share:.1%}" for name, share in glance.mix.items())
    return (
        f"sent {glance.sent:,} ({glance.sent_per_s:,.0f}/s), decided {glance.decided:,} "
        f"({glance.decided_per_s:,.0f}/s), p50 {glance.p50_ms:.1f} ms, p99 {glance.p99_ms:.1f} ms, "
        f"waiting {glance.waiting:,}; {mix}"
    )


def figures(glance: Glance) -> Table:
    """Return the figures as a table."""
    table = Table.grid(padding=(0, 3))
    for _ in range(5):
        table.add_column(justify="right")
    table.add_row("", "sent", "decided", "waiting", "p50 / p99", style="dim")
    table.add_row(
        "now",
        f"{glance.sent_per_s:,.0f}/s",
        f"{glance.decided_per_s:,.0f}/s",
        f"{glance.waiting:,}",
        f"{glance.p50_ms:.1f} / {glance.p99_ms:.1f} ms",
    )
    table.add_row("all", f"{glance.sent:,}", f"{glance.decided:,}", "", "")
    mix = "   ".join(
        f"[{COLOURS[name]}]{name} {share:.2%}[/]" for name, share in glance.mix.items()
    )
    table.add_row("mix", "", "", "", mix)
    return table
