"""What Records say of one printed score: measured, or on a stand-in for its data or backbone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from harness.record import Record
from reports.comparison import is_bundled
from reports.reproduce.places import Place
from reports.reproduce.rows import PaperRow
from reports.reproduce.selection import setting_name, settings_text

Kind = Literal["measured", "stand-in", "predicted", "not yet"]
OTHER_SETTING = "in another setting than the paper's"
_SOURCES = ("folder", "hub", "package", "bundled")
_RECIPES = ("official", "text", "full", "default")


@dataclass(frozen=True)
class Ours:
    """One of our numbers beside a printed one.

    Attributes:
        kind: what it is; never shown without it.
        value: in the printed number's unit; None where there is none.
        deviation: standard deviation over seeds (n - 1); None for one seed.
        seeds: of the runs.
        setting: ``method`` or ``method@preset``.
        source: data, backbone and recipe of the runs, or what was predicted.
        in_place_of: dataset and backbone of the paper, for which the runs stand in.
        nbytes: of memory.
        note: what a reader must know.
    """

    kind: Kind
    value: float | None = None
    deviation: float | None = None
    seeds: tuple[int, ...] = ()
    setting: str = ""
    source: str = ""
    in_place_of: str = ""
    nbytes: int | None = None
    note: str = ""


def score_beside(
    records: Iterable[Record], row: PaperRow, place: Place, backbone: str, printed_at: str
) -> Ours:
    """Return the measured score of a row in a column, else the nearest stand-in, else ``not yet``.

    Args:
        records: finished runs on whole data.
        row: the paper's row.
        place: its column.
        backbone: the paper's, by its name here.
        printed_at: the paper's dataset and backbone, as printed.
    """
    own = [r for r in records if row.selector.takes(r) and place.score(r) is not None]
    official = [
        r
        for r in own
        if place.is_official(r, backbone) and all(condition.holds(r) for condition in row.exact)
    ]
    if official:
        return _summary("measured", nearest(official, place, backbone), place, "")
    others = nearest([r for r in own if r.task in place.tasks], place, backbone)
    if others:
        found = _summary("stand-in", others, place, printed_at)
        in_place = place.is_official(others[0], backbone)
        return replace(found, source=f"{found.source}, {OTHER_SETTING}") if in_place else found
    return Ours("not yet", note=place.closed)


def nearest(records: Sequence[Record], place: Place, backbone: str) -> list[Record]:
    """Return the runs of one setting, the one whose backbone and data are most like the paper's.

    Args:
        records: of one row.
        place: the column.
        backbone: the paper's, by its name here.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        names = (record.task, record.dataset, record.recipe, record.backbone)
        groups.setdefault((*names, settings_text(record)), []).append(record)

    def distance(key: tuple[str, ...]) -> tuple[object, ...]:
        first = groups[key][0]
        return (
            first.backbone != backbone,
            _rank(first.dataset, place.datasets),
            _rank(first.task, place.tasks),
            _rank(first.provenance.data.source, _SOURCES),
            first.preset not in (None, "published", "official", "sherl"),
            _rank(first.recipe, _RECIPES),
            -len(groups[key]),
            key,
        )

    return sorted(groups[min(groups, key=distance)], key=lambda r: r.seed) if groups else []


def runs_named(record: Record) -> str:
    """Return data, backbone and recipe of a run."""
    bundled = " (bundled data)" if is_bundled(record) else ""
    return f"{record.dataset}{bundled}, backbone {record.backbone}, recipe {record.recipe}"


def _summary(kind: Kind, records: Sequence[Record], place: Place, in_place_of: str) -> Ours:
    scores = [100 * score for record in records if (score := place.score(record)) is not None]
    return Ours(
        kind=kind,
        value=fmean(scores),
        deviation=stdev(scores) if len(scores) > 1 else None,
        seeds=tuple(record.seed for record in records),
        setting=setting_name(records[0]),
        source=runs_named(records[0]),
        in_place_of=in_place_of,
    )


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)
