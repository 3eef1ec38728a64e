"""The types of the peft library: those that can be injected, and why the others cannot."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

PeftType = Literal[
    "adamss",
    "beft",
    "boft",
    "c3a",
    "deft",
    "delora",
    "fourierft",
    "frod",
    "glora",
    "gralora",
    "hira",
    "hra",
    "ia3",
    "lily",
    "ln_tuning",
    "loha",
    "lokr",
    "lora",
    "miss",
    "oft",
    "osf",
    "peanut",
    "psoft",
    "pvera",
    "randlora",
    "road",
    "shira",
    "supertuning",
    "tinylora",
    "unilora",
    "vblora",
    "vera",
    "waveft",
]
"""The types that work on injected layers, by the names that peft registers."""

NORM_TYPES = frozenset({"ln_tuning"})
"""The types that change norms and not linear layers."""

READS_VALUES = ("frod", "loha", "lokr", "shira", "vblora", "waveft")
"""The types whose steps look at values or are sparse, so that fake tensors cannot predict them."""

MADE_OF_WEIGHTS = frozenset({"adamss", "boft", "frod", "shira", "unilora"})
"""The types whose layers are made from numbers, and not built from shapes alone."""

_PROMPT = "it puts trained vectors before the input of a whole PreTrainedModel"

REFUSED: Mapping[str, str] = {
    "adalora": "it moves ranks between layers after every optimizer step, in a loop of its own",
    "adaption_prompt": "it rewrites the attention of a whole PreTrainedModel",
    "cartridge": _PROMPT,
    "cpt": _PROMPT,
    "multitask_prompt_tuning": _PROMPT,
    "p_tuning": _PROMPT,
    "poly": "it mixes skills by the number of the task, which every call would have to give",
    "prefix_tuning": _PROMPT,
    "prompt_tuning": f"{_PROMPT} (method 'prompt' does that on every backbone)",
    "shadow": "it wraps the decoder of a whole PreTrainedModel and adds a loss of its own",
    "trainable_tokens": "it trains chosen rows of an embedding and changes no block",
    "xlora": "it weighs several LoRA adapters that were trained before",
}
"""The types that cannot, with the reason."""

_VALUES: Mapping[str, Mapping[str, Any]] = {
    "c3a": {"settings": {"block_size": 32}},
    "fourierft": {"settings": {"init_weights": True}},
    "frod": {"settings": {"progressbar": False}},
    "ia3": {"targets": ("key", "value", "down")},
    "miss": {"settings": {"r": 32}},
    "road": {"settings": {"group_size": 32}},
    "shira": {"settings": {"r": 8}},
    "vblora": {"settings": {"vector_length": 32}},
    "waveft": {"settings": {"n_frequency": 512}},
}
"""What is not peft's default: a source's sites, sizes that fit every width, a still start."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    kind: {"type": kind, **_VALUES.get(kind, {})} for kind in get_args(PeftType)
}
"""What ``peft:TYPE`` stands for."""
