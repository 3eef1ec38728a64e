"""The words of a memory report: categories of bytes, phases of a run, regions of a model."""

from typing import Final

REGIONS: Final = ("backbone", "side", "head")
"""Who keeps an activation: the first of these that holds it is charged for it."""

SAVED: Final = {region: f"saved_{region}" for region in REGIONS}
"""Region -> the category of what autograd saves while a module of that region executes."""

CATEGORIES: Final = (
    "frozen_weights",
    "quantized_weights",
    "quantization_metadata",
    "trainable_weights",
    "buffers",
    *SAVED.values(),
    "gradients",
    "optimizer_state",
    "inputs",
    "temporaries",
    "kernel_workspace",
)
"""Every byte at the peak belongs to exactly one of these.

``kernel_workspace`` is what the allocator handed out and no visible tensor accounts for.
"""

PHASES: Final = (
    "load",
    "init",
    "requantize",
    "forward",
    "backward",
    "optimizer",
    "eval",
    "inference",
)
"""In the order of a run."""

TRAIN_PHASES: Final = ("forward", "backward", "optimizer")
"""The phases whose highest peak is the training peak."""

PRIORITY: Final = {
    "trainable_weights": 9,
    "quantized_weights": 8,
    "quantization_metadata": 8,
    "frozen_weights": 7,
    "buffers": 6,
    "optimizer_state": 5,
    "gradients": 4,
    "inputs": 3,
    **dict.fromkeys(SAVED.values(), 2),
    "temporaries": 1,
    "kernel_workspace": 0,
}
"""A storage that plays several parts is charged to the one with the highest number."""
