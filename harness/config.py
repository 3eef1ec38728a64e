"""From what was typed to one resolved, validated configuration.

Values come, each over the one before, from: defaults in the classes, the method's own training
defaults, the task's recipe, presets, the configuration file, flags. All problems are reported
together. This module imports no torch.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from harness.backbones.quantize import QuantizeConfig
from harness.cards import (
    BACKBONES,
    METHODS,
    PUBLISHED,
    TASKS,
    BackboneCard,
    MethodCard,
    TaskCard,
    published_setting,
)
from harness.compatibility import (
    incompatibilities,
    missing_method_package,
    missing_packages,
    nothing_to_recompute,
    unquantizable,
)
from harness.errors import ConfigError, UserError, did_you_mean
from harness.registry import Choice, Config, Registry
from harness.typed_values import read_file, read_overrides
from harness.validation import field_problems, validate

Amp = Literal["off", "bf16", "auto"]
Optimizer = Literal["adamw", "adamw_8bit", "adafactor", "galore"]


class TrainConfig(Config):
    """How a method is trained; the same loop for every method."""

    epochs: int = Field(5, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(128, ge=1, description="Rows of one optimizer step.")
    eval_batch_size: int = Field(256, ge=1, description="Rows of one evaluation batch.")
    optimizer: Optimizer = Field(
        "adamw",
        description="AdamW, AdamW with 8-bit moments (torchao), Adafactor without momentum, or "
        "AdamW on low-rank gradients (GaLore, of pytorch-optimizer).",
    )
    galore_rank: int = Field(8, ge=1, description="Rank of a matrix's gradient (galore).")
    galore_gap: int = Field(200, ge=1, description="Steps between new projections (galore).")
    galore_scale: float = Field(2.0, gt=0, description="Factor of projected updates (galore).")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    warmup: float = Field(0.06, ge=0, lt=1, description="Fraction of the steps with rising rate.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate falls after the warm-up."
    )
    clip_norm: float = Field(1.0, gt=0, description="Largest gradient norm of a step.")
    amp: Amp = Field(
        "off",
        description="Automatic mixed precision: off, bf16 autocast, or auto for bf16 where the "
        "device computes it natively.",
    )
    grad_accum: int = Field(1, ge=1, description="Micro-batches that make up one batch.")
    grad_checkpoint: bool = Field(
        False, description="Run the backbone's blocks again in the backward pass, to save memory."
    )
    compile: bool = Field(
        False,
        description="Compile the steps by torch.compile: their numbers differ in the last bits, "
        "and memory is measured without.",
    )
    threads: int = Field(2, ge=1, description="CPU threads of one run; part of its identity.")

    @property
    def rows_at_once(self) -> int:
        """Rows of the largest micro-batch."""
        return -(-self.batch_size // self.grad_accum)

    def problems(self, section: str) -> Iterator[str]:
        """See :class:`Config`: every micro-batch has a row."""
        if self.grad_accum > self.batch_size:
            yield (
                f"{section}.grad_accum={self.grad_accum} is more than "
                f"{section}.batch_size={self.batch_size}: every micro-batch needs a row; write "
                f"{section}.grad_accum={self.batch_size} or less."
            )


class FeaturesConfig(Config):
    """The store of frozen-backbone features."""

    enabled: bool = Field(True, description="Store frozen features instead of recomputing them.")
    max_bytes: int = Field(
        8 * 2**30,
        ge=0,
        description="Largest store on disk; features of one run that need more are recomputed.",
    )


class MemoryConfig(Config):
    """What is measured before training."""

    profile: bool = Field(True, description="Measure peak memory by category before training.")
    predict: bool = Field(True, description="Predict the peak on fake tensors beside it.")


class Component(Config):
    """One chosen entry of a registry, which is that of methods here, with its configuration."""

    registry: ClassVar[Registry[Any]] = METHODS

    name: str
    preset: str | None
    revision: int
    config: SerializeAsAny[Config]

    @property
    def label(self) -> str:
        """What a user types for it: an alias, ``name@preset``, or the name alone."""
        return Choice(self.registry.card(self.name), self.preset).label


class TaskChoice(Component):
    """A task with its dataset and recipe."""

    registry = TASKS

    dataset: str
    recipe: str
    data_dir: Path | None


class BackboneChoice(Component):
    """A backbone with its weights, None for the bundled ones, and how they are quantised."""

    registry = BACKBONES

    weights: str | None
    quantize: QuantizeConfig = QuantizeConfig()


class RunConfig(Config):
    """Everything that determines the outcome of a run."""

    method: Component
    task: TaskChoice
    backbone: BackboneChoice
    train: TrainConfig
    features: FeaturesConfig
    memory: MemoryConfig
    seed: int = Field(ge=0)
    device: str
    limit: int | None

    def resolved(self) -> dict[str, Any]:
        """Return the JSON-ready configuration."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class RunRequest:
    """What was typed; None where nothing was."""

    method: str
    task: str
    dataset: str | None = None
    data_dir: Path | None = None
    recipe: str | None = None
    backbone: str | None = None
    weights: str | None = None
    overrides: tuple[str, ...] = ()
    config_file: Path | None = None
    seed: int = 0
    device: str = "auto"
    amp: str | None = None
    grad_checkpoint: bool | None = None
    limit: int | None = None


SECTIONS = ("method", "task", "backbone", "train", "features", "memory")
Values = dict[str, dict[str, Any]]


def resolve(request: RunRequest) -> RunConfig:
    """Turn a request into a validated configuration.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    method = _choose(METHODS, request.method, problems)
    task = _choose(TASKS, request.task, problems)
    wanted = request.backbone or (task.card.backbone if task else None)
    backbone = _choose(BACKBONES, wanted, problems) if wanted else None
    dataset = _pick_dataset(task, request, problems)
    recipe = _pick_recipe(task, request, problems)
    recipe_values = task.card.recipe(recipe, dataset) if task and recipe and dataset else {}
    values = _layer(request, method, recipe_values, backbone, problems)
    quantize = _taken(values["backbone"], QuantizeConfig)
    sections: dict[str, Any] = {
        "quantize": validate("backbone", QuantizeConfig, quantize, problems)
    }
    for section, config in _section_classes(method, task, backbone):
        sections[section] = validate(section, config, values[section], problems)
    problems += _other_variants(method, sections.get("method"))
    problems += incompatibilities(method, task, backbone)
    problems += missing_method_package(method)
    problems += unquantizable(method, sections.get("method"), sections["quantize"])
    if sections["train"] is not None:
        problems += nothing_to_recompute(method, sections["train"].grad_checkpoint)
        problems += missing_packages(sections["train"].optimizer)
    problems += _scalar_problems(request)
    if problems or not (method and task and backbone and dataset and recipe):
        raise ConfigError(problems)
    return RunConfig(
        method=_component(method, sections["method"]),
        task=TaskChoice(
            **dict(_component(task, sections["task"])),
            dataset=dataset,
            recipe=recipe,
            data_dir=request.data_dir,
        ),
        backbone=BackboneChoice(
            **dict(_component(backbone, sections["backbone"])),
            weights=request.weights or backbone.card.packaged_weights(backbone.preset),
            quantize=sections["quantize"],
        ),
        train=sections["train"],
        features=sections["features"],
        memory=sections["memory"],
        seed=request.seed,
        device=request.device,
        limit=request.limit,
    )


def value_problems(config: RunConfig, path: str, value: Any) -> list[str]:
    """Say whether ``section.field`` cannot have a value, whatever the other fields are.

    Args:
        config: of a run of the same method, task and backbone.
        path: the field.
        value: as :func:`harness.typed_values.parse_value` reads it.
    """
    problems: list[str] = []
    values: Values = {section: {} for section in SECTIONS}
    _apply(values, [(path, value)], problems)
    quantize = _taken(values["backbone"], QuantizeConfig)
    problems += field_problems("backbone", QuantizeConfig, quantize)
    for section, given in values.items():
        part = getattr(config, section)
        held = part.config if isinstance(part, Component) else part
        problems += field_problems(section, type(held), given)
    return problems


def _taken(values: dict[str, Any], config: type[Config]) -> dict[str, Any]:
    """Take the fields of ``config`` out of a section's values and return them."""
    return {name: values.pop(name) for name in config.model_fields if name in values}


def _other_variants(choice: Choice[Any] | None, config: Config | None) -> Iterator[str]:
    """Yield what to write where the values amount to another preset than the one that was named."""
    if choice is None or config is None or config.variant is None:
        return
    named = choice.preset or choice.card.config().variant
    if config.variant != named:
        right = Choice(choice.card, config.variant).label
        yield (
            f"'{choice.label}' with these settings is '{right}'; write '{right}', so that all "
            f"that belongs to the name comes with it."
        )


def _component(choice: Choice[Any], config: Config) -> Component:
    return Component(
        name=choice.card.name,
        preset=config.variant or choice.preset,
        revision=choice.card.revision,
        config=config,
    )


def _choose(registry: Registry[Any], text: str, problems: list[str]) -> Choice[Any] | None:
    try:
        return registry.choose(text)
    except UserError as error:
        problems.append(str(error))
        return None


def _pick_dataset(
    task: Choice[TaskCard] | None, request: RunRequest, problems: list[str]
) -> str | None:
    if task is None:
        return None
    names = [d.name for d in task.card.datasets]
    chosen = request.dataset or names[0]
    if chosen not in names:
        problems.append(
            f"Unknown dataset '{chosen}' of task '{task.card.name}'.{did_you_mean(chosen, names)}"
        )
        return None
    return chosen


def _pick_recipe(
    task: Choice[TaskCard] | None, request: RunRequest, problems: list[str]
) -> str | None:
    """Return the recipe: ``--recipe``, else the one of ``task@recipe``, else ``default``."""
    if task is None:
        return None
    if request.recipe and task.preset and request.recipe != task.preset:
        problems.append(
            f"'{request.task}' and --recipe {request.recipe} name two recipes; give one."
        )
    chosen = request.recipe or task.preset or "default"
    if chosen not in task.card.recipes:
        hint = did_you_mean(chosen, task.card.recipes)
        problems.append(f"Unknown recipe '{chosen}' of task '{task.card.name}'.{hint}")
        return None
    return chosen


def _layer(
    request: RunRequest,
    method: Choice[MethodCard] | None,
    recipe: Mapping[str, Any],
    backbone: Choice[BackboneCard] | None,
    problems: list[str],
) -> Values:
    """Lay the sources of values over each other, the strongest last."""
    values: Values = {section: {} for section in SECTIONS}
    if method:
        values["train"].update(method.card.train)
        values["method"].update(method_values(method, backbone, problems))
    _apply(values, _for_method(recipe, method), problems)
    if backbone:
        values["backbone"].update(backbone.values)
    if method:
        _apply(values, method.card.settings.get(method.preset or "", {}).items(), problems)
    if request.config_file:
        _apply(values, read_file(request.config_file, problems), problems)
    _apply(values, read_overrides(request.overrides, problems), problems)
    typed = {"amp": request.amp, "grad_checkpoint": request.grad_checkpoint}
    values["train"].update({name: value for name, value in typed.items() if value is not None})
    return values


def _for_method(
    recipe: Mapping[str, Any], method: Choice[MethodCard] | None
) -> Iterator[tuple[str, Any]]:
    """Yield a recipe's pairs, those of ``method.*`` only where the method has the field."""
    fields = method.card.config.model_fields if method else {}
    for path, value in recipe.items():
        section, _, field = path.partition(".")
        if section != "method" or field in fields:
            yield path, value


def method_values(
    method: Choice[MethodCard], backbone: Choice[BackboneCard] | None, problems: list[str]
) -> Mapping[str, Any]:
    """Return the values of the method's preset; those of ``published`` depend on the backbone."""
    if method.preset != PUBLISHED or backbone is None:
        return method.values
    setting = published_setting(method.card, backbone)
    if setting is not None:
        return setting.values
    problems.append(
        f"Method '{method.card.name}' has no published setting for backbone '{backbone.label}'; "
        f"it has one for {', '.join(method.card.published) or 'nothing'}."
    )
    return {}


def _apply(values: Values, pairs: Any, problems: list[str]) -> None:
    """Set ``section.field`` pairs, also of fields in a field; an unknown section is a problem."""
    for path, value in pairs:
        section, *fields = path.split(".")
        if section not in SECTIONS or not fields or not all(fields):
            problems.append(
                f"'{path}' names no setting: write SECTION.FIELD, where SECTION is one of "
                f"{', '.join(SECTIONS)}.{did_you_mean(section, SECTIONS)}"
            )
        else:
            values[section] = _with(values[section], fields, value)


def _with(values: Mapping[str, Any], fields: Sequence[str], value: Any) -> dict[str, Any]:
    """Return ``values`` with another value of a field, which may lie in a field."""
    field, *inner = fields
    if inner:
        held = values.get(field)
        value = _with(held if isinstance(held, Mapping) else {}, inner, value)
    return {**values, field: value}


def _section_classes(
    method: Choice[MethodCard] | None,
    task: Choice[TaskCard] | None,
    backbone: Choice[BackboneCard] | None,
) -> Iterator[tuple[str, type[Config]]]:
    for section, choice in (("method", method), ("task", task), ("backbone", backbone)):
        if choice:
            yield section, choice.card.config
    yield from (("train", TrainConfig), ("features", FeaturesConfig), ("memory", MemoryConfig))


def _scalar_problems(request: RunRequest) -> Iterator[str]:
    if request.seed < 0:
        yield f"--seed {request.seed}: a seed is 0 or more."
    if request.limit is not None and request.limit < 1:
        yield f"--limit {request.limit}: at least 1 row."
    problem = device_problem(request.device)
    if problem:
        yield problem


def device_problem(text: str) -> str | None:
    """Return one sentence where ``text`` is the name of no device, else None."""
    # PyTorch refuses a leading zero, and takes the index 300 for 44.
    if re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", text):
        return None
    return f"--device '{text}': write auto, cpu, cuda or cuda:INDEX, such as cuda:0."
