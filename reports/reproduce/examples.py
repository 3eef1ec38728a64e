"""What a statement's runs scored on every test example, where their predictions are at hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.record import Record
from reports.predictions import example_scores
from reports.reproduce.contrasts import Part
from reports.reproduce.pairing import Unit
from reports.statistics import Examples


class ExampleScores:
    """Scores by example of the runs of an output folder, each read once.

    Args:
        output: the folder that the runs' predictions lie in; None has none.
    """

    def __init__(self, output: Path | None = None) -> None:
        self._output = output
        self._known: dict[str, Examples | None] = {}

    def effect(self, part: Part, units: Sequence[Unit]) -> Examples | None:
        """Return a contrast of scores on every example, in points, as a mean over units.

        Args:
            part: whose terms the runs of a unit are.
            units: of one task and seed.

        Returns:
            None where the part is not about scores, or runs were not asked the same, or their
            predictions are not at hand.

        Raises:
            UserError: predictions are not those that a run wrote.
        """
        if part.measure != "score":
            return None
        runs = [(unit.first, *unit.others) for unit in units]
        found = [self._of(record) for records in runs for record in records]
        known = [scores for scores in found if scores is not None]
        if len(known) < len(found) or len({scores.asked for scores in known}) != 1:
            return None
        signs = np.tile([term.sign for term in part.terms], len(units))
        total = sum(sign * one.scores for sign, one in zip(signs, known, strict=True))
        return Examples(known[0].asked, 100 * np.asarray(total, dtype=np.float64) / len(units))

    def _of(self, record: Record) -> Examples | None:
        if self._output is None:
            return None
        if record.run_key not in self._known:
            self._known[record.run_key] = example_scores(record, self._output)
        return self._known[record.run_key]
