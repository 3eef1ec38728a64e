"""What tells runs apart: which are seeds of one configuration, and how such rows are named."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.flat import flatten
from harness.record import Record, content_hash

TITLE_FIELDS = ("method", "preset", "task", "dataset", "recipe", "backbone")
_ORIGIN = ("device", "data", "weights")
_LATE = ("train.threads", "task.data_dir", *_ORIGIN)
_SHOWN_DIGITS = 8


def identity(record: Record) -> str:
    """Return the same text for runs that differ in nothing but the seed.

    The device counts, as runs on two of them differ in more than the seed.
    """
    names = {name: getattr(record, name) for name in TITLE_FIELDS}
    return content_hash({"traits": _traits(record), **names})


def variant_names(records: Sequence[Record]) -> list[str]:
    """Name, for records with the same title, the settings that tell each from the others.

    Settings with most values come first, and a record is named by no more of them than it takes:
    one odd run does not lengthen the names of all others.

    Args:
        records: the first run of every row.

    Returns:
        Such as ``bits=8, experts=4``, in the order of ``records``; no two of the same title are the
        same.
    """
    titles: dict[tuple[str, ...], list[int]] = {}
    for number, record in enumerate(records):
        title = tuple(str(getattr(record, name)) for name in TITLE_FIELDS)
        titles.setdefault(title, []).append(number)
    variants = [""] * len(records)
    for numbers in titles.values():
        named = _names([_traits(records[number]) for number in numbers])
        for number, name in zip(numbers, named, strict=True):
            variants[number] = name
    return variants


def _traits(record: Record) -> dict[str, Any]:
    """Return all that may differ under one title, by dotted name, without the seed.

    The device is the one that a run had, whatever was asked for: ``auto`` may be any.
    """
    origin = record.provenance
    settings = {name: value for name, value in flatten(record.config) if name != "seed"}
    found = (origin.device, origin.data.fingerprint, origin.weights)
    return settings | dict(zip(_ORIGIN, found, strict=True))


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name every row by the traits that part it from rows that are alike in all earlier ones."""
    parting: list[list[str]] = [[] for _ in rows]
    alike = [list(range(len(rows)))]
    for name in _varying(rows):
        parts: list[list[int]] = []
        for group in alike:
            by_value: dict[str, list[int]] = {}
            for number in group:
                by_value.setdefault(json.dumps(rows[number].get(name)), []).append(number)
            if len(by_value) > 1:
                for number in group:
                    parting[number].append(name)
            parts += by_value.values()
        alike = parts
    short = _short({name for names in parting for name in names})
    return [
        ", ".join(f"{short[name]}={_shown(name, row.get(name))}" for name in names)
        for row, names in zip(rows, parting, strict=True)
    ]


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of traits that are not the same everywhere, those of most values first.

    Of as many values, the method's settings come first, and what is no choice of anybody last;
    then those whose commonest value is rarest, which leaves the one of a single odd row behind.
    """
    counts = {
        name: Counter(json.dumps(row.get(name)) for row in rows)
        for name in sorted({name for row in rows for name in row})
    }

    def order(name: str) -> tuple[int, int, int]:
        late = name in _LATE or name.endswith(".revision")
        rank = 2 if late else int(not name.startswith("method."))
        return -len(counts[name]), rank, max(counts[name].values())

    return sorted((name for name, own in counts.items() if len(own) > 1), key=order)


def _short(names: set[str]) -> dict[str, str]:
    """Return the last part of every dotted name, or two where others would be called the same."""
    ends = [name.rpartition(".")[2] for name in names]
    found = {}
    for name in names:
        *before, end = name.replace(".config.", ".").split(".")
        found[name] = ".".join([*before, end]) if ends.count(end) > 1 else end
    return found


def _shown(name: str, value: Any) -> str:
    return str(value)[:_SHOWN_DIGITS] if name in ("data", "weights") else str(value)
