"""Types of the peft library, injected into the blocks of a backbone and never merged."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamSpec
from harness.errors import UserError
from harness.registry import Config
from harness.values import has_values
from methods.base import InPlaceMethod
from methods.peft import PeftConfig
from methods.peft.types import MADE_OF_WEIGHTS, NORM_TYPES

ROLES = ("query", "key", "value", "output")  # of an attention's layers


class Peft(InPlaceMethod):
    """One type in the layers of all needed streams' blocks.

    The library wraps each layer: what it adds trains, and the layer itself stays as it is.
    Where it multiplies by a plain number, autograd keeps a small tensor that no tracker sees: some
    types have a few hundred bytes of kernel workspace on a CPU, where others have at most 64.

    Args:
        config: a ``PeftConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.

    Raises:
        UserError: the library refuses the settings or the layers, or it would rewrite the frozen
            weights, which a saved adaptation could not bring back.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, PeftConfig)
        backbone.requires_grad_(False)
        sites = self._sites(config)
        self.require_sites(sites, "norms" if config.type in NORM_TYPES else "linear layers")
        if config.type in MADE_OF_WEIGHTS and next(backbone.parameters()).is_meta:
            raise UserError(
                f"peft's {config.type} makes its layers from the weights' values, so that it "
                f"cannot be counted without them; a run counts it."
            )
        before = _fingerprints(backbone, sites)
        wrappers = _inject(config, backbone, sites)
        if before != _fingerprints(backbone, [f"{site}.base_layer" for site in sites]):
            raise UserError(
                f"method.settings={config.settings}: with these, peft's {config.type} rewrites the "
                f"frozen weights of the layers that it changes, and an adaptation could not be "
                f"loaded again; choose another initialisation."
            )
        for wrapper in wrappers:
            _adopt(wrapper)
        self.wrappers = wrappers
        self.trained = [p for p in self.inserted() if p.requires_grad]

    def _sites(self, config: PeftConfig) -> dict[str, str]:
        """Return what each layer that changes is in its block, by the layer's name."""
        if config.type in NORM_TYPES:
            names = (name for spec in self.specs for name in self.backbone.norms(spec.name))
            return dict.fromkeys(names, "norm")
        layers = (layer for spec in self.specs for layer in _linear_layers(self.backbone, spec))
        return {name: role for name, role in layers if role in config.targets}

    def inserted(self) -> Sequence[nn.Parameter]:
        """Return all parameters that the library added."""
        return [t for t in self._added().values() if isinstance(t, nn.Parameter)]

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return those of them that train."""
        return {"adapters": self.trained}

    def extra_state(self) -> dict[str, Tensor]:
        """Return what the library drew or computed and does not train, such as random bases."""
        return {n: t.detach() for n, t in self._added().items() if not t.requires_grad}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore it."""
        added = self._added()
        with torch.no_grad():
            for name, value in state.items():
                added[name].copy_(value)

    def _added(self) -> dict[str, Tensor]:
        """Return the tensors of the wrappers beside the wrapped layers, a shared one once."""
        found: dict[int, tuple[str, Tensor]] = {}
        for number, wrapper in enumerate(self.wrappers):
            tensors = (*wrapper.named_parameters(), *wrapper.named_buffers())
            for name, tensor in tensors:
                if not name.startswith("base_layer."):
                    found.setdefault(id(tensor), (f"{number}.{name}", tensor))
        return dict(found.values())


def _linear_layers(backbone: Backbone, spec: StreamSpec) -> Iterator[tuple[str, str]]:
    """Yield the linear layers of a stream's blocks that have a role there, with the role."""
    attentions = [
        (getattr(a, role), role) for a in backbone.attentions(spec.name) for role in ROLES
    ]
    yield from attentions
    names = {name for name, _ in attentions}
    widths = {(spec.width, spec.ffn_width): "up", (spec.ffn_width, spec.width): "down"}
    for block in backbone.blocks(spec.name):
        for name, module in backbone.get_submodule(block).named_modules(prefix=block):
            if isinstance(module, nn.Linear) and name not in names:
                role = widths.get((module.in_features, module.out_features))
                if role:
                    yield name, role


def _inject(config: PeftConfig, backbone: Backbone, sites: Mapping[str, str]) -> list[nn.Module]:
    """Let the library wrap some layers, and return the wrappers in the order of the sites."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    from methods.peft.settings import library_config

    # Without an attribute config, of which the library would think that it is of transformers.
    host = nn.ModuleDict({"backbone": backbone})
    endings = _endings(sites, host)
    down = [ending for site, ending in endings.items() if sites[site] == "down"]
    settings = library_config(config, list(endings.values()), down)
    tuner = PEFT_TYPE_TO_TUNER_MAPPING[settings.peft_type]
    try:
        tuner(host, settings, adapter_name="default")
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UserError(
            f"peft's {config.type} refuses {type(backbone).__name__} with "
            f"method.settings={config.settings}: {error}"
        ) from error
    return [backbone.get_submodule(site) for site in sites]


def _endings(sites: Iterable[str], host: nn.Module) -> dict[str, str]:
    """Return for each site the shortest ending of its name that no other module's name has.

    Types that share weights group layers by these endings: all queries by ``query``.
    """
    named = [f"backbone.{site}" for site in sites]
    every = Counter(ending for name, _ in host.named_modules() for ending in _suffixes(name))
    ours = Counter(ending for name in named for ending in _suffixes(name))
    return {
        site: next(ending for ending in _suffixes(name) if every[ending] == ours[ending])
        for site, name in zip(sites, named, strict=True)
    }


def _suffixes(name: str) -> Iterator[str]:
    """Yield ``c``, ``b.c`` and ``a.b.c`` of ``a.b.c``."""
    parts = name.split(".")
    return (".".join(parts[-length:]) for length in range(1, len(parts) + 1))


def _adopt(wrapper: Any) -> None:
    """Charge what a wrapper saves to the side, and hold its tensors where a module holds its own.

    The library keeps some, such as the places of sparse weights, in plain dictionaries, which
    neither move to a device nor are counted or saved.
    """
    from peft.tuners._buffer_dict import BufferDict

    wrapper.memory_region = "side"
    wrapper.get_submodule("base_layer").memory_region = "backbone"
    for name, value in list(vars(wrapper).items()):
        if name.startswith("_") or not isinstance(value, dict) or not value:
            continue
        if all(isinstance(tensor, Tensor) for tensor in value.values()):
            setattr(wrapper, name, BufferDict(value))


def _fingerprints(backbone: Backbone, names: Iterable[str]) -> list[int]:
    """Return a hash of the parameters of some modules; of none without values."""
    parameters = (p for name in names for p in backbone.get_submodule(name).parameters())
    known = (p.detach() for p in parameters if has_values(p))
    return [int(torch.hash_tensor(p).view(torch.int64)) for p in known]
