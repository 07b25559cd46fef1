"""Figures beside their bounds, as text, as Markdown and as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_HEAD = ("figure", "measured", "middle half", "bound", "", "remark")


@dataclass(frozen=True, slots=True)
class Bound:
    limit: float
    sense: Literal["at least", "at most"] = "at least"

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.sense == "at least" else value <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value (None: it could not be measured, and the remark says why) with the middle half of its runs."""

    name: str
    value: float | None
    unit: str
    bound: Bound | None = None
    middle_half: tuple[float, float] | None = None
    remark: str = ""

    @property
    def verdict(self) -> Literal["PASS", "miss", "skipped", ""]:
        if self.value is None:
            return "skipped"
        if self.bound is None:
            return ""
        return "PASS" if self.bound.holds(self.value) else "miss"

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the table."""
        measured = "-" if self.value is None else f"{_number(self.value)} {self.unit}"
        spread = " - ".join(map(_number, self.middle_half)) if self.middle_half else ""
        bound = f"{self.bound.sense} {_number(self.bound.limit)}" if self.bound else ""
        return self.name, measured, spread, bound, self.verdict, self.remark


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def as_text(figures: Sequence[Figure]) -> str:
    rows = [_HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def as_markdown(figures: Sequence[Figure]) -> str:
    rows = [_HEAD, ("---",) * len(_HEAD), *(figure.cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_json(figures: Sequence[Figure], machine: dict[str, str]) -> str:
    entries = [dataclasses.asdict(figure) | {"verdict": figure.verdict} for figure in figures]
    return json.dumps({"machine": machine, "figures": entries}, indent=2)
