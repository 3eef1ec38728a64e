"""Where the MP-ISMoE paper's numbers do not agree with each other, recomputed from its tables.

Nothing here is measured. What the text states is quoted beside the entries; every recomputed figure
comes from ``published.csv``.
"""

from collections.abc import Callable

from reports.reproduce import table_inconsistencies, text_inconsistencies
from reports.reproduce.disagreements import Inconsistency

_ENTRIES: tuple[Callable[[], Inconsistency], ...] = (
    text_inconsistencies.grounding,
    text_inconsistencies.swapped_savings,
    text_inconsistencies.adapter_savings,
    text_inconsistencies.crossed_rows,
    text_inconsistencies.other_backbone,
    text_inconsistencies.rounded_gains,
    table_inconsistencies.averages,
    table_inconsistencies.marks,
    table_inconsistencies.test_standard,
    table_inconsistencies.heading,
    table_inconsistencies.sums,
    table_inconsistencies.missing,
    table_inconsistencies.unnamed_splits,
    table_inconsistencies.norms,
)


def inconsistencies() -> list[Inconsistency]:
    """Return all fourteen, recomputed."""
    return [make() for make in _ENTRIES]
