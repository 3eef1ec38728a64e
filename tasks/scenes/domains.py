"""The domains of the world: which colours, shapes, textures and words a scene may use.

What `shifted` uses is held out of `pretrain`, word for word, so that a model pretrained on the one
has to be adapted to the other. `mixed` is nearer: what `pretrain` knows, and beside it a third of
the colours, half of the shapes and a texture of `shifted`.
"""

from dataclasses import dataclass, replace

from harness.errors import UserError


@dataclass(frozen=True)
class ColourRange:
    """A box in HSV space that one colour word covers.

    Attributes:
        hue: Lowest and highest hue in degrees; the lowest may be negative (a range across red).
        saturation: Lowest and highest saturation in [0, 1].
        value: Lowest and highest value (brightness) in [0, 1].
    """

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]


@dataclass(frozen=True)
class Domain:
    """One domain of the world.

    Attributes:
        name: The domain's name, part of every scene's seed.
        colours: Colour words with the range of colours that each covers.
        shapes: Shape words; `shapes.UNIT_OUTLINES` holds their outlines.
        textures: Texture words with the pattern that each is drawn with.
        sizes: Size words, in increasing order, with lowest and highest radius in pixels.
        relations: The four relation words: left, right, above, below.
        nouns: Words for any object, singular.
        object_counts: Probability of a scene with 1, 2, 3 and 4 objects.
        question_weights: Relative frequency of every question type.
    """

    name: str
    colours: dict[str, ColourRange]
    shapes: tuple[str, ...]
    textures: dict[str, str]
    sizes: dict[str, tuple[float, float]]
    relations: tuple[str, str, str, str]
    nouns: tuple[str, ...]
    object_counts: tuple[float, float, float, float]
    question_weights: dict[str, float]


PRETRAIN = Domain(
    name="pretrain",
    colours={
        "red": ColourRange((-10, 10), (0.75, 1.0), (0.65, 1.0)),
        "orange": ColourRange((20, 38), (0.8, 1.0), (0.88, 1.0)),
        "yellow": ColourRange((49, 62), (0.7, 1.0), (0.85, 1.0)),
        "green": ColourRange((92, 150), (0.6, 1.0), (0.4, 0.95)),
        "teal": ColourRange((173, 188), (0.7, 1.0), (0.35, 0.62)),
        "cyan": ColourRange((176, 192), (0.55, 1.0), (0.82, 1.0)),
        "blue": ColourRange((210, 245), (0.7, 1.0), (0.6, 1.0)),
        "purple": ColourRange((270, 294), (0.6, 1.0), (0.45, 0.9)),
        "magenta": ColourRange((300, 316), (0.75, 1.0), (0.8, 1.0)),
        "pink": ColourRange((318, 346), (0.3, 0.6), (0.9, 1.0)),
        "brown": ColourRange((8, 30), (0.55, 0.85), (0.35, 0.62)),
        "black": ColourRange((0, 360), (0.0, 0.6), (0.0, 0.12)),
        "gray": ColourRange((0, 360), (0.0, 0.08), (0.4, 0.66)),
        "white": ColourRange((0, 360), (0.0, 0.06), (0.94, 1.0)),
    },
    shapes=(
        "circle",
        "square",
        "triangle",
        "rectangle",
        "oval",
        "diamond",
        "star",
        "cross",
        "pentagon",
        "heart",
    ),
    textures={"solid": "solid", "striped": "striped", "dotted": "dotted", "outlined": "outlined"},
    sizes={"small": (5.0, 7.0), "medium": (8.5, 10.5), "large": (12.5, 16.0)},
    relations=("left of", "right of", "above", "below"),
    nouns=("shape", "figure"),
    object_counts=(0.25, 0.3, 0.27, 0.18),
    question_weights={
        "exist": 3.0,
        "colour": 3.0,
        "shape": 3.0,
        "size": 1.0,
        "texture": 1.0,
        "count": 1.0,
        "position": 1.0,
        "relation": 2.0,
        "compare": 1.0,
        "logic": 1.0,
    },
)

SHIFTED = Domain(
    name="shifted",
    colours={
        "maroon": ColourRange((338, 356), (0.7, 1.0), (0.3, 0.5)),
        "crimson": ColourRange((336, 347), (0.8, 1.0), (0.62, 0.8)),
        "salmon": ColourRange((4, 16), (0.42, 0.62), (0.9, 1.0)),
        "scarlet": ColourRange((12, 18), (0.85, 1.0), (0.85, 1.0)),
        "rust": ColourRange((12, 20), (0.9, 1.0), (0.45, 0.6)),
        "apricot": ColourRange((24, 34), (0.3, 0.5), (0.92, 1.0)),
        "gold": ColourRange((40, 47), (0.8, 1.0), (0.72, 0.85)),
        "olive": ColourRange((56, 72), (0.6, 1.0), (0.35, 0.55)),
        "lime": ColourRange((72, 88), (0.75, 1.0), (0.85, 1.0)),
        "fern": ColourRange((100, 116), (0.35, 0.55), (0.45, 0.6)),
        "mint": ColourRange((140, 156), (0.25, 0.45), (0.85, 1.0)),
        "emerald": ColourRange((152, 158), (0.75, 1.0), (0.55, 0.72)),
        "turquoise": ColourRange((160, 170), (0.6, 0.9), (0.78, 0.95)),
        "azure": ColourRange((196, 207), (0.55, 0.8), (0.85, 1.0)),
        "steel": ColourRange((204, 216), (0.3, 0.5), (0.5, 0.66)),
        "navy": ColourRange((225, 245), (0.7, 1.0), (0.25, 0.45)),
        "violet": ColourRange((250, 266), (0.6, 0.9), (0.65, 0.95)),
        "lavender": ColourRange((248, 275), (0.2, 0.38), (0.85, 1.0)),
        "plum": ColourRange((286, 300), (0.35, 0.55), (0.45, 0.6)),
        "orchid": ColourRange((296, 308), (0.4, 0.55), (0.8, 0.92)),
        "raspberry": ColourRange((324, 334), (0.75, 1.0), (0.68, 0.86)),
    },
    shapes=("hexagon", "arrow", "trapezoid", "crescent", "semicircle", "chevron", "bolt", "kite"),
    textures={"plain": "solid", "checkered": "checkered", "hatched": "hatched"},
    sizes={"tiny": (5.5, 6.5), "modest": (7.5, 8.5), "hefty": (9.5, 11.0), "huge": (12.5, 14.5)},
    relations=("west of", "east of", "over", "beneath"),
    nouns=("object", "item"),
    object_counts=(0.9, 0.1, 0.0, 0.0),
    question_weights={
        "exist": 0.25,
        "colour": 6.0,
        "shape": 6.0,
        "size": 0.25,
        "texture": 0.25,
        "count": 0.1,
        "position": 0.0,
        "relation": 0.5,
        "compare": 0.5,
        "logic": 0.05,
    },
)

MIXED = replace(
    PRETRAIN,
    name="mixed",
    colours=PRETRAIN.colours | dict(list(SHIFTED.colours.items())[::3]),
    shapes=PRETRAIN.shapes + SHIFTED.shapes[:4],
    textures={**PRETRAIN.textures, "checkered": "checkered"},
)

DOMAINS = {domain.name: domain for domain in (PRETRAIN, MIXED, SHIFTED)}


def get_domain(name: str) -> Domain:
    """Returns the domain of that name.

    Args:
        name: A key of `DOMAINS`.

    Returns:
        The domain.

    Raises:
        UserError: If there is no such domain.
    """
    if name not in DOMAINS:
        raise UserError(f"there is no domain {name!r}; the domains are {', '.join(DOMAINS)}")
    return DOMAINS[name]
