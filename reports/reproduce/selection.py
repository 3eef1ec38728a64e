"""Which Records a row of a table or a side of a statement stands for."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.record import Record

MIXTURE = "mp_ismoe"
_METHOD = "method.config."
_GPU = re.compile("nvidia|tesla|geforce|radeon|instinct", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """What one setting of a run must be.

    Attributes:
        field: dotted name in the resolved configuration, ``processor`` for ``cpu`` or ``gpu``, or
            a field of the method's own configuration, without dots.
        values: those that are meant.
        allowed: whether one of them is asked for; else none of them may be.
    """

    field: str
    values: tuple[Any, ...]
    allowed: bool = True

    def holds(self, record: Record) -> bool:
        """Tell whether a run has the setting."""
        return (lookup(record, self.path) in self.values) == self.allowed

    @property
    def path(self) -> str:
        """The dotted name."""
        known = "." in self.field or self.field == "processor"
        return self.field if known else _METHOD + self.field


def is_(field: str, *values: Any) -> Condition:
    """Return the condition that a setting is one of ``values``."""
    return Condition(field, values)


def is_not(field: str, *values: Any) -> Condition:
    """Return the condition that a setting is none of ``values``."""
    return Condition(field, values, allowed=False)


@dataclass(frozen=True)
class Selector:
    """Runs of some methods under some settings.

    Attributes:
        methods: names.
        where: conditions, all of which must hold.
        host: whether the run must be of the side network that the other side is built on.
    """

    methods: tuple[str, ...]
    where: tuple[Condition, ...] = ()
    host: bool = False

    def takes(self, record: Record) -> bool:
        """Tell whether a run is one of these."""
        return record.method in self.methods and all(c.holds(record) for c in self.where)

    @property
    def fields(self) -> frozenset[str]:
        """Dotted names of the settings that the conditions are about."""
        return frozenset(condition.path for condition in self.where)


WHOLE = (
    is_("mixture", True),
    is_("bits", 8),
    is_not("noise", "none"),
    is_("correlation", "salient"),
    is_not("experts", 1),
)
"""MP-ISMoE with nothing taken away: at 8 bits, with noise, experts and their salient token."""


def lookup(record: Record, path: str) -> Any:
    """Return a setting by its dotted name; None where a run has no such setting."""
    if path == "processor":
        return processor(record)
    value: Any = record.config
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def processor(record: Record) -> str:
    """Return ``gpu`` or ``cpu``."""
    asked = str(record.config.get("device", ""))
    gpu = asked.startswith("cuda") or _GPU.search(record.provenance.device)
    return "gpu" if gpu else "cpu"


def host_of(record: Record) -> str:
    """Return the side network of MP-ISMoE, or the method itself."""
    host = lookup(record, "method.config.host") if record.method == MIXTURE else None
    return str(host or record.method)


def setting_name(record: Record) -> str:
    """Return ``method`` or ``method@preset``."""
    return f"{record.method}@{record.preset}" if record.preset else record.method


def settings_text(record: Record) -> str:
    """Return the configuration without the seed as one text, equal for equal settings."""
    return json.dumps({n: v for n, v in record.config.items() if n != "seed"}, sort_keys=True)


def usable(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the finished runs on whole data."""
    for record in records:
        scored = record.metrics.primary in record.metrics.test
        if record.status == "done" and scored and not record.provenance.limited:
            yield record
