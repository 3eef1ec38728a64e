"""Tables for papers, in LaTeX with booktabs, made from Records alone."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from reports.comparison import Comparison, Row
from reports.labels import label_of
from reports.notes import setups
from reports.palette import words
from reports.tables import gib, percent

PREAMBLE = r"""% To compile this file alone, put before it
%   \documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}
% and behind it \end{document}. In a document of your own, load booktabs and \input this file.
"""
COLUMNS: Final = (
    "Method",
    "Score (%)",
    "95 % interval",
    "Seeds",
    "Peak (GiB)",
    "Of full (%)",
    "Trainable (%)",
    "Train (s)",
)
_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"{''}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "–": r"\textendash{}",
}
"""A bracket or a star behind a row's end would be its argument."""


def comparison_latex(comparison: Comparison) -> str:
    """Return one table for every ranking, best first.

    Returns:
        LaTeX that needs booktabs, with a comment that says how to compile it.
    """
    of_row = setups(comparison.rows)
    tables = [_table(rows, of_row[rows[0].record.run_key]) for rows in comparison.rankings]
    if not tables:
        tables = [escaped("There are no finished runs to compare.") + "\n"]
    left_out = (
        f"% Left out: {comparison.limited} limited, {comparison.unfinished} unfinished runs.\n"
    )
    return "\n".join([PREAMBLE + left_out, *tables])


def escaped(text: str) -> str:
    """Return LaTeX that shows ``text`` as it is, on one line.

    Characters beyond ASCII that not every font has are shown as their code point, ``U+4E2D``.
    """
    shown = "".join(map(_character, " ".join(text.split())))
    return re.sub("-(?=-)", "-{}", shown)  # hyphens would join to a dash


def _character(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    return char if " " <= char <= "~" else f"U+{ord(char):04X}"


def _table(rows: Sequence[Row], setup: str) -> str:
    """Return the table of one ranking, with a caption that says what its rows have in common."""
    names = " & ".join(escaped(name) for name in COLUMNS)
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escaped(_caption(rows, setup))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(COLUMNS) - 1)}}}",
        r"\toprule",
        rf"{names} \\",
        r"\midrule",
        *(rf"{' & '.join(_cells(row))} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(rows: Sequence[Row], setup: str) -> str:
    return " ".join(_sentences(rows, setup))


def _sentences(rows: Sequence[Row], setup: str) -> Iterator[str]:
    record = rows[0].record
    other = f", {setup}" if setup else ""
    yield (
        f"{words(record.metrics.primary)} on the test split of {record.dataset} ({record.task}), "
        f"recipe {record.recipe}, backbone {record.backbone}{other}."
    )
    if any(len(row.seeds) > 1 for row in rows):
        yield "Mean ± standard deviation over seeds; interval of the mean by Student's t."
    if any(row.group != rows[0].group for row in rows):
        yield "NOT A FAIR RANKING: the runs differ in more than the method."
    if any(row.best for row in rows):
        yield "Bold: every other row is worse, at 5 % after Holm's correction."
    if rows[0].bundled:
        yield "The data are bundled with the harness: comparable with no published score."


def _cells(row: Row) -> list[str]:
    deviation = "" if row.deviation is None else f" ± {percent(row.deviation)}"
    score = escaped(percent(row.mean) + deviation)
    cells = (
        "" if row.interval is None else "–".join(percent(end) for end in row.interval),
        str(len(row.seeds)),
        "" if row.peak_bytes is None else gib(row.peak_bytes),
        "" if row.peak_ratio is None else f"{100 * row.peak_ratio:.0f}",
        "" if row.trainable_percent is None else f"{row.trainable_percent:.2f}",
        "" if row.train_seconds is None else f"{row.train_seconds:.1f}",
    )
    bold = rf"\textbf{{{score}}}" if row.best else score
    return [escaped(label_of(row)), bold, *map(escaped, cells)]
