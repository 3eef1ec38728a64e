"""Which configurations have been run before, told from the records alone, without torch."""

from collections.abc import Iterable
from typing import Any

from harness.cards import PACKAGE
from harness.config import RunConfig
from harness.flat import flatten
from harness.processor import cpu_name, may_have_gpu, native_bf16
from harness.record import Record, content_hash
from harness.run_options import Rerun, stands

LEFT_OUT = ("train.amp", "device", "features.max_bytes", "seed")
"""What records of the same key here may differ in: a device settles the first two."""


class KnownRuns:
    """The records of an output folder, found by configuration.

    Args:
        records: of the output folder.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records: dict[str, list[Record]] = {}
        for record in records:
            self._records.setdefault(_identity(record.config), []).append(record)

    def of_any_seed(self, config: RunConfig) -> list[Record]:
        """Return the records of a configuration that differ from it in the seed at most.

        Where only the run itself could tell its device or precision, records of any are returned.
        """
        amp = _settled_amp(config)
        wants_gpu = config.device.startswith("cuda")
        return [
            record
            for record in self._records.get(_identity(config.resolved()), [])
            if amp in (None, record.config["train"]["amp"])
            and not (wants_gpu and _was_made_on_this_cpu(record))
        ]

    def find(self, config: RunConfig) -> Record | None:
        """Return the record of a configuration, the latest of several; None if there is none."""
        found = self.of_any_seed(config)
        return _latest(record for record in found if record.config["seed"] == config.seed)

    def standing(self, config: RunConfig, rerun: Rerun) -> Record | None:
        """Return the record of a run that need not even be begun to know that it stands.

        Only a run on this CPU is known so well. Where data or weights lie in a folder of the
        user's, they may have changed since, and where the precision is ``auto``, the system may not
        tell what that is here. Then the run itself has to look.
        """
        if not _runs_on_cpu(config) or _settled_amp(config) is None or _reads_own_files(config):
            return None
        record = _latest(
            record
            for record in self.of_any_seed(config)
            if record.config["seed"] == config.seed and _was_made_on_this_cpu(record)
        )
        return record if record is not None and stands(record, rerun) else None


def _latest(records: Iterable[Record]) -> Record | None:
    return max(records, key=lambda record: record.provenance.started_at, default=None)


def _was_made_on_this_cpu(record: Record) -> bool:
    return record.provenance.device == cpu_name()


def _runs_on_cpu(config: RunConfig) -> bool:
    """Return whether a run certainly has the CPU as its device."""
    return config.device == "cpu" or (config.device == "auto" and not may_have_gpu())


def _settled_amp(config: RunConfig) -> str | None:
    """Return the precision that a run's Record will name; None where only the run can tell."""
    if config.train.amp != "auto":
        return config.train.amp
    native = native_bf16() if _runs_on_cpu(config) else None
    if native is None:
        return None
    return "bf16" if native else "off"


def _reads_own_files(config: RunConfig) -> bool:
    weights = config.backbone.weights
    packaged = weights in (None, "random") or str(weights).startswith(PACKAGE)
    return config.task.data_dir is not None or not packaged


def _identity(resolved: dict[str, Any]) -> str:
    """Return the same text for configurations that differ in nothing but ``LEFT_OUT``."""
    flat = {name: value for name, value in flatten(resolved) if name not in LEFT_OUT}
    return content_hash(flat)
