"""Colours and words that stay the same in every figure and table.

The hues follow Okabe and Ito, "Color Universal Design", 2008: they stay apart for the common forms
of colour blindness. Categories of one kind share a hue and differ in lightness.
"""

import hashlib
from typing import Final

CATEGORY_COLOURS: Final = {
    "frozen_weights": "#0b3c6f",
    "quantized_weights": "#0072b2",
    "quantization_metadata": "#7fb8dd",
    "trainable_weights": "#009e73",
    "buffers": "#a6dcc9",
    "saved_backbone": "#b03a00",
    "saved_side": "#e69f00",
    "saved_head": "#f0e442",
    "gradients": "#cc79a7",
    "optimizer_state": "#7b3f6b",
    "inputs": "#c9c9c9",
    "temporaries": "#8a8a8a",
    "kernel_workspace": "#3d3d3d",
}

METHOD_COLOURS: Final = {
    "full": "#000000",
    "linear_probe": "#8a8a8a",
    "bitfit": "#a6761d",
    "prompt": "#f0e442",
    "adapter": "#56b4e9",
    "lora": "#0072b2",
    "side_tuning": "#cc79a7",
    "lst": "#009e73",
    "unipt": "#e69f00",
    "sherl": "#7b3f6b",
    "qst": "#66a61e",
    "mp_ismoe": "#d55e00",
}
OTHER_METHODS: Final = ("#117733", "#882255", "#332288", "#999933", "#44aa99")


def method_colour(name: str) -> str:
    """Return the colour of a method; a method that is not listed always gets the same one too."""
    if name in METHOD_COLOURS:
        return METHOD_COLOURS[name]
    return OTHER_METHODS[hashlib.sha256(name.encode()).digest()[0] % len(OTHER_METHODS)]


def words(name: str) -> str:
    """Return ``"saved side"`` for ``"saved_side"``."""
    return printable(name).replace("_", " ")


def printable(text: str) -> str:
    """Return ``text`` on one line, with what a terminal or a figure cannot show replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
