"""The three kinds of cards, and the three registries."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.costs import Cost
from harness.registry import Card, Choice, Config, Registry

Requirement = Literal["taps", "in_place", "late_block", "prompt", "generation", "embedding"]
Direction = Literal["max", "min"]
Modality = Literal["image", "text", "video", "target"]

PUBLISHED = "published"
LOW_BIT = "methods.quantization.backbone:LowBitBackbone"  # of backbone.quantize
PACKAGE = "package:"  # starts the name of weights that an installed package holds


class Published(Config):
    """A method's setting on one backbone as its source has it.

    Attributes:
        values: fields of the method's configuration.
        trainable: the trainable parameters as the MP-ISMoE paper's tables print them, ``"1.74 %"``
            of the backbone or ``"12.4 M"``; None where they have no such row.
        note: why our count is another one, where it is.
    """

    values: Mapping[str, Any] = Field(default_factory=dict)
    trainable: str | None = None
    note: str = ""


class Reading(Config):
    """What a source leaves open, and how it is read here.

    Attributes:
        place: equation, figure or section of the source.
        question: what is open there.
        taken: the reading that is the default, and why.
        fields: of the method's configuration, which hold this reading and its alternatives.
    """

    place: str
    question: str
    taken: str
    fields: tuple[str, ...] = ()


class Growth(Config):
    """What makes a method larger, for ``--fill-budget auto``.

    Attributes:
        field: a whole number of the method's configuration, or null where another one stands in.
        rising: whether capacity rises with it; else it falls, down to 1.
        step: rising values that are not configured are multiples of it.
    """

    field: str
    rising: bool = True
    step: int = Field(default=1, ge=1)


class MethodCard(Card):
    """A method of transfer learning.

    Attributes:
        family: what the method does to the backbone. ``head``: nothing; ``side``: reads taps
            under ``no_grad``; ``peft``: changes blocks in place; ``full``: trains everything.
        requires: what a backbone must provide.
        backbone_gradients: whether the backward pass enters the backbone; a side method that
            requires ``late_block`` crosses that block alone and says no.
        train: defaults of ``train.*`` that belong to the method, such as its learning rate.
        rates: lowest and highest learning rate that ``compare --tune`` looks at.
        settings: by preset, ``section.field`` of other sections that belong to it, for instance
            ``{"qlora": {"backbone.quantize": "nf4"}}``.
        full_precision: whether it needs the weights of the blocks as they were trained, so that a
            backbone which was quantised before cannot carry it.
        modalities: what the task's rows must hold.
        package: a package beyond the required ones, which the extra of that name installs.
        published: by backbone, the setting that ``method@published`` stands for there.
        grows: what adds capacity; None where nothing does.
        trains: what the method trains, as a sentence.
        gradient: where the gradient flows, beyond what ``backbone_gradients`` says.
        cost: trainable parameters and saved activations, as formulas.
        official: the sources' settings, by task and backbone.
        deviations: what is done otherwise than in the source, a sentence each.
        readings: what the source leaves open.
    """

    family: Literal["full", "head", "peft", "side"]
    requires: frozenset[Requirement] = frozenset()
    backbone_gradients: bool
    train: Mapping[str, Any] = Field(default_factory=dict)
    rates: tuple[float, float] = (1e-4, 1e-2)
    settings: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    full_precision: bool = False
    modalities: tuple[Modality, ...] = ()
    package: str | None = None
    published: Mapping[str, Published] = Field(default_factory=dict)
    grows: Growth | None = None
    trains: str = ""
    gradient: str = ""
    cost: Cost | None = None
    official: Mapping[str, str] = Field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """The presets, and ``published`` where some backbone has a published setting."""
        return {**self.presets, **({PUBLISHED: {}} if self.published else {})}

    @model_validator(mode="after")
    def _check_settings(self) -> "MethodCard":
        strange = sorted(set(self.settings) - set(self.presets))
        if strange:
            raise ValueError(f"settings are of presets {strange}, which there are not")
        return self

    @model_validator(mode="after")
    def _check_fields(self) -> "MethodCard":
        named = {field for reading in self.readings for field in reading.fields}
        if self.grows is not None:
            named.add(self.grows.field)
        if self.cost is not None:
            named |= {s.field for s in self.cost.symbols.values() if s.field is not None}
        strange = sorted(named - set(self.config.model_fields))
        if strange:
            raise ValueError(f"cost, growth or readings name fields {strange}, which there are not")
        return self

    @property
    def frozen_backbone(self) -> bool:
        """Whether the backbone's outputs depend on nothing that is trained."""
        return self.family in ("head", "side") and not self.backbone_gradients


class PaperStep(Config):
    """One training step of the task that the papers adapt a backbone to.

    Attributes:
        task: name of that task here, whose defaults hold.
        dataset: one of its datasets.
        recipe: one of its recipes.
        batch_size: rows of a step on one GPU.
        source_length: tokens of a text that is read.
        target_length: tokens of a text that is written.
        frames: images of a row.
        gpus: over how many of them published memory is summed.
        note: why a prediction and the published memory differ, as far as it is known.
    """

    task: str
    dataset: str | None = None
    recipe: str | None = None
    batch_size: int = Field(ge=1)
    source_length: int = Field(default=32, ge=1)
    target_length: int = Field(default=8, ge=1)
    frames: int = Field(default=1, ge=1)
    gpus: int = Field(default=1, ge=1)
    note: str = ""


class BackboneCard(Card):
    """A pretrained model.

    Attributes:
        streams: names of the streams, in the order in which they are encoded.
        modalities: what the backbone reads.
        provides: what methods may ask of it.
        bundled: whether its weights come with the package.
        weights: where each preset's pretrained weights are found: a model hub's name, or
            ``package:NAME/FOLDER`` in an installed package, which is the preset's default.
        paper: the training step for which memory is predicted.
    """

    streams: tuple[str, ...]
    modalities: tuple[Modality, ...]
    provides: frozenset[Requirement]
    bundled: bool = False
    weights: Mapping[str, str] = Field(default_factory=dict)
    paper: PaperStep

    def packaged_weights(self, preset: str | None) -> str | None:
        """Return a preset's weights where a package holds them."""
        origin = self.weights.get(preset or "")
        return origin if origin and origin.startswith(PACKAGE) else None


class DatasetCard(Config):
    """One dataset of a task, and where it comes from.

    Attributes:
        folder: the name that its folder usually has; None for the dataset's own.
        part: whether it is a part of a dataset: never ranked, nor put beside published numbers.
        recipes: by name, what a recipe of the task sets otherwise on this dataset.
    """

    name: str
    summary: str
    source: Literal["bundled", "package", "folder", "hub"]
    licence: str
    origin: str
    folder: str | None = None
    part: bool = False
    recipes: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)


class TaskCard(Card):
    """A task: data, head, loss and metrics.

    Attributes:
        modalities: what a backbone must read.
        metrics: direction of every metric.
        primary: the metric that selects the best epoch.
        datasets: by name; the first is the default.
        recipes: values of ``task.*`` and ``train.*`` by recipe name, and of ``method.*`` for the
            methods that have such a field, for instance
            ``{"quick": {"train.epochs": 3}}``; ``default`` must be among them.
        backbone: the default backbone.
        groups: the names under which several tasks may be asked for.
    """

    modalities: tuple[Modality, ...]
    metrics: Mapping[str, Direction]
    primary: str
    datasets: tuple[DatasetCard, ...]
    recipes: Mapping[str, Mapping[str, Any]]
    backbone: str
    groups: tuple[str, ...] = ()

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """A task's variants are its recipes: ``vqa@full``."""
        return self.recipes

    @model_validator(mode="after")
    def _check(self) -> "TaskCard":
        if self.primary not in self.metrics:
            raise ValueError(f"primary metric '{self.primary}' is not among {list(self.metrics)}")
        if "default" not in self.recipes:
            raise ValueError("recipes must hold 'default'")
        for dataset in self.datasets:
            if strange := sorted(set(dataset.recipes) - set(self.recipes)):
                raise ValueError(f"dataset '{dataset.name}' changes unknown recipes {strange}")
        return self

    def recipe(self, name: str, dataset: str) -> dict[str, Any]:
        """Return the values of a recipe on a dataset."""
        card = next(card for card in self.datasets if card.name == dataset)
        return {**self.recipes[name], **card.recipes.get(name, {})}


METHODS: Registry[MethodCard] = Registry(
    "method", "methods", "metl.methods", MethodCard, "model.py", "methods.base:Method"
)
TASKS: Registry[TaskCard] = Registry(
    "task", "tasks", "metl.tasks", TaskCard, "task.py", "tasks.base:Task"
)
BACKBONES: Registry[BackboneCard] = Registry(
    "backbone",
    "harness.backbones",
    "metl.backbones",
    BackboneCard,
    "model.py",
    "harness.backbones.base:Backbone",
)


ALL = "all"
"""The group of every method, and of every task."""


def task_groups() -> dict[str, tuple[str, ...]]:
    """Return the tasks of every group; ``all`` holds each."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in TASKS.names():
        for group in TASKS.card(name).groups:
            groups[group] = (*groups.get(group, ()), name)
    return {**groups, ALL: tuple(TASKS.names())}


def published_setting(method: MethodCard, backbone: Choice[BackboneCard]) -> Published | None:
    """Return the method's published setting on a backbone, None where there is none."""
    for name, setting in method.published.items():
        if BACKBONES.choose(name) == backbone:
            return setting
    return None
