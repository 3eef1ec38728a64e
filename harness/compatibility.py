"""What goes with what: said before anything is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec

from harness.backbones.quantize import QuantizeConfig
from harness.cards import BackboneCard, MethodCard, TaskCard
from harness.registry import Choice, Config

OPTIMIZER_PACKAGES: Mapping[str, str] = {"adamw_8bit": "torchao", "galore": "pytorch_optimizer"}
"""The packages beyond the required ones, by the optimizer that needs them."""


def incompatibilities(
    method: Choice[MethodCard] | None,
    task: Choice[TaskCard] | None,
    backbone: Choice[BackboneCard] | None,
) -> Iterator[str]:
    """Yield why method, task and backbone do not go together, before anything is loaded."""
    if method and task:
        unasked = [m for m in method.card.modalities if m not in task.card.modalities]
        if unasked:
            yield (
                f"Method '{method.card.name}' needs a task on {_join(unasked)}; the rows of "
                f"'{task.card.name}' hold {_join(list(task.card.modalities))}."
            )
    if backbone is None:
        return
    name = backbone.label
    if method:
        missing = sorted(method.card.requires - backbone.card.provides)
        if missing:
            yield (
                f"Method '{method.card.name}' needs {_join(missing)}, which backbone '{name}' "
                f"does not provide (it provides {_join(sorted(backbone.card.provides))})."
            )
    if task:
        unread = [m for m in task.card.modalities if m not in backbone.card.modalities]
        if unread:
            yield (
                f"Task '{task.card.name}' needs a backbone that reads {_join(unread)}; '{name}' "
                f"reads {_join(list(backbone.card.modalities))}."
            )


def nothing_to_recompute(method: Choice[MethodCard] | None, grad_checkpoint: bool) -> Iterator[str]:
    """Yield why gradient checkpointing is of no use to a method."""
    if method and grad_checkpoint and not method.card.backbone_gradients:
        yield (
            f"train.grad_checkpoint=true: no backward pass of method '{method.card.name}' runs "
            f"through the backbone's blocks, so nothing is saved there; leave it out."
        )


def unquantizable(
    method: Choice[MethodCard] | None, config: Config | None, quantize: QuantizeConfig | None
) -> Iterator[str]:
    """Yield why a method cannot go with a backbone that is quantised before it."""
    if method is None or quantize is None or quantize.quantize == "none":
        return
    name, asked = method.card.name, f"backbone.quantize={quantize.quantize}"
    if method.card.full_precision:
        yield (
            f"{asked}: method '{name}' needs the blocks' weights in full precision, and low-bit "
            f"weights are codes; choose another method, for instance lora."
        )
    elif getattr(config, "quantizes", False):
        yield (
            f"{asked}: method '{name}' quantises the backbone itself, by method.bits and "
            f"method.embedding_bits; leave one of the two out (mp_ismoe@ismoe has none of its own)."
        )


def missing_packages(optimizer: str) -> Iterator[str]:
    """Yield what must be installed for an optimizer."""
    package = OPTIMIZER_PACKAGES.get(optimizer)
    if package and find_spec(package) is None:
        yield (
            f"train.optimizer={optimizer} needs the package '{package}', which is not installed; "
            f"run: pip install 'metl-harness[optimizers]'"
        )


def missing_method_package(method: Choice[MethodCard] | None) -> Iterator[str]:
    """Yield what must be installed for a method."""
    package = method.card.package if method else None
    if method and package and find_spec(package) is None:
        yield (
            f"Method '{method.label}' needs the package '{package}', which is not installed; "
            f"run: pip install 'metl-harness[{package}]'"
        )


def _join(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
