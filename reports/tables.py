"""Tables for the terminal and for Markdown, made from Records alone."""

import re
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.markdown import escaped
from harness.memory.categories import CATEGORIES
from harness.record import Record
from reports.averages import Average, averages
from reports.comparison import Comparison, Row, is_bundled
from reports.notes import average_setups, ranking_notes, setups
from reports.palette import printable, words
from reports.statistics import Difference

GIB = 2**30
Line = tuple[str, str, str]
Groups = Mapping[str, Sequence[str]]
NO_GROUPS: Groups = {}
LEFT_COLUMNS = ("method", "dataset", "recipe", "setup")
HEADER = (
    *LEFT_COLUMNS,
    "test score (%)",
    "95 % interval",
    "min..max",
    "difference to best",
    "seeds",
    "peak (GiB)",
    "of full",
    "trainable (%)",
    "train (s)",
)
IF_ANY = ("setup", "difference to best")
"""Columns of Markdown that are left out where all their cells are empty."""
ONLY_IN_MARKDOWN = (*LEFT_COLUMNS, "min..max", "difference to best")
SHOWN = tuple(name for name in HEADER if name not in ONLY_IN_MARKDOWN)
"""What a terminal shows behind the method, as wide as 80 characters hold."""


def run_table(record: Record) -> RenderableType:
    """Return one compact table of a run: scores, parameters, memory, time.

    Args:
        record: a run of any status; what it lacks is left out.

    Returns:
        Something that rich can print.
    """
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False, title_justify="left")
    table.title = Text(_run_title(record), style="bold")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    scores = [*_scores(record), *_forgetting(record)]
    for section in (_status(record), scores, _params(record), _memory(record)):
        _add_section(table, section)
    for section in (_time(record), _files(record), _labels(record)):
        _add_section(table, section)
    return table


def comparison_table(comparison: Comparison, groups: Groups = NO_GROUPS) -> RenderableType:
    """Return runs beside each other: one row for each configuration, seeds summarised.

    Args:
        comparison: whose notes, such as how many runs were left out, stand below the table.
        groups: names of tasks, by the name of a group that is averaged where it is complete.
    """
    of_row = setups(comparison.rows)
    tables = [_ranking_table(rows, of_row) for rows in comparison.rankings]
    return Group(*tables, *map(Text, _notes(comparison, groups, with_differences=False)))


def _ranking_table(rows: Sequence[Row], of_row: Mapping[str, str]) -> Table:
    """Return rows that are ranked together under a title that says what they have in common."""
    record = rows[0].record
    names = (record.task, _dataset(rows[0]), record.recipe, record.backbone)
    task, dataset, recipe, backbone = map(printable, names)
    found = {of_row[row.record.run_key] for row in rows}
    common = found.pop() if len(found) == 1 else ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left")
    title = f"{task}: {dataset}, recipe {recipe}, backbone {backbone}"
    table.title = Text(f"{title}\n{common}" if common else title, style="bold")
    table.add_column(HEADER[0], overflow="fold", min_width=12)
    for name in SHOWN:
        table.add_column(re.sub(r" (?=\(|interval)", "\n", name), justify="right", no_wrap=True)
    for row in rows:
        cells = _cells(row, of_row[row.record.run_key])
        own = "" if common or not cells["setup"] else f" [{cells['setup']}]"
        table.add_row(Text(cells[HEADER[0]] + own), *(Text(cells[name]) for name in SHOWN))
    return table


def comparison_markdown(comparison: Comparison, groups: Groups = NO_GROUPS) -> str:
    """Return the rows of :func:`comparison_table` as one Markdown table, with its notes below."""
    of_row = setups(comparison.rows)
    cells = [_cells(row, of_row[row.record.run_key]) for row in comparison.rows]
    shown = [name for name in HEADER if name not in IF_ANY or any(c[name] for c in cells)]
    rules = ["---" if name in LEFT_COLUMNS else "---:" for name in shown]
    rows = [shown, rules, *([escaped(of[name]) for name in shown] for of in cells)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = [f"\n{escaped(note)}" for note in _notes(comparison, groups, with_differences=True)]
    return "\n".join(lines + notes) + "\n"


def gib(nbytes: int, digits: int = 2) -> str:
    """Return bytes in GiB, with digits enough for a small model's parts (0.0001 GiB = 105 KiB).

    Args:
        nbytes: how many.
        digits: of what is 1 GiB or more.
    """
    value = nbytes / GIB
    if value >= 1:
        return f"{value:.{digits}f}"
    return f"{value:.4f}" if value >= 0.0001 or nbytes == 0 else "<0.0001"


def percent(score: float) -> str:
    """Return a fraction in percent with one digit."""
    return f"{100 * score:.1f}"


def difference_text(found: Difference) -> str:
    """Return a difference in points with its interval and corrected p-value, where it has one."""
    points = f"{100 * found.mean:+.1f}"
    if found.interval is None or found.p_holm is None:
        return f"{points}, not tested"
    low, high = (f"{100 * end:+.1f}" for end in found.interval)
    p = "p < 0.001" if found.p_holm < 0.001 else f"p {found.p_holm:.3f}"
    return f"{points} ({low}..{high}), {p}"


def _add_section(table: Table, lines: Sequence[Line]) -> None:
    for line in lines:
        table.add_row(*(Text(printable(cell)) for cell in line))
    if lines:
        table.add_section()


def _name(record: Record) -> str:
    return f"{record.method}@{record.preset}" if record.preset else record.method


def _run_title(record: Record) -> str:
    return printable(
        f"{_name(record)} on {record.task}: {record.dataset}, recipe {record.recipe}, "
        f"backbone {record.backbone}, seed {record.seed}"
    )


def _labels(record: Record) -> list[Line]:
    """Say what was used, so that a bundled or limited score is never taken for another."""
    lines = [
        ("run key", record.run_key[:16], f"data {record.dataset} ({record.provenance.data.source})")
    ]
    if "backbone" in record.config and record.config["backbone"].get("weights") is None:
        lines.append(("", "", f"{record.backbone} with its bundled weights"))
    if is_bundled(record):
        lines.append(("", "", "bundled data: comparable with no published score"))
    if record.provenance.limited:
        lines.append(("", "", "limited: part of the data, never ranked"))
    return lines


def _status(record: Record) -> list[Line]:
    if record.status == "done":
        return []
    return [("status", record.status, record.error or "")]


def _scores(record: Record) -> list[Line]:
    """Return the test scores beside validation, the primary one beside the baselines."""
    metrics = record.metrics
    lines = []
    for name in sorted(metrics.test, key=lambda n: (n != metrics.primary, n)):
        beside = [f"validation {percent(metrics.val[name])}"] if name in metrics.val else []
        if name == metrics.primary:
            beside += [f"{words(n)} {percent(s)}" for n, s in sorted(metrics.baselines.items())]
        lines.append((words(name), f"{percent(metrics.test[name])} %", ", ".join(beside)))
    return lines


def _forgetting(record: Record) -> list[Line]:
    lost = record.quality.forgetting
    if lost is None:
        return []
    beside = "less of the pretraining task, through the features that the head reads"
    return [("forgetting", f"{percent(lost)} points", beside)]


def _params(record: Record) -> list[Line]:
    params = record.params
    if params is None:
        return []
    parts = ", ".join(f"{words(name)} {count:,}" for name, count in params.parts.items())
    return [
        ("trainable parameters", f"{params.trainable:,}", f"{params.percent:.2f} %: {parts}"),
        ("total parameters", f"{params.total:,}", ""),
    ]


def _memory(record: Record) -> list[Line]:
    memory = record.memory
    if memory is None:
        return []
    predicted = memory.predicted_train_peak_bytes
    beside = "" if predicted is None else f", predicted {gib(predicted)}"
    source = f"{memory.source} on {memory.device}{beside}"
    lines = [("peak memory, training", f"{gib(memory.train_peak_bytes)} GiB", source)]
    for name in CATEGORIES:
        nbytes = memory.at_peak_bytes.get(name, 0)
        if nbytes:
            share = f"{100 * nbytes / memory.train_peak_bytes:.1f} %"
            lines.append((f"  {words(name)}", f"{gib(nbytes)} GiB", share))
    lines.append(("peak memory, inference", f"{gib(memory.inference_peak_bytes)} GiB", ""))
    return lines


def _time(record: Record) -> list[Line]:
    time = record.time
    if time is None:
        return []
    rate = time.steps / time.train_seconds if time.train_seconds else 0.0
    features = time.features
    stored = f"{gib(features.bytes)} GiB stored" if features.used else "recomputed in every step"
    reason = f": {features.reason}" if features.reason else ""
    return [
        (
            "training",
            f"{time.train_seconds:.1f} s",
            f"{time.steps:,} steps, {rate:.1f} steps/s, {time.examples_per_second:,.0f} examples/s",
        ),
        ("features", f"{features.seconds:.1f} s", stored + reason),
        ("inference", f"{time.inference_ms_per_example:.2f} ms", "per example"),
        ("whole run", f"{time.total_seconds:.1f} s", ""),
    ]


def _files(record: Record) -> list[Line]:
    adaptation = record.artifacts.get("adaptation")
    if adaptation is None:
        return []
    size = f"{gib(adaptation.bytes)} GiB"
    return [("saved adaptation", size, "trained tensors and the quantiser's state")]


def _dataset(row: Row) -> str:
    return row.record.dataset + (" (bundled)" if row.bundled else "")


def _cells(row: Row, setup: str) -> dict[str, str]:
    """Return the cells of a row by the names of their columns."""
    several = len(row.seeds) > 1
    ends = f"{percent(min(row.scores))}..{percent(max(row.scores))}" if several else ""
    cells = {
        "method": f"{_name(row.record)} ({row.variant})" if row.variant else _name(row.record),
        "dataset": _dataset(row),
        "recipe": row.record.recipe,
        "setup": setup,
        "test score (%)": percent(row.mean) + _deviation(row) + ("*" if row.best else ""),
        "95 % interval": _interval(row),
        "min..max": ends,
        "difference to best": "" if row.difference is None else difference_text(row.difference),
        "seeds": str(len(row.seeds)),
        "peak (GiB)": "" if row.peak_bytes is None else gib(row.peak_bytes),
        "of full": "" if row.peak_ratio is None else f"{100 * row.peak_ratio:.0f} %",
        "trainable (%)": "" if row.trainable_percent is None else f"{row.trainable_percent:.2f}",
        "train (s)": "" if row.train_seconds is None else f"{row.train_seconds:.1f}",
    }
    return {name: printable(cell) for name, cell in cells.items()}


def _deviation(of: Row | Average) -> str:
    return "" if of.deviation is None else f" ± {percent(of.deviation)}"


def _interval(of: Row | Average) -> str:
    return "" if of.interval is None else "..".join(percent(end) for end in of.interval)


def _notes(comparison: Comparison, groups: Groups, *, with_differences: bool) -> Iterator[str]:
    """Say what the numbers are, averages, what blind predictors reach, and what was left out."""
    if not comparison.rows:
        yield "There are no finished runs to compare."
    else:
        yield "Mean ± standard deviation over seeds; interval of the mean by Student's t."
    yield from map(printable, ranking_notes(comparison, with_differences=with_differences))
    means = averages(comparison.rows, groups)
    for average, setup in zip(means, average_setups(means), strict=True):
        yield printable(_average_note(average, setup))
    seen = set()
    for row in comparison.rows:
        scores = ", ".join(f"{words(n)} {percent(s)} %" for n, s in sorted(row.baselines.items()))
        note = f"Blind predictors on {printable(row.record.dataset)}: {scores}."
        if scores and note not in seen:
            seen.add(note)
            yield note
    if any(row.bundled for row in comparison.rows):
        yield "Scores on bundled data are comparable with no published ones."
    if comparison.limited:
        yield f"Left out: limited runs ({comparison.limited})."
    if comparison.unfinished:
        yield f"Left out: unfinished runs ({comparison.unfinished})."


def _average_note(average: Average, setup: str) -> str:
    """Say one method's average over a group of tasks, and in what its runs differ from others."""
    given = f" ({setup})" if setup else ""
    interval = f", interval {_interval(average)}" if average.interval else ""
    return (
        f"Average of the {average.tasks} tasks of {average.group}, seeds "
        f"{', '.join(map(str, average.seeds))}: {_name(average.row.record)}{given} "
        f"{percent(average.mean)}{_deviation(average)}{interval}."
    )
