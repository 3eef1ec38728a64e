"""Scene graphs: what is where in an image, drawn deterministically from a seed."""

import colorsys
import zlib
from dataclasses import dataclass

import numpy as np

from tasks.scenes.domains import ColourRange, Domain, get_domain
from tasks.scenes.shapes import outline

IMAGE_SIZE = 64
MAX_OBJECTS = 4

RGB = tuple[int, int, int]

_MARGIN = 1.5  # free pixels at the border and between objects
_PLACEMENT_TRIES = 40
_MIN_CONTRAST = 90.0  # least RGB distance between an object and the background
_MAX_TILT = np.radians(14.0)


@dataclass(frozen=True)
class Background:
    """The ground that objects stand on.

    Attributes:
        style: `plain`, `gradient` or `noise`.
        start: Colour at the top.
        stop: Colour at the bottom (the same as `start` unless the style is `gradient`).
    """

    style: str
    start: RGB
    stop: RGB

    @property
    def tone(self) -> str:
        """`light`, `dark` or `middle`, by the mean brightness."""
        brightness = sum(self.start + self.stop) / 6.0
        return "light" if brightness > 165 else "dark" if brightness < 80 else "middle"


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene: words of its domain, and where it is drawn.

    Attributes:
        shape: Shape word.
        colour: Colour word.
        texture: Texture word.
        size: Size word.
        rgb: The colour drawn, a jittered member of the colour word's range.
        x: Horizontal centre in pixels.
        y: Vertical centre in pixels.
        radius: Radius of the circumscribed circle in pixels.
        angle: Clockwise tilt in radians.
    """

    shape: str
    colour: str
    texture: str
    size: str
    rgb: RGB
    x: float
    y: float
    radius: float
    angle: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The bounding box (left, top, right, bottom) in pixels."""
        corners = outline(self.shape, self.x, self.y, self.radius, self.angle)
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


@dataclass(frozen=True)
class Scene:
    """A scene graph; `(domain, seed, index)` determines all the rest."""

    domain: str
    seed: int
    index: int
    background: Background
    objects: tuple[SceneObject, ...]


def scene_generator(domain: str, seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """Returns the generator that belongs to one scene and one use of it.

    Args:
        domain: Name of the domain.
        seed: Seed of the world.
        index: Number of the scene in the world.
        stream: 0 draws the scene graph, 1 the pixels; others are free for language.

    Returns:
        A generator that depends on the four arguments alone.
    """
    key = (seed, zlib.crc32(domain.encode()), index, stream)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def draw_scene(
    domain: str, seed: int, index: int, object_counts: tuple[float, ...] | None = None
) -> Scene:
    """Draws one scene graph.

    Args:
        domain: Name of the domain, a key of `DOMAINS`.
        seed: Seed of the world, >= 0.
        index: Number of the scene in the world, >= 0.
        object_counts: Probability of a scene with 1, 2, 3 and 4 objects; the domain's by default.

    Returns:
        The scene, the same for the same arguments.

    Raises:
        UserError: If there is no such domain.
    """
    rules = get_domain(domain)
    generator = scene_generator(domain, seed, index)
    count = 1 + int(generator.choice(MAX_OBJECTS, p=object_counts or rules.object_counts))
    objects: list[SceneObject] = []
    for _ in range(count):
        objects.append(_draw_object(rules, objects, generator))
    background = _draw_background([thing.rgb for thing in objects], generator)
    return Scene(domain, seed, index, background, tuple(objects))


def _draw_object(
    rules: Domain, others: list[SceneObject], generator: np.random.Generator
) -> SceneObject:
    size = _pick(generator, tuple(rules.sizes))
    x, y, radius = _place(rules.sizes[size], others, generator)
    if radius < rules.sizes[size][0]:  # no room left: the smallest size, where it fits
        size = next(iter(rules.sizes))
    colour = _pick(generator, tuple(rules.colours))
    return SceneObject(
        shape=_pick(generator, rules.shapes),
        colour=colour,
        texture=_pick(generator, tuple(rules.textures)),
        size=size,
        rgb=_draw_rgb(rules.colours[colour], generator),
        x=x,
        y=y,
        radius=radius,
        angle=float(generator.uniform(-_MAX_TILT, _MAX_TILT)),
    )


def _place(
    radii: tuple[float, float], others: list[SceneObject], generator: np.random.Generator
) -> tuple[float, float, float]:
    radius = float(generator.uniform(*radii))
    for attempt in range(10 * _PLACEMENT_TRIES):
        if attempt == _PLACEMENT_TRIES:
            radius = 5.5
        low, high = radius + _MARGIN, IMAGE_SIZE - radius - _MARGIN
        x, y = (float(v) for v in generator.uniform(low, high, size=2))
        if all(
            (x - o.x) ** 2 + (y - o.y) ** 2 >= (radius + o.radius + _MARGIN) ** 2 for o in others
        ):
            return x, y, radius
    raise RuntimeError(f"no room for an object of radius {radius} beside {others}")


def _draw_rgb(colours: ColourRange, generator: np.random.Generator) -> RGB:
    hue, saturation, value = (
        float(generator.uniform(*limits))
        for limits in (colours.hue, colours.saturation, colours.value)
    )
    r, g, b = colorsys.hsv_to_rgb(hue / 360.0 % 1.0, saturation, value)
    return round(255 * r), round(255 * g), round(255 * b)


def _draw_background(colours: list[RGB], generator: np.random.Generator) -> Background:
    style = _pick(generator, ("plain", "plain", "gradient", "noise"))
    for _ in range(200):
        start = _draw_rgb(_background_range(generator), generator)
        shift = generator.integers(-35, 36, size=3) if style == "gradient" else np.zeros(3, int)
        r, g, b = (int(v) for v in np.clip(np.add(start, shift), 0, 255))
        stop = (r, g, b)
        if all(min(_distance(start, c), _distance(stop, c)) >= _MIN_CONTRAST for c in colours):
            break
    return Background(style, start, stop)


def _background_range(generator: np.random.Generator) -> ColourRange:
    kind = generator.random()
    if kind < 0.45:
        return ColourRange((0, 360), (0.0, 0.2), (0.85, 1.0))
    if kind < 0.7:
        return ColourRange((0, 360), (0.0, 0.6), (0.0, 0.25))
    return ColourRange((0, 360), (0.1, 0.7), (0.3, 0.95))


def _distance(a: RGB, b: RGB) -> float:
    return float(np.hypot(np.hypot(a[0] - b[0], a[1] - b[1]), a[2] - b[2]))


def _pick(generator: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(generator.integers(len(choices)))]
