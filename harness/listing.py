"""What the registries hold, as JSON-ready data and as text. Imports no implementation.

``catalogue`` and ``describe`` gather; ``print_catalogue`` and ``print_descriptions`` lay out.
"""

import json
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from harness.backbones.quantize import QuantizeConfig
from harness.cards import ALL, BACKBONES, METHODS, TASKS, BackboneCard, MethodCard, TaskCard
from harness.config import FeaturesConfig, MemoryConfig, TrainConfig
from harness.costs import EXAMPLES
from harness.errors import UserError, did_you_mean
from harness.registry import Card, Config, Registry

REGISTRIES: Mapping[str, Registry[Any]] = {
    "methods": METHODS,
    "tasks": TASKS,
    "backbones": BACKBONES,
}
SECTIONS: Mapping[str, type[Config]] = {
    "train": TrainConfig,
    "features": FeaturesConfig,
    "memory": MemoryConfig,
}

Data = dict[str, Any]


def catalogue(kind: str | None = None) -> dict[str, list[Data]]:
    """Return name, summary and variants of every entry, by kind; of one kind if it is given.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in (None, *REGISTRIES):
        raise UserError(f"Nothing to list as '{kind}'.{did_you_mean(str(kind), REGISTRIES)}")
    return {
        k: [_headline(registry.card(name)) for name in registry.names()]
        for k, registry in REGISTRIES.items()
        if kind in (None, k)
    }


def describe(name: str) -> list[Data]:
    """Return all that is known of ``name`` or ``name@variant``, one item a registry that has it.

    Raises:
        UserError: no registry and no settings section has that name, or none has that variant.
    """
    if name in SECTIONS:
        return [_describe_section(name, SECTIONS[name])]
    plain, _, variant = name.partition("@")
    owners = [registry for registry in REGISTRIES.values() if plain in registry]
    if not owners:
        for registry in REGISTRIES.values():
            if plain in registry.refused:
                raise UserError(registry.refused[plain])
        known = [n for r in REGISTRIES.values() for n in (*r.names(), *r.aliases)]
        raise UserError(f"Nothing is called '{plain}'.{did_you_mean(plain, [*known, *SECTIONS])}")
    if "@" in name and not any(variant in r.choose(plain).card.variants for r in owners):
        owners[0].choose(name)  # its message names the nearest variant
    return [_describe_card(registry, registry.choose(plain).card) for registry in owners]


def _headline(card: Card) -> Data:
    return {
        "name": card.name,
        "summary": card.summary,
        "variants": list(card.variants),
        "aliases": dict(card.aliases),
    }


def _describe_section(name: str, config: type[Config]) -> Data:
    return {
        "kind": "settings",
        "name": name,
        "summary": (config.__doc__ or "").partition("\n")[0],
        "fields": list(_fields(config)),
    }


def _describe_card(registry: Registry[Any], card: Card) -> Data:
    data: Data = {
        "kind": registry.kind,
        "name": card.name,
        "summary": card.summary,
        "source": card.source,
        "revision": card.revision,
        "implementation": card.implementation,
        "fields": list(_fields(card.config)),
    }
    if isinstance(card, MethodCard):
        data |= _describe_method(card)
    elif isinstance(card, TaskCard):
        data |= {
            "modalities": list(card.modalities),
            "metrics": dict(card.metrics),
            "primary": card.primary,
            "backbone": card.backbone,
            "groups": list(card.groups),
            "datasets": [dataset.model_dump() for dataset in card.datasets],
            "recipes": _plain(card.recipes),
        }
    elif isinstance(card, BackboneCard):
        data["fields"] += _fields(QuantizeConfig)
        data |= {
            "streams": list(card.streams),
            "modalities": list(card.modalities),
            "provides": sorted(card.provides),
            "bundled": card.bundled,
            "presets": _plain(card.presets),
            "aliases": dict(card.aliases),
            "weights": dict(card.weights),
        }
    return data


def _describe_method(card: MethodCard) -> Data:
    counted = [n for n in EXAMPLES if card.requires <= BACKBONES.choose(n).card.provides]
    return {
        "family": card.family,
        "requires": sorted(card.requires),
        "backbone_gradients": card.backbone_gradients,
        "grows": card.grows.model_dump() if card.grows else None,
        "train": dict(card.train),
        "presets": _plain(
            {n: {**values, **card.settings.get(n, {})} for n, values in card.presets.items()}
        ),
        "published": {n: p.model_dump(mode="json") for n, p in card.published.items()},
        "aliases": dict(card.aliases),
        "refused": dict(card.refused),
        "trains": card.trains,
        "gradient": card.gradient,
        "cost": card.cost.explain(card.config(), counted) if card.cost else None,
        "official": dict(card.official),
        "deviations": list(card.deviations),
        "readings": [reading.model_dump(mode="json") for reading in card.readings],
    }


def _plain(values: Mapping[str, Any]) -> Data:
    return to_jsonable_python(dict(values))


def _fields(config: type[Config]) -> Iterator[Data]:
    for name, info in config.model_fields.items():
        data = {"name": name, "type": _type_text(info)}
        if not info.is_required():
            data["default"] = to_jsonable_python(info.get_default(call_default_factory=True))
        yield {**data, "description": info.description or ""}


def _type_text(info: FieldInfo) -> str:
    """Return a field's type and bounds as a reader says them: ``int >= 1 or null``."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f" {sign} {getattr(rule, name)}"
        for rule in info.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    text = _annotation_text(info.annotation)
    first, _, rest = text.partition(" or ")
    return first + ",".join(bounds) + (f" or {rest}" if rest else "")


def _annotation_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return "null"
    if origin is Literal:
        return " | ".join(value_text(value) for value in arguments)
    if origin in (list, tuple, set, frozenset):
        return f"list of {_annotation_text(arguments[0])}"
    if arguments and origin is not dict:
        return " or ".join(_annotation_text(argument) for argument in arguments)
    return getattr(annotation, "__name__", str(annotation))


def value_text(value: Any) -> str:
    """Return a value as it is typed behind ``--set``."""
    return value if isinstance(value, str) else json.dumps(value)


def print_catalogue(data: Mapping[str, list[Data]], console: Console) -> None:
    """Print what ``catalogue`` returned."""
    for kind, entries in data.items():
        console.print(f"{kind} ({len(entries)})", style="bold")
        _print_rows([(e["name"], e["summary"] + _variants_text(e)) for e in entries], console)
    console.print("\nharness show NAME explains one of them; harness show train the training.")


def _variants_text(entry: Data) -> str:
    aliases = entry["aliases"]
    unnamed = [f"@{name}" for name in entry["variants"] if name not in aliases.values()]
    names = " ".join([*unnamed, *aliases])
    return f" [{names}]" if names else ""


def print_descriptions(descriptions: list[Data], console: Console) -> None:
    """Print what ``describe`` returned."""
    for number, data in enumerate(descriptions):
        if number:
            console.print()
        _print_description(data, console)


def _print_description(data: Data, console: Console) -> None:
    console.print(f"{data['name']} ({data['kind']})", style="bold")
    console.print(data["summary"])
    _print_rows(list(_facts(data)), console)
    section = data["name"] if data["kind"] == "settings" else data["kind"]
    console.print(f"\nSettings (--set {section}.FIELD=VALUE)", style="bold")
    rows = [
        (
            field["name"],
            field["type"],
            value_text(field["default"]) if "default" in field else "required",
            field["description"],
        )
        for field in data["fields"]
    ]
    if rows:
        _print_rows(rows, console, head=("field", "type", "default", ""))
    else:
        console.print("  none")
    for title in ("presets", "recipes"):
        if data.get(title):
            console.print(f"\n{title.capitalize()} ({data['name']}@NAME)", style="bold")
            _print_rows([(n, values_text(v)) for n, v in data[title].items()], console)
    if data.get("published"):
        console.print(
            f"\nPublished settings ({data['name']}@published --backbone NAME)", style="bold"
        )
        _print_rows([(n, _published_text(p)) for n, p in data["published"].items()], console)
    if data.get("refused"):
        console.print("\nRefused, and why", style="bold")
        _print_rows(list(data["refused"].items()), console)
    if data.get("readings"):
        console.print("\nWhat the source leaves open, and the default", style="bold")
        _print_rows(
            [(r["place"], r["question"], _taken(r, data)) for r in data["readings"]], console
        )
    if data.get("deviations"):
        console.print("\nDeviations from the source", style="bold")
        _print_rows([("-", deviation) for deviation in data["deviations"]], console)
    if "datasets" in data:
        _print_datasets(data, console)


def _facts(data: Data) -> Iterator[tuple[str, str]]:
    """Yield the short facts of a card as label and text."""
    if "source" in data:
        yield "source", data["source"]
    if data["kind"] == "method":
        yield "family", f"{data['family']}; the backward pass {backward(data)}"
        yield from ((name, data[name]) for name in ("trains", "gradient") if data[name])
        yield "needs", ", ".join(data["requires"]) or "any backbone"
        yield "training", values_text({f"train.{k}": v for k, v in data["train"].items()})
        if data["cost"]:
            yield from _cost_facts(data["cost"])
        if grows := data["grows"]:
            yield "grows", f"as {grows['field']} {'rises' if grows['rising'] else 'falls'}"
        if data["aliases"]:
            yield "names", ", ".join(data["aliases"])
    if "modalities" in data:
        yield "reads", ", ".join(data["modalities"])
    if data["kind"] == "backbone":
        yield "streams", ", ".join(data["streams"])
        yield "provides", ", ".join(data["provides"])
        yield "weights", "bundled" if data["bundled"] else "from --weights: a folder or a hub's id"
        for preset, origin in data["weights"].items():
            yield f"weights of @{preset}", origin
        for alias, preset in data["aliases"].items():
            yield alias, f"{data['name']}@{preset}"
    if data["kind"] == "task":
        names = {"max": "higher is better", "min": "lower is better"}
        yield "selected by", f"{data['primary']} on validation"
        yield "metrics", "; ".join(_metric_lines(data["metrics"], names))
        yield "backbone", data["backbone"]
        yield "groups", ", ".join((*data["groups"], ALL))


def backward(data: Data) -> str:
    """Return what a method's backward pass does, to follow "the backward pass"."""
    if data["backbone_gradients"]:
        return "enters the backbone"
    if "late_block" in data["requires"]:
        return "crosses the backbone's last block alone"
    return "never enters the backbone"


def _cost_facts(cost: Data) -> Iterator[tuple[str, str]]:
    counts = ", ".join(f"{count:,} on {backbone}" for backbone, count in cost["counts"].items())
    yield "trainable", cost["trainable"] + (f": {counts}" if counts else "")
    yield "saved", f"about {cost['saved']} numbers"
    own = {name: symbol_source(s) for name, s in cost["symbols"].items() if symbol_source(s)}
    yield "where", "; ".join([*(f"{n} = {s}" for n, s in own.items()), "harness docs has all"])


def symbol_source(symbol: Data) -> str:
    """Return what gives a symbol of a cost its value, nothing where it is the backbone or batch."""
    field, value = symbol.get("field"), symbol.get("value")
    return " or ".join(text for text in (f"method.{field}" if field else "", value) if text)


def reading_settings(reading: Data, data: Data) -> list[Data]:
    """Return the fields of a method's description that hold a reading, in the reading's order."""
    fields = {field["name"]: field for field in data["fields"]}
    return [fields[name] for name in reading["fields"]]


def _metric_lines(metrics: Mapping[str, str], names: Mapping[str, str]) -> Iterator[str]:
    for direction, words in names.items():
        found = [name for name, d in metrics.items() if d == direction]
        if found:
            yield f"{', '.join(found)} ({words})"


def values_text(values: Mapping[str, Any]) -> str:
    """Return settings as one line, ``the defaults`` where there are none."""
    return ", ".join(f"{k}={value_text(v)}" for k, v in values.items()) or "the defaults"


def print_counts(rows: list[Data], console: Console) -> None:
    """Print what ``counting.compare_counts`` returned."""
    for row in rows:
        parts = ", ".join(f"{name} {n:,}" for name, n in row["parts"].items() if n)
        console.print(f"{row['setting']} on {row['backbone']}", style="bold")
        facts = [
            ("trainable", f"{row['trainable']:,} = {row['percent']:.4f} % ({parts})"),
            ("of the backbone's", f"{row['denominator']:,}"),
        ]
        if row.get("published"):
            facts.append(("published", row["published"]))
        if row.get("note"):
            facts.append(("note", row["note"]))
        _print_rows(facts, console)


def _published_text(setting: Data) -> str:
    figure = f"trains {setting['trainable']}" if setting["trainable"] else ""
    parts = (values_text(setting["values"]), figure, setting["note"])
    return "; ".join(part for part in parts if part)


def _taken(reading: Data, data: Data) -> str:
    fields = reading_settings(reading, data)
    return values_text({field["name"]: field["default"] for field in fields}) if fields else "-"


def _print_datasets(data: Data, console: Console) -> None:
    console.print("\nDatasets (--dataset NAME; the first is the default)", style="bold")
    rows = [
        (
            d["name"],
            f"{d['summary']}. {d['origin']}; {d['source']}, {d['licence']}"
            + "".join(f"; @{name}: {values_text(v)}" for name, v in d["recipes"].items()),
        )
        for d in data["datasets"]
    ]
    _print_rows(rows, console)


def _print_rows(rows: list[Any], console: Console, head: tuple[str, ...] = ()) -> None:
    """Print rows in aligned columns, the last of which wraps."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(head))
    width = max(len(row) for row in rows)
    for index in range(width):
        table.add_column(head[index] if head else "", overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, 2)))
