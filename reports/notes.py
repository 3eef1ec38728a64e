"""What a table of comparison says below itself: who is ranked with whom, and how it was tested."""

from collections.abc import Iterator, Mapping, Sequence

from reports.averages import Average
from reports.comparison import Comparison, Row, place
from reports.fairness import described, differing
from reports.statistics import Difference

SEEDS_TO_CLAIM = 5


def setups(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return, by run key, in what a row differs from others of its task, data and backbone.

    It is empty where all rows were given the same.
    """
    places: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        places.setdefault(place(row), []).append(row)
    names = {key: differing([row.group for row in own]) for key, own in places.items()}
    return {row.record.run_key: described(row.group, names[place(row)]) for row in rows}


def average_setups(means: Sequence[Average]) -> list[str]:
    """Return in what each average differs from the others over the same tasks."""
    names = {
        group: differing([mean.setup for mean in means if mean.group == group])
        for group in {mean.group for mean in means}
    }
    return [described(mean.setup, names[mean.group]) for mean in means]


def ranking_notes(comparison: Comparison, *, with_differences: bool) -> Iterator[str]:
    """Say what is not ranked together, how differences were tested, and which could not be.

    Args:
        comparison: of any runs.
        with_differences: whether the reader sees the differences, or only the mark of the best.
    """
    if comparison.unfair:
        yield (
            "NOT A FAIR RANKING: as asked for, runs are ranked together that differ in "
            f"{_listed(comparison.unfair)}."
        )
    apart = _ranked_apart(comparison)
    if apart:
        yield (
            f"Not ranked against each other: runs that differ in {_listed(apart)}. This is "
            "intended also where a method's own settings chose the difference, its batch size for "
            "instance; set the same for all of them to rank them together."
        )
    differences = [row.difference for row in comparison.rows if row.difference is not None]
    yield from _tests(differences, with_differences)
    fewer = sum(difference.seeds < SEEDS_TO_CLAIM for difference in differences)
    if fewer:
        yield (
            f"Too few seeds: {fewer} of {len(differences)} comparisons rest on fewer than "
            f"{SEEDS_TO_CLAIM}, which is what it takes to claim that a method is better."
        )


def _tests(differences: Sequence[Difference], shown: bool) -> Iterator[str]:
    """Say how differences were tested, what the mark means, and what could not be tested."""
    tested = [difference for difference in differences if difference.how is not None]
    if tested and shown:
        yield (
            f"Differences to the best row of a ranking: {_counted(map(_test, tested))}; of two "
            "possible tests the more cautious one; p-values after Holm, over the ranking. An "
            "interval holds for its difference alone, so that it may exclude 0 where p, which is "
            "corrected, is above 0.05."
        )
    if tested:
        yield (
            "* best: every other row of its ranking is worse, at 5 % after Holm's correction. A "
            "ranking without the mark has no best row."
        )
    if tested and not shown:
        yield "harness report --format md shows each difference, its interval, p-value and test."
    if any(difference.seeds == 1 for difference in tested):
        yield "Of one seed a test holds for these trained models, not for their methods."
    untested = [difference for difference in differences if difference.how is None]
    if untested:
        yield f"Differences not tested: {_counted(str(d.reason) for d in untested)}."


def _ranked_apart(comparison: Comparison) -> tuple[str, ...]:
    """Return the properties in which rows of one place differ that are in different rankings."""
    firsts: dict[tuple[str, ...], list[Row]] = {}
    for rows in comparison.rankings:
        firsts.setdefault(place(rows[0]), []).append(rows[0])
    found = (differing([row.group for row in rows]) for rows in firsts.values())
    return tuple(dict.fromkeys(name for names in found for name in names))


def _test(found: Difference) -> str:
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "one seed"
    if found.examples is not None:
        return f"{found.how} over {found.examples:,} examples and {seeds}"
    at_least = " or more" if found.how == "Welch's t-test" else ""
    return f"{found.how} over {seeds}{at_least}"


def _counted(texts: Iterator[str]) -> str:
    """Return each distinct text with how many rows it holds for."""
    known = list(texts)
    counts = {text: known.count(text) for text in sorted(set(known))}
    return "; ".join(
        f"{text} ({count} row{'s' if count != 1 else ''})" for text, count in counts.items()
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
