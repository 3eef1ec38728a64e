"""The design of a study: axes over fields of the configuration, and the points that they span.

A study's file is YAML: ``axes``, and, where they are wanted, ``about``, ``settings`` that every
point shares, ``when`` an axis applies, ``constraints`` between fields, ``sampler`` and ``trials``.
This module imports no torch.
"""

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.config import RunConfig, RunRequest, value_problems
from harness.errors import ConfigError, UserError, did_you_mean
from harness.flat import flatten
from harness.study import Axis
from harness.typed_values import Scalar, parse_value, read_yaml, typed

FOLDER = Path(__file__).with_name("studies")
DEFAULT = "bits-noise-experts"
Sampler = Literal["grid", "tpe", "nsga2", "random"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
Point = Mapping[str, Any]
_COMPARISONS = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONSTRAINT = re.compile(r"\s*(\S+)\s*(<=|>=|!=|==|<|>)\s*(\S+)\s*")


class Design(BaseModel):
    """What a study's file says.

    Attributes:
        name: of the study.
        about: one sentence.
        axes: values of a field, ``method.bits: [8, 4]``; or named levels that set several
            fields, ``gnp_iq: {with: {}, without: {method.bits: null}}``.
        settings: fields that every point sets.
        when: by axis, the values of other axes at which alone it applies.
        constraints: ``FIELD <= FIELD`` or ``FIELD != VALUE``; points that break one are not run.
        sampler: ``grid`` runs every point; the others are Optuna's and choose points.
        trials: points to choose; for ``grid`` none but all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    about: str = ""
    axes: dict[str, list[Scalar] | dict[str, dict[str, Scalar]]] = Field(min_length=1)
    settings: dict[str, Scalar] = Field(default_factory=dict)
    when: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    constraints: list[str] = Field(default_factory=list)
    sampler: Sampler = "grid"
    trials: int | None = Field(None, ge=1)

    @field_validator("axes", "settings", "when", mode="before")
    @classmethod
    def _read_numbers(cls, values: Any) -> Any:
        return _with_numbers(values)

    @field_validator("axes")
    @classmethod
    def _check_axes(cls, axes: dict[str, Any]) -> dict[str, Any]:
        for name, levels in axes.items():
            if not levels:
                raise ValueError(f"axis '{name}' is empty: give it at least one value")
            if isinstance(levels, list):
                if len({repr(value) for value in levels}) < len(levels):
                    raise ValueError(f"axis '{name}' has a value twice")
                if "." not in name:
                    raise ValueError(
                        f"axis '{name}' has values but is no field: write SECTION.FIELD, such as "
                        f"method.{name}, or give it levels that set fields"
                    )
        return axes

    @model_validator(mode="after")
    def _check_when(self) -> "Design":
        order = list(self.axes)
        for axis, others in self.when.items():
            if axis not in order:
                raise ValueError(f"when: '{axis}' is no axis.{did_you_mean(axis, order)}")
            for other, value in others.items():
                if other not in order[: order.index(axis)]:
                    raise ValueError(
                        f"when: axis '{axis}' can depend on an axis before it, and '{other}' is "
                        "none"
                    )
                if value not in list(self.axes[other]):
                    raise ValueError(
                        f"when: axis '{other}' is never {value}."
                        f"{did_you_mean(str(value), map(str, self.axes[other]))}"
                    )
        return self

    @field_validator("constraints")
    @classmethod
    def _check_constraints(cls, constraints: list[str]) -> list[str]:
        for text in constraints:
            if not _CONSTRAINT.fullmatch(text):
                raise ValueError(
                    f"'{text}' is no constraint: write FIELD, one of {' '.join(_COMPARISONS)}, and "
                    "a field or value, such as 'method.top_k <= method.experts'"
                )
        return constraints

    def study_axes(self) -> tuple[Axis, ...]:
        """Return the axes as a study's document names them; levels go by their names."""
        return tuple(Axis(field=name, values=tuple(levels)) for name, levels in self.axes.items())

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every point of the grid once, the last axis fastest; of an axis that does not
        apply a point has no value.
        """
        seen: list[dict[str, Any]] = []
        for values in product(*self.axes.values()):
            point: dict[str, Any] = {}
            for name, value in zip(self.axes, values, strict=True):
                if self.applies(name, point):
                    point[name] = value
            if point not in seen:
                seen.append(point)
                yield point

    def applies(self, axis: str, point: Point) -> bool:
        """Return whether an axis has a value at a point of the axes before it."""
        return all(point.get(other) == at for other, at in self.when.get(axis, {}).items())

    def overrides(self, point: Point) -> dict[str, Any]:
        """Return what a point sets, by field."""
        found = dict(self.settings)
        for name, value in point.items():
            levels = self.axes[name]
            found |= levels[str(value)] if isinstance(levels, dict) else {name: value}
        return found

    def request(self, base: RunRequest, point: Point) -> RunRequest:
        """Return the request of a point; what was typed for the whole study yields to it."""
        set_here = tuple(f"{field}={typed(v)}" for field, v in self.overrides(point).items())
        return replace(base, overrides=(*base.overrides, *set_here))

    def wrong_values(self, config: RunConfig) -> list[str]:
        """Return which values of axes their fields cannot have: mistakes of the file.

        A value is looked at alone, whether or not its axis applies: it is one of another type, or
        outside the field's bounds. What is possible alone and impossible together with others is
        no mistake: such a point is not run.

        Args:
            config: of any point that can be run.
        """
        problems: dict[str, None] = {}
        for name, levels in self.axes.items():
            of_levels = levels.values() if isinstance(levels, dict) else [{name: v} for v in levels]
            for field, value in (pair for level in of_levels for pair in level.items()):
                problems |= dict.fromkeys(value_problems(config, field, parse_value(typed(value))))
        return [f"Axis of study '{self.name}': {text}" for text in problems]

    def broken(self, config: RunConfig) -> str | None:
        """Return the constraint that a point's configuration breaks, with its values, or None.

        Raises:
            UserError: a constraint names no field.
        """
        fields = field_values(config)
        for text in self.constraints:
            matched = _CONSTRAINT.fullmatch(text)
            assert matched is not None
            left, sign, right = matched.groups()
            if left not in fields:
                raise UserError(
                    f"Constraint '{text}' of study '{self.name}': '{left}' is no field."
                    f"{did_you_mean(left, fields)}"
                )
            a = fields[left]
            b = fields[right] if right in fields else parse_value(right)
            try:
                holds = _COMPARISONS[sign](a, b)
            except TypeError:
                raise UserError(
                    f"Constraint '{text}' of study '{self.name}' compares {a!r} with {b!r}."
                ) from None
            if not holds:
                return f"{text} does not hold: {a} and {b}"
        return None


def field_values(config: RunConfig) -> dict[str, Any]:
    """Return a run's settings as users name them: ``method.bits``, ``train.lr``."""
    resolved = dict(flatten(config.resolved()))
    return {name.replace(".config.", "."): value for name, value in resolved.items()}


def design_names() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_design(name: str) -> Design:
    """Read a named study, or a file.

    Raises:
        ConfigError: with every problem of the file.
        UserError: there is no such study, or the file is no YAML.
    """
    path = FOLDER / f"{name}.yaml"
    if name not in design_names():
        path = Path(name)
        if not path.is_file():
            raise UserError(
                f"'{name}' is neither a study nor a file.{did_you_mean(name, design_names())}"
            )
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must hold axes, for instance 'axes: {{method.bits: [8, 4]}}'.")
    try:
        return Design.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        sentences = (_sentence(path, item) for item in error.errors())
        raise ConfigError(list(dict.fromkeys(sentences))) from None


def _sentence(path: Path, item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    section, *within = item["loc"] or ("",)
    if section == "axes" and within:  # it could have been one of many types, each with its reason
        return (
            f"{path}: axes.{within[0]}: write a list of values, each a finite number, a word, "
            "true, false or null; or named levels that set fields, 'with: {method.bits: 4}'."
        )
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown field '{place}'.{did_you_mean(place, Design.model_fields)}"
    message = item["msg"].removeprefix("Value error, ")
    end = "" if message.endswith((".", "?")) else "."
    return ": ".join(filter(None, (str(path), place, message))) + end


def _with_numbers(value: Any) -> Any:
    """Return ``value`` with ``1e-3``, which is text in YAML, as the number that people mean."""
    if isinstance(value, Mapping):
        return {name: _with_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_numbers(inner) for inner in value]
    return parse_value(value) if isinstance(value, str) and value[:1].isdigit() else value
