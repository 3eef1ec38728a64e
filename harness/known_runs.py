"""Which configurations have been run before, told from the records alone, without torch."""

from collections.abc import Iterable
from typing import Any

from harness.cards import PACKAGE
from harness.config import RunConfig
from harness.flat import flatten
from harness.processor import cpu_name
from harness.record import Record, content_hash
from harness.run_options import Rerun, stands

SETTLED = ("train.amp", "device", "features.max_bytes")


class KnownRuns:
    """The records of an output folder, found by configuration.

    Args:
        records: of the output folder.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records: dict[str, list[Record]] = {}
        for record in records:
            self._records.setdefault(_identity(record.config), []).append(record)

    def find(self, config: RunConfig) -> Record | None:
        """Return the record of a configuration, the latest of several; None if there is none."""
        found = self._records.get(_identity(config.resolved()), [])
        amp = config.train.amp
        same = [r for r in found if amp in ("auto", r.config["train"]["amp"])]
        return max(same, key=lambda record: record.provenance.started_at, default=None)

    def standing(self, config: RunConfig, rerun: Rerun) -> Record | None:
        """Return the record of a run that need not even be begun to know that it stands.

        Where data or weights lie in a folder of the user's, they may have changed since; where the
        record was made on another processor, its precision may have been another one. Then the
        run itself has to look.
        """
        record = self.find(config)
        if record is None or not stands(record, rerun) or _reads_own_files(config):
            return None
        return record if record.provenance.device == cpu_name() else None


def _reads_own_files(config: RunConfig) -> bool:
    weights = config.backbone.weights
    packaged = weights in (None, "random") or str(weights).startswith(PACKAGE)
    return config.task.data_dir is not None or not packaged


def _identity(resolved: dict[str, Any]) -> str:
    """Return the same text for configurations that differ in nothing but what a device settles."""
    flat = {name: value for name, value in flatten(resolved) if name not in SETTLED}
    return content_hash(flat)
