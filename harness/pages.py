"""Pages of methods in Markdown, made of what ``listing.describe`` returns. Imports no torch.

The same descriptions give the same bytes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.cards import METHODS
from harness.errors import ConfigError, UserError
from harness.listing import (
    Data,
    backward,
    describe,
    reading_settings,
    symbol_source,
    value_text,
    values_text,
)
from harness.markdown import code, escaped, table

INDEX = "index.md"


def pages(names: Sequence[str] = ()) -> dict[str, str]:
    """Return pages by the name of their file.

    Args:
        names: methods, ``name`` or ``name@preset``; without any, all methods and an index.

    Raises:
        UserError: some names are unknown; all are reported.
    """
    descriptions = [_description(name) for name in _chosen(names) or METHODS.names()]
    content = {_file_name(data): page(data) for data in descriptions}
    return content if names else {INDEX: index(descriptions), **content}


def _chosen(names: Sequence[str]) -> list[str]:
    """Return the methods that are named, each once."""
    chosen: dict[str, None] = {}
    problems: list[str] = []
    for name in names:
        try:
            chosen[METHODS.choose(name).card.name] = None
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return list(chosen)


def _description(name: str) -> Data:
    return next(data for data in describe(name) if data["kind"] == METHODS.kind)


def _file_name(data: Data) -> str:
    return f"{data['name']}.md"


def index(descriptions: Sequence[Data]) -> str:
    """Return the page that links the pages of methods."""
    backbones = list(dict.fromkeys(b for data in descriptions for b in _counts(data)))
    head = ["method", "what it is", "backward pass", *(f"trainable, {b}" for b in backbones)]
    rows = [
        [
            f"[{escaped(data['name'])}]({_file_name(data)})",
            escaped(data["summary"]),
            backward(data),
            *(f"{_counts(data)[b]:,}" if b in _counts(data) else "-" for b in backbones),
        ]
        for data in descriptions
    ]
    note = "Trainable parameters are those of the method alone, with its defaults."
    return _joined(["# Methods", table(head, rows), *([note] if backbones else [])])


def page(data: Data) -> str:
    """Return the page of one method.

    Args:
        data: an item of kind ``method`` that ``listing.describe`` returned.
    """
    blocks = [f"# {escaped(data['name'])}", escaped(data["summary"]), _facts(data)]
    for title, section in SECTIONS.items():
        body = list(section(data))
        if body:
            blocks += [f"## {title}", *body]
    return _joined(blocks)


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(blocks) + "\n"


def _counts(data: Data) -> Mapping[str, int]:
    return data["cost"]["counts"] if data["cost"] else {}


def _facts(data: Data) -> str:
    train = {f"train.{name}": value for name, value in data["train"].items()}
    needs = ", ".join(code(name) for name in data["requires"]) or "nothing in particular"
    rows = [
        ("source", escaped(data["source"])),
        ("family", code(data["family"])),
        ("needs of a backbone", needs),
        ("training defaults", code(values_text(train)) if train else "those of every method"),
        ("revision", str(data["revision"])),
    ]
    return table(rows[0], rows[1:])


def _trains(data: Data) -> Iterator[str]:
    if data["trains"]:
        yield escaped(data["trains"])


def _gradient(data: Data) -> Iterator[str]:
    yield escaped(f"The backward pass {backward(data)}. {data['gradient']}")


def _cost(data: Data) -> Iterator[str]:
    cost = data["cost"]
    if not cost:
        return
    yield table(
        ("numbers", "formula"),
        [
            ("trainable parameters", code(cost["trainable"])),
            ("gradients", "one for each trainable parameter"),
            ("optimizer state", OPTIMIZER_STATE),
            ("saved activations, about", code(cost["saved"])),
        ],
    )
    if cost["note"]:
        yield escaped(cost["note"])
    yield from _worked_out(cost)
    yield EXACTNESS


def _worked_out(cost: Data) -> Iterator[str]:
    """Yield the symbols, with their values where the count is worked out, and the counts."""
    backbones = list(cost["counts"])
    rows = [
        [
            code(name),
            escaped(symbol["meaning"]),
            code(symbol_source(symbol)) if symbol_source(symbol) else "",
            *(f"{symbol['examples'][b]:,}" if b in symbol["examples"] else "" for b in backbones),
        ]
        for name, symbol in cost["symbols"].items()
    ]
    if cost["counts"]:
        counts = [f"**{count:,}**" for count in cost["counts"].values()]
        rows.append(["", "trainable parameters with the defaults", "", *counts])
    if rows:
        yield table(("symbol", "meaning", "value", *map(escaped, backbones)), rows)


def _settings(data: Data) -> Iterator[str]:
    rows = [
        (
            code(f"method.{field['name']}"),
            code(field["type"]),
            code(value_text(field["default"])) if "default" in field else "required",
            escaped(field["description"]),
        )
        for field in data["fields"]
    ]
    if rows:
        yield table(("setting", "type", "default", "meaning"), rows)


def _presets(data: Data) -> Iterator[str]:
    rows = [
        (code(f"{data['name']}@{preset}"), code(values_text(values)))
        for preset, values in data["presets"].items()
    ]
    if rows:
        yield table(("preset", "settings"), rows)


def _official(data: Data) -> Iterator[str]:
    if data["official"]:
        rows = [(escaped(task), escaped(text)) for task, text in data["official"].items()]
        yield table(("task", "setting in the source"), rows)


def _published(data: Data) -> Iterator[str]:
    rows = [
        (
            code(backbone),
            code(values_text(setting["values"])) if setting["values"] else "the defaults",
            escaped(setting["trainable"] or "-"),
            escaped(setting["note"]),
        )
        for backbone, setting in data["published"].items()
    ]
    if rows:
        name = escaped(data["name"])
        yield (
            f"{name}@published stands for these. "
            f"`harness show {data['name']}@published --backbone NAME` counts them without weights."
        )
        yield table(("backbone", "settings", "trainable as printed", "note"), rows)


def _readings(data: Data) -> Iterator[str]:
    rows = []
    for reading in data["readings"]:
        fields = reading_settings(reading, data)
        rows.append(
            (
                escaped(reading["place"]),
                escaped(reading["question"]),
                escaped(reading["taken"]),
                "<br>".join(map(_setting, fields)) or "fixed",
            )
        )
    if rows:
        head = ("place", "what it leaves open", "what is taken", "setting; its alternatives")
        yield table(head, rows)


def _setting(field: Data) -> str:
    default = code(values_text({field["name"]: field["default"]}))
    return f"{default}; {code(', '.join(_alternatives(field)))}"


def _alternatives(field: Data) -> list[str]:
    """Return the other values of a field, or the type of those that cannot be listed."""
    listed = "true | false" if field["type"] == "bool" else field["type"]
    words = re.split(r" \| | or ", listed)
    return [word for word in words if word != value_text(field["default"])]


def _deviations(data: Data) -> Iterator[str]:
    if data["deviations"]:
        yield "\n".join(f"- {escaped(deviation)}" for deviation in data["deviations"])


SECTIONS: Mapping[str, Callable[[Data], Iterator[str]]] = {
    "What trains": _trains,
    "Where the gradient flows": _gradient,
    "What it costs": _cost,
    "Settings": _settings,
    "Presets": _presets,
    "Settings of the sources": _official,
    "Published settings": _published,
    "What the source leaves open": _readings,
    "Deviations from the source": _deviations,
}
"""What a page tells behind its head, by title; a section without content is left out."""

OPTIMIZER_STATE = (
    "two for each trainable parameter: in fp32 with `train.optimizer=adamw`, in 8 bits with "
    "`adamw_8bit`; with `adafactor` one for each row and column of a weight, with `galore` those "
    "of a gradient of low rank, and its projection"
)
EXACTNESS = (
    "A number takes 4 bytes in fp32 and 2 in bf16. The task's head comes on top. The count is "
    "exact for every value of the settings among the symbols and the defaults of all others, on "
    "streams of transformer blocks of one shape; `harness show NAME --backbone BACKBONE` counts "
    "every other case. Saved activations are the leading terms, without the backbone's dropout. "
    "The exact bytes are in the Record of every run: measured in `memory.at_peak_bytes`, predicted "
    "in `memory.predicted_train_peak_bytes`."
)
