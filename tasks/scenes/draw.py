"""Drawing: a scene graph to pixels, with supersampling."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from tasks.scenes.domains import get_domain
from tasks.scenes.scene import IMAGE_SIZE, RGB, Background, Scene, SceneObject, scene_generator
from tasks.scenes.shapes import outline

_SCALE = 2  # supersampling factor
_CANVAS = _SCALE * IMAGE_SIZE
_PERIOD = 4 * _SCALE  # of every pattern, in canvas pixels
_PIXEL_STREAM = 1
_NOISE_LEVEL = 10.0  # standard deviation of the noisy background, in 8-bit steps


def render(scene: Scene) -> np.ndarray:
    """Draws a scene.

    Args:
        scene: The scene graph.

    Returns:
        The image, uint8 [64, 64, 3], RGB.
    """
    textures = get_domain(scene.domain).textures
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), scene.background.start)
    if scene.background.style != "plain":
        canvas.paste(_ground(scene))
    for thing in scene.objects:
        _draw_object(canvas, thing, textures[thing.texture])
    return np.asarray(canvas.reduce(_SCALE))


def _ground(scene: Scene) -> Image.Image:
    background: Background = scene.background
    rows = np.linspace(background.start, background.stop, IMAGE_SIZE)  # [H, 3]
    pixels = np.broadcast_to(rows[:, None], (IMAGE_SIZE, IMAGE_SIZE, 3))
    if background.style == "noise":
        generator = scene_generator(scene.domain, scene.seed, scene.index, _PIXEL_STREAM)
        grain = generator.standard_normal((IMAGE_SIZE, IMAGE_SIZE, 1), dtype=np.float32)
        pixels = pixels + _NOISE_LEVEL * grain
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image.resize((_CANVAS, _CANVAS), Image.Resampling.NEAREST)


def _draw_object(canvas: Image.Image, thing: SceneObject, pattern: str) -> None:
    x, y, radius = thing.x * _SCALE, thing.y * _SCALE, thing.radius * _SCALE
    corners = [tuple(p) for p in outline(thing.shape, x, y, radius, thing.angle).tolist()]
    if pattern == "outlined":
        ImageDraw.Draw(canvas).polygon(corners, outline=thing.rgb, width=2 * _SCALE)
        return
    ImageDraw.Draw(canvas).polygon(corners, fill=thing.rgb)
    if pattern == "solid":
        return
    mask = Image.new("L", canvas.size, 0)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    canvas.paste(_accent(thing.rgb), (0, 0), ImageChops.darker(mask, _PATTERNS[pattern]))


def _accent(rgb: RGB) -> RGB:
    """The second colour of a pattern: lighter for a dark colour, darker for a light one."""
    target = 255 if sum(rgb) < 330 else 0
    r, g, b = (round(0.45 * c + 0.55 * target) for c in rgb)
    return r, g, b


def _pattern(inside: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))


_ROW, _COLUMN = np.mgrid[0:_CANVAS, 0:_CANVAS] % _PERIOD
_HALF = _PERIOD // 2
_DIAGONAL = np.add(*np.mgrid[0:_CANVAS, 0:_CANVAS]) % _PERIOD

_PATTERNS = {
    "striped": _pattern(_ROW < _HALF),
    "dotted": _pattern((_ROW - _HALF + 0.5) ** 2 + (_COLUMN - _HALF + 0.5) ** 2 < 0.1 * _PERIOD**2),
    "checkered": _pattern((_ROW < _HALF) == (_COLUMN < _HALF)),
    "hatched": _pattern(_DIAGONAL < _HALF),
}
