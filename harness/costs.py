"""What a method costs, as formulas: plain arithmetic in symbols that the page of a method defines.

A formula is read as text and computed here; nothing in it is executed. Imports no torch.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from harness.registry import Config

Number = int | float

OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
LARGEST_POWER = 9


class ShapeSymbol(NamedTuple):
    """A symbol whose value the backbone gives, with its value on two of them."""

    meaning: str
    t5_base: int
    bert_base: int


SHAPE: Mapping[str, ShapeSymbol] = {
    "d": ShapeSymbol("width of the hidden states, and of an attention's heads together", 768, 768),
    "d_ff": ShapeSymbol("hidden width of a block's feed-forward network", 3072, 3072),
    "h": ShapeSymbol("heads of an attention", 12, 12),
    "L": ShapeSymbol("blocks of a stream", 12, 12),
    "S": ShapeSymbol("streams that the head depends on (T5: encoder and decoder)", 2, 1),
    "R": ShapeSymbol("streams that the head reads", 1, 1),
    "C": ShapeSymbol("streams that read another one by cross-attention", 1, 0),
    "X": ShapeSymbol("streams that begin with a text", 1, 1),
    "b": ShapeSymbol("1 where linear layers have biases, else 0", 0, 1),
    "g": ShapeSymbol("parameters of a norm for each dimension (LayerNorm 2, RMSNorm 1)", 1, 2),
    "p": ShapeSymbol("1 where norms stand before the sub-layers, 0 where behind the sums", 1, 0),
    "q": ShapeSymbol("rows of a stream's table of relative positions, 0 without one", 32, 0),
    "z": ShapeSymbol("1 where scores of an attention add such a table, else 0", 1, 0),
    "E": ShapeSymbol("rows of all embedding tables together", 32100, 31036),
    "V": ShapeSymbol("rows of the layer that writes text, 0 without one", 32100, 0),
}
"""The symbols that every formula may use; a backbone's streams are of one shape there."""

BATCH: Mapping[str, str] = {
    "B": "rows of a batch",
    "T": "tokens of a row in a stream",
}
"""The symbols that formulas of saved activations may use beside them."""

EXAMPLES: Mapping[str, Mapping[str, int]] = {
    "t5-base": {name: symbol.t5_base for name, symbol in SHAPE.items()},
    "bert-base": {name: symbol.bert_base for name, symbol in SHAPE.items()},
}
"""Values of the shape's symbols by backbone, on which counts are worked out."""


class Symbol(Config):
    """A symbol of one method's formulas.

    Attributes:
        meaning: what it stands for.
        field: the number of the method's configuration that it is; of a list, its length.
        value: a formula in earlier symbols, where there is no field or its value is null.
    """

    meaning: str
    field: str | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _check_source(self) -> "Symbol":
        if self.field is None and self.value is None:
            raise ValueError(f"'{self.meaning}' has neither a field nor a value")
        return self


class Cost(Config):
    """What a method costs on streams of transformer blocks that are all of one shape.

    Attributes:
        trainable: formula of the trainable parameters, without the task's head. It holds for
            every value of the fields that are symbols, and for the defaults of all others.
        saved: formula of the numbers saved for the backward pass, to leading order.
        symbols: the method's own, each defined by earlier ones and those of ``SHAPE``.
        note: what the formulas leave out.
    """

    trainable: str
    saved: str
    symbols: Mapping[str, Symbol] = Field(default_factory=dict)
    note: str = ""

    @model_validator(mode="after")
    def _check_names(self) -> "Cost":
        known = set(SHAPE)
        for name, symbol in self.symbols.items():
            if name in SHAPE or name in BATCH:
                raise ValueError(f"symbol '{name}' is the backbone's; take another letter")
            if symbol.value is not None:
                _check_known(symbol.value, known)
            known.add(name)
        _check_known(self.trainable, known)
        _check_known(self.saved, known | set(BATCH))
        return self

    def values(self, shape: Mapping[str, Number], config: Config) -> dict[str, Number]:
        """Return the value of every symbol.

        Args:
            shape: values of the symbols of ``SHAPE``, and of ``BATCH`` where they are wanted.
            config: the method's configuration.

        Raises:
            ValueError: a field that is a symbol differs between the streams.
        """
        values = dict(shape)
        for name, symbol in self.symbols.items():
            given = None if symbol.field is None else getattr(config, symbol.field)
            if isinstance(given, Mapping):
                raise ValueError(f"{symbol.field}: streams that differ have no common formula")
            if isinstance(given, tuple):
                given = len(given)
            values[name] = evaluate(symbol.value or "", values) if given is None else given
        return values

    def count(self, shape: Mapping[str, Number], config: Config) -> int:
        """Return the trainable parameters on a backbone of this shape; see ``values``."""
        return int(evaluate(self.trainable, self.values(shape, config)))

    def explain(self, config: Config, examples: Sequence[str]) -> dict[str, Any]:
        """Return the formulas, the symbols in them and what they come to, JSON-ready.

        Args:
            config: the method's configuration.
            examples: backbones of ``EXAMPLES``.
        """
        values = {name: self.values(EXAMPLES[name], config) for name in examples}
        used = {name for formula in self._formulas() for name in names_in(formula)}
        shared = {**{name: symbol.meaning for name, symbol in SHAPE.items()}, **BATCH}
        symbols: dict[str, dict[str, Any]] = {
            **{name: symbol.model_dump() for name, symbol in self.symbols.items()},
            **{name: {"meaning": m} for name, m in shared.items() if name in used},
        }
        for name, symbol in symbols.items():
            symbol["examples"] = {n: v[name] for n, v in values.items() if name in v}
        return {
            "trainable": self.trainable,
            "saved": self.saved,
            "note": self.note,
            "counts": {name: self.count(EXAMPLES[name], config) for name in examples},
            "symbols": symbols,
        }

    def _formulas(self) -> list[str]:
        own = [symbol.value for symbol in self.symbols.values() if symbol.value is not None]
        return [self.trainable, self.saved, *own]


def evaluate(formula: str, values: Mapping[str, Number]) -> Number:
    """Return the value of a formula.

    Args:
        formula: numbers and names with + - * / // ** and parentheses; a power is a digit.
        values: what the names stand for.

    Raises:
        ValueError: it is something else, or a name has no value.
    """
    _check_known(formula, set(values))
    return _value(_parsed(formula), values)


def names_in(formula: str) -> list[str]:
    """Return the names in a formula, each once, in the order in which they first stand there.

    Raises:
        ValueError: it is no formula.
    """
    names = [node for node in ast.walk(_parsed(formula)) if isinstance(node, ast.Name)]
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(node.id for node in names))


def _parsed(formula: str) -> ast.expr:
    """Return the tree of a formula, of which every part is allowed."""
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"'{formula}' is no formula") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and not _is_allowed(node):
            part = ast.unparse(node)
            raise ValueError(f"'{part}' in '{formula}' is no number, name or + - * / // ** of them")
    return tree


def _is_allowed(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):  # a large power may never end
        return isinstance(node.right, ast.Constant) and node.right.value in range(LARGEST_POWER + 1)
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.BinOp) and type(node.op) in OPERATORS
    )


def _value(node: ast.expr, values: Mapping[str, Number]) -> Number:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int | float)
    return node.value


def _check_known(formula: str, known: set[str]) -> None:
    unknown = [name for name in names_in(formula) if name not in known]
    if unknown:
        raise ValueError(f"'{formula}': {', '.join(unknown)} is not defined")
