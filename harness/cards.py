"""The three kinds of cards, and the three registries."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.registry import Card, Config, Registry

Requirement = Literal["taps", "in_place", "late_block"]
Direction = Literal["max", "min"]


class MethodCard(Card):
    """A method of transfer learning.

    Attributes:
        family: what the method does to the backbone. ``head``: nothing; ``side``: reads taps
            under ``no_grad``; ``peft``: changes blocks in place; ``full``: trains everything.
        requires: what a backbone must provide.
        backbone_gradients: whether the backward pass enters the backbone.
        train: defaults of ``train.*`` that belong to the method, such as its learning rate.
    """

    family: Literal["full", "head", "peft", "side"]
    requires: frozenset[Requirement] = frozenset()
    backbone_gradients: bool
    train: Mapping[str, Any] = Field(default_factory=dict)

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
    """

    streams: tuple[str, ...]
    modalities: tuple[Literal["image", "text", "video"], ...]
    provides: frozenset[Requirement]
    bundled: bool = False


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

    modalities: tuple[Literal["image", "text", "video"], ...]
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
