"""Tables for papers, in LaTeX with booktabs, made from Records alone."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from reports.comparison import Comparison, Row
from reports.labels import label_of
from reports.notes import setups
from reports.palette import words
from reports.tables import gib, percent

PACKAGES: Final = ("booktabs", "tabularx")
OPENING: Final = (
    r"\begin{table}",
    r"\centering\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{4pt}",
)
"""The first lines of every table."""
COLUMNS: Final = (
    ("", "Method"),
    ("Score", "(%)"),
    ("95 %", "interval"),
    ("", "Seeds"),
    ("Peak", "(GiB)"),
    ("Of full", "(%)"),
    ("Trainable", "(%)"),
    ("Train", "(s)"),
)
"""The two lines of every column's head."""
ROWS: Final = 16
"""A page holds so many, be their names of three lines."""
_WRAPPED: Final = r">{\raggedright\arraybackslash\hangindent=1em}X"
"""The column of names takes the width that the numbers leave, and wraps."""
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
    "×": r"$\times$",
    "–": r"\textendash{}",
}
"""A bracket or a star behind a row's end would be its argument."""


def comparison_latex(comparison: Comparison) -> str:
    """Return one table for every ranking, best first; a long ranking has several.

    Returns:
        LaTeX that needs booktabs and tabularx, with a comment that says how to compile it.
    """
    of_row = setups(comparison.rows)
    tables = [
        _table(rows, start, of_row[rows[0].record.run_key])
        for rows in comparison.rankings
        for start in range(0, len(rows), ROWS)
    ]
    if not tables:
        tables = [escaped("There are no finished runs to compare.") + "\n"]
    left_out = (
        f"% Left out: {comparison.limited} limited, {comparison.unfinished} unfinished runs.\n"
    )
    return "\n".join([preamble(PACKAGES) + left_out, *tables])


def preamble(packages: Sequence[str]) -> str:
    """Return the comment that says how to compile a file of tables which need some packages."""
    document = rf"\usepackage{{{','.join(packages)}}}\begin{{document}}"
    return (
        "% To compile this file alone, put before it\n"
        rf"%   \documentclass{{article}}\usepackage[T1]{{fontenc}}{document}"
        "\n"
        r"% and behind it \end{document}. In a document of your own, load "
        f"{' and '.join(packages)}, and\n"
        r"% \input this file."
        "\n"
    )


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


def _table(rows: Sequence[Row], start: int, setup: str) -> str:
    """Return a page's rows of a ranking, with a caption that says what all have in common."""
    page = rows[start : start + ROWS]
    caption = " ".join(_sentences(rows, setup))
    if len(rows) > ROWS:
        caption += f" Rows {start + 1} to {start + len(page)} of {len(rows)}."
    heads = [" & ".join(map(escaped, line)) for line in zip(*COLUMNS, strict=True)]
    lines = [
        *OPENING,
        rf"\caption{{{escaped(caption)}}}",
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{_WRAPPED}{'r' * (len(COLUMNS) - 1)}@{{}}}}",
        r"\toprule",
        *(rf"{head} \\" for head in heads),
        r"\midrule",
        *(rf"{' & '.join(_cells(row))} \\" for row in page),
        r"\bottomrule",
        r"\end{tabularx}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


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
    return [_breakable(escaped(label_of(row))), bold, *map(escaped, cells)]


def _breakable(name: str) -> str:
    """Return an escaped name that may go on in the next line behind ``@`` and ``_``."""
    return re.sub(r"@|\\_", r"\g<0>\\allowbreak{}", name)
