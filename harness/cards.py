"""The three kinds of cards, and the three registries."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

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


class MethodCard(Card):
    """A method of transfer learning.

    Attributes:
        family: what the method does to the backbone. ``head``: nothing; ``side``: reads taps
            under ``no_grad``; ``peft``: changes blocks in place; ``full``: trains everything.
        requires: what a backbone must provide.
        backbone_gradients: whether the backward pass enters the backbone; a side method that
            requires ``late_block`` crosses that block alone and says no.
        train: defaults of ``train.*`` that belong to the method, such as its learning rate.
        settings: by preset, ``section.field`` of other sections that belong to it, for instance
            ``{"qlora": {"backbone.quantize": "nf4"}}``.
        published: by backbone, the setting that ``method@published`` stands for there.
    """

    family: Literal["full", "head", "peft", "side"]
    requires: frozenset[Requirement] = frozenset()
    backbone_gradients: bool
    train: Mapping[str, Any] = Field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    published: Mapping[str, Published] = Field(default_factory=dict)

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

    @property
    def frozen_backbone(self) -> bool:
        """Whether the backbone's outputs depend on nothing that is trained."""
        return self.family in ("head", "side") and not self.backbone_gradients


class BackboneCard(Card):
    """A pretrained model.

    Attributes:
        streams: names of the streams, in the order in which they are encoded.
        modalities: what the backbone reads.
        provides: what methods may ask of it.
        bundled: whether its weights come with the package.
        weights: where each preset's pretrained weights are found: a model hub's name, or
            ``package:NAME/FOLDER`` in an installed package, which is the preset's default.
    """

    streams: tuple[str, ...]
    modalities: tuple[Modality, ...]
    provides: frozenset[Requirement]
    bundled: bool = False
    weights: Mapping[str, str] = Field(default_factory=dict)

    def packaged_weights(self, preset: str | None) -> str | None:
        """Return a preset's weights where a package holds them."""
        origin = self.weights.get(preset or "")
        return origin if origin and origin.startswith(PACKAGE) else None


class DatasetCard(Config):
    """One dataset of a task, and where it comes from."""

    name: str
    summary: str
    source: Literal["bundled", "package", "folder", "hub"]
    licence: str
    origin: str


class TaskCard(Card):
    """A task: data, head, loss and metrics.

    Attributes:
        modalities: what a backbone must read.
        metrics: direction of every metric.
        primary: the metric that selects the best epoch.
        datasets: by name; the first is the default.
        recipes: values of ``task.*`` and ``train.*`` by recipe name, for instance
            ``{"quick": {"train.epochs": 3}}``; ``default`` must be among them.
        backbone: the default backbone.
    """

    modalities: tuple[Modality, ...]
    metrics: Mapping[str, Direction]
    primary: str
    datasets: tuple[DatasetCard, ...]
    recipes: Mapping[str, Mapping[str, Any]]
    backbone: str

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
        return self


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


def published_setting(method: MethodCard, backbone: Choice[BackboneCard]) -> Published | None:
    """Return the method's published setting on a backbone, None where there is none."""
    for name, setting in method.published.items():
        if BACKBONES.choose(name) == backbone:
            return setting
    return None
