"""One HTML file of a comparison, which needs nothing beside itself, made from Records alone."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from harness.errors import UserError
from harness.record import DataOrigin, Record
from reports import plots
from reports.averages import averages
from reports.comparison import Comparison, Row, is_bundled
from reports.html.svg import inline_svg
from reports.html.template import Cell, render
from reports.labels import label_of
from reports.notes import average_setups, ranking_notes, setups
from reports.palette import words
from reports.panels import panels_of
from reports.statistics import Difference
from reports.tables import NO_GROUPS, difference_text, gib, percent

FIGURES: Final = ("score-memory", "tasks", "memory", "curves")
"""Plots of the page; the others are for `harness plot`."""
RANKING: Final = (
    "method",
    "test score (%)",
    "± (%)",
    "95 % interval",
    "seeds",
    "difference to best",
    "peak (GiB)",
    "of full (%)",
    "trainable",
    "trainable (%)",
    "train (s)",
)
AVERAGES: Final = ("tasks", "method", "setup", "mean score (%)", "± (%)", "95 % interval", "seeds")
RUNS: Final = (
    "run",
    "status",
    "method",
    "task",
    "dataset",
    "recipe",
    "backbone",
    "seed",
    "test score (%)",
    "validation (%)",
    "peak (GiB)",
    "predicted (GiB)",
    "train (s)",
    "ms per example",
    "started",
)


Number = int | float


def page(
    comparison: Comparison,
    records: Sequence[Record],
    problems: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] = NO_GROUPS,
) -> str:
    """Return the page.

    Args:
        comparison: of the records.
        records: of any status; what is not ranked is told.
        problems: what is wrong with the files that could not be read.
        groups: names of tasks, by the name of a group that is averaged where it is complete.
    """
    return render(
        "comparison.html.j2",
        records=records,
        problems=problems,
        rankings=_rankings(comparison),
        ranking_columns=RANKING,
        notes=list(ranking_notes(comparison, with_differences=True)),
        averages=_averages(comparison, groups),
        average_columns=AVERAGES,
        figures=_figures(records),
        bundled=any(is_bundled(record) for record in records),
        failed=[r for r in records if r.status != "done"],
        limited=[r for r in records if r.provenance.limited],
        runs=[(record, _run_cells(record)) for record in records],
        run_columns=RUNS,
        origins=_origins(records),
        data=_data(records),
        notices=dict.fromkeys((r.dataset, text) for r in records for text in r.provenance.notices),
    )


def _rankings(comparison: Comparison) -> list[dict[str, Any]]:
    """Return what the template shows of every ranking."""
    of_row = setups(comparison.rows)
    return [
        {
            "record": rows[0].record,
            "setup": of_row[rows[0].record.run_key],
            "metric": words(rows[0].record.metrics.primary),
            "bundled": rows[0].bundled,
            "baselines": ", ".join(
                f"{words(name)} {percent(score)} %"
                for name, score in sorted(rows[0].baselines.items())
            ),
            "rows": [(row, _row_cells(row)) for row in rows],
        }
        for rows in comparison.rankings
    ]


def _averages(comparison: Comparison, groups: Mapping[str, Sequence[str]]) -> list[list[Cell]]:
    """Return the cells of ``AVERAGES`` for every method that was run on all tasks of a group."""
    means = averages(comparison.rows, groups)
    return [
        [
            Cell(f"{mean.group} ({mean.tasks} tasks)"),
            Cell(_method(mean.row.record)),
            Cell(setup),
            Cell(percent(mean.mean), mean.mean),
            _number(mean.deviation, percent),
            _interval(mean.interval),
            Cell(", ".join(map(str, mean.seeds))),
        ]
        for mean, setup in zip(means, average_setups(means), strict=True)
    ]


def _method(record: Record) -> str:
    return f"{record.method}@{record.preset}" if record.preset else record.method


def _interval(ends: tuple[float, float] | None) -> Cell:
    return Cell("") if ends is None else Cell(" .. ".join(map(percent, ends)), ends[0])


def _row_cells(row: Row) -> list[Cell]:
    """Return the cells of ``RANKING``."""
    params = row.record.params
    return [
        Cell(label_of(row)),
        Cell(percent(row.mean) + (" best" if row.best else ""), row.mean),
        _number(row.deviation, percent),
        _interval(row.interval),
        _number(len(row.seeds), str),
        _difference(row.difference),
        _number(row.peak_bytes, gib),
        _number(row.peak_ratio, lambda ratio: f"{100 * ratio:.0f}"),
        _number(params.trainable if params else None, lambda count: f"{count:,}"),
        _number(row.trainable_percent, lambda share: f"{share:.2f}"),
        _number(row.train_seconds, lambda seconds: f"{seconds:.1f}"),
    ]


def _difference(found: Difference | None) -> Cell:
    return Cell("") if found is None else Cell(difference_text(found), found.mean)


def _run_cells(record: Record) -> list[Cell]:
    """Return the cells of ``RUNS``."""
    metrics, memory, time = record.metrics, record.memory, record.time
    names = (_method(record), record.task, record.dataset, record.recipe, record.backbone)
    return [
        Cell(record.run_key[:16]),
        Cell(record.status + (", limited" if record.provenance.limited else "")),
        *map(Cell, names),
        _number(record.seed, str),
        _number(metrics.test.get(metrics.primary), percent),
        _number(metrics.val.get(metrics.primary), percent),
        _number(memory.train_peak_bytes if memory else None, gib),
        _number(memory.predicted_train_peak_bytes if memory else None, gib),
        _number(time.train_seconds if time else None, lambda seconds: f"{seconds:.1f}"),
        _number(time.inference_ms_per_example if time else None, lambda ms: f"{ms:.2f}"),
        Cell(record.provenance.started_at),
    ]


def _number(value: Number | None, show: Callable[[Any], str]) -> Cell:
    """Return the cell of a number; an empty one, which is sorted behind all others, of None."""
    return Cell("") if value is None else Cell(show(value), value)


def _figures(records: Sequence[Record]) -> list[tuple[str, str, Markup]]:
    """Return name, summary and SVG of every plot for which there are data."""
    try:
        drawn = panels_of(records)
    except UserError:  # no run is finished
        return []
    found = []
    for name in FIGURES:
        try:
            content = plots.render_panels(name, drawn, ("svg",))["svg"]
        except UserError:  # no run has what it draws
            continue
        summary = plots.summary(name)
        found.append((name, summary, inline_svg(content, f"{name}-", summary)))
    return found


def _origins(records: Iterable[Record]) -> list[tuple[str, str, str, str, int]]:
    """Return code, device, threads and libraries of the runs, and how many runs have them."""
    counts = Counter(
        (
            (origin.commit or "unknown") + (" with uncommitted changes" if origin.dirty else ""),
            origin.device,
            str(origin.threads),
            ", ".join(f"{name} {version}" for name, version in sorted(origin.packages.items())),
        )
        for origin in (record.provenance for record in records)
    )
    return [(*names, count) for names, count in counts.most_common()]


def _data(records: Iterable[Record]) -> list[DataOrigin]:
    """Return the distinct origins of data, by name."""
    found = {r.provenance.data.model_dump_json(): r.provenance.data for r in records}
    return sorted(found.values(), key=lambda data: (data.name, data.revision, data.fingerprint))
