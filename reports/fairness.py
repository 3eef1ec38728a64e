"""Which runs may be ranked together: those that were given the same."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from harness.flat import flatten
from harness.record import Record

Property: TypeAlias = str | int | float | bool | list[object] | None
FairnessGroup: TypeAlias = Mapping[str, Property]
_PRECISIONS = {"off": "fp32", "auto": "as the device has it"}
_SHOWN_DIGITS = 8


def fairness_group(record: Record) -> dict[str, Property]:
    """Return what must be equal before scores of runs may be ranked, by name.

    That is the data with all settings of the task, rows of one optimizer step (micro-batches add
    up to it), epochs and steps, the backbone with its weights, the precision, and by what the
    epoch is chosen. Learning rate and optimizer are not part of it, as every method has its own;
    nor is how a method stores frozen weights, which is what it is measured for.

    Args:
        record: a run of any status; what it does not know is None.
    """
    config, origin = record.config, record.provenance
    train, task, backbone = (config.get(name, {}) for name in ("train", "task", "backbone"))
    amp = train.get("amp", "off")
    return {
        "data": origin.data.fingerprint,
        **{f"{split} rows": count for split, count in sorted(origin.data.rows.items())},
        **_settings("task", task),
        "batch size": train.get("batch_size"),
        "epochs": train.get("epochs"),
        "steps": record.history[-1].step if record.history else None,
        "backbone": record.backbone,
        "weights": origin.weights,
        **_settings("backbone", backbone),
        "precision": _PRECISIONS.get(amp, amp),
        "selection": f"{record.metrics.direction} {record.metrics.primary} on validation",
        "limited": origin.limited,
    }


def differing(groups: Sequence[FairnessGroup]) -> tuple[str, ...]:
    """Return the names of the properties in which groups differ, in the order of the groups'."""
    names = dict.fromkeys(name for group in groups for name in group)
    return tuple(n for n in names if any(g.get(n) != groups[0].get(n) for g in groups))


def described(group: FairnessGroup, names: Sequence[str]) -> str:
    """Return some properties of a group in words, such as ``batch size 32, precision bf16``."""
    return ", ".join(f"{name} {_shown(group.get(name))}" for name in names)


def _settings(section: str, chosen: Mapping[str, object]) -> dict[str, Property]:
    """Return the settings and the revision of a task or backbone, with dotted names."""
    values = {"revision": chosen.get("revision"), "config": chosen.get("config") or {}}
    return {f"{section}.{name.removeprefix('config.')}": value for name, value in flatten(values)}


def _shown(value: Property) -> str:
    if value is None:
        return "unknown"
    text = str(value)
    is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:_SHOWN_DIGITS] if is_hash else text
