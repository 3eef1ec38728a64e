"""The fourteen statements with their verdicts, for the terminal, for Markdown and for JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.markdown import code, escaped, table
from reports.palette import printable
from reports.reproduce.verdicts import ClaimVerdict, PartVerdict

HEADER = ("comparison", "effect", "interval", "tasks", "seeds", "examples", "verdict")
_LEFT = ("comparison", "verdict")
_STYLES = {"supported": "green", "contradicted": "red", "undecided": "yellow", "no data": "dim"}
_GO_ON = " \\"
_OPEN = ("undecided", "no data")
NOTES = (
    "Effects are means over tasks: points of the score (Rsum as its mean recall), or ratios; * is "
    "told beside and decides nothing.",
    "Intervals: bootstrap over tasks and, within a task, over seeds crossed with test examples "
    "where the runs' predictions are at hand, 95 % (90 % for an equivalence); p-values by Holm "
    "over fourteen statements. A verdict takes two tasks and 5 seeds of each.",
)


def claims_shown(verdicts: Sequence[ClaimVerdict]) -> RenderableType:
    """Return the statements for a terminal of 80 characters or more."""
    parts: list[RenderableType] = []
    for own in verdicts:
        style = f"bold {_STYLES[own.verdict]}"
        parts.append(Text.assemble((f"{own.claim.id} ", "bold"), own.claim.sentence))
        parts.append(Text.assemble("   ", (printable(_headline(own)), style)))
        parts.append(Padding(Text(f"Rule: {own.claim.rule}.", style="dim"), (0, 0, 0, 3)))
        parts.append(_grid(own.parts))
        parts += [Padding(Text(printable(line)), (0, 0, 0, 3)) for line in _reasons(own)]
        parts += [*_commands(own), Text("")]
    return Group(*parts, *map(Text, NOTES))


def claims_markdown(verdicts: Sequence[ClaimVerdict]) -> str:
    """Return the statements as Markdown."""
    parts = ["## Statements of the paper"]
    for own in verdicts:
        parts.append(f"### {own.claim.id}: {escaped(own.claim.sentence)}")
        parts.append(f"**{escaped(_headline(own))}**. Rule: {escaped(own.claim.rule)}.")
        rows = [[escaped(cell) for cell in _cells(part)] for part in own.parts]
        parts.append(table(HEADER, rows))
        remarks = [escaped(line) for line in _reasons(own)]
        remarks += [code(command) for command in own.claim.commands if own.verdict in _OPEN]
        if remarks:
            parts.append("\n".join(f"- {line}" for line in remarks))
    parts.append("\n".join(f"- {escaped(note)}" for note in NOTES))
    return "\n\n".join(parts) + "\n"


def claims_data(verdicts: Sequence[ClaimVerdict]) -> dict[str, Any]:
    """Return the statements JSON-ready."""
    return {"claims": [_claim_data(own) for own in verdicts], "notes": list(NOTES)}


def _claim_data(own: ClaimVerdict) -> dict[str, Any]:
    parts = []
    for part in own.parts:
        figures = {name: value for name, value in asdict(part).items() if name != "part"}
        names = ("label", "measure", "rule", "bound", "beside")
        parts.append({name: getattr(part.part, name) for name in names} | figures)
    return {
        "id": own.claim.id,
        "sentence": own.claim.sentence,
        "rule": own.claim.rule,
        "verdict": own.verdict,
        "scale": own.scale,
        "p_value": own.p_value,
        "reason": own.reason,
        "parts": parts,
        "commands": list(own.claim.commands),
        "note": own.claim.note,
    }


def _headline(own: ClaimVerdict) -> str:
    decided = own.verdict in ("supported", "contradicted")
    p_value = f", p = {own.p_value:.2g}" if decided else ""
    return f"{own.verdict}{p_value}{', ' + own.scale if own.scale else ''}"


def _commands(own: ClaimVerdict) -> Iterator[RenderableType]:
    if own.verdict in _OPEN and own.claim.commands:
        yield Text("   Runs that decide it:")
        yield from map(_Command, own.claim.commands)


@dataclass(frozen=True)
class _Command:
    """A command that can be copied at any width: a terminal would cut one long line off.

    Attributes:
        text: the command on one line.
    """

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield lines within the terminal, all but the last with the shell's sign to go on."""
        lines = textwrap.wrap(
            self.text,
            options.max_width - len(_GO_ON),
            initial_indent=" " * 5,
            subsequent_indent=" " * 7,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield Text(f"{_GO_ON}\n".join(lines), no_wrap=True, overflow="ignore")


def _reasons(own: ClaimVerdict) -> Iterator[str]:
    """Say what keeps parts from being decided, once for parts with the same reason."""
    if own.reason:
        yield f"{own.reason}."
    reasons: dict[str, list[str]] = {}
    for part in own.parts:
        if part.reason:
            reasons.setdefault(part.reason, []).append(part.part.label)
    for reason, labels in reasons.items():
        everywhere = len(labels) == len(own.parts) > 1
        yield f"{'all' if everywhere else '; '.join(labels)}: {reason}."
    hosts = sorted({host for part in own.parts for host in part.hosts})
    if hosts:
        yield f"Hosts with data: {', '.join(hosts)}."
    if own.claim.note:
        yield own.claim.note


def _grid(parts: Sequence[PartVerdict]) -> RenderableType:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in HEADER:
        left = name in _LEFT
        grid.add_column(
            name, justify="left" if left else "right", overflow="fold", no_wrap=not left
        )
    for part in parts:
        *cells, verdict = _cells(part)
        grid.add_row(*map(Text, cells), Text(verdict, style=_STYLES[part.verdict]))
    return Padding(grid, (0, 0, 0, 2))


def _cells(part: PartVerdict) -> list[str]:
    label = part.part.label + ("*" if part.part.beside else "")
    if part.effect is None or part.interval is None:
        return [label, *[""] * (len(HEADER) - 2), part.verdict]
    interval = " .. ".join(_number(part, end) for end in part.interval)
    return [
        label,
        _number(part, part.effect),
        interval,
        str(len(part.tasks)),
        str(part.seeds),
        str(part.examples or ""),
        part.verdict,
    ]


def _number(part: PartVerdict, value: float) -> str:
    return f"{value:.3f}" if part.part.rule == "ratio" else f"{value:+.2f}"
