"""Short clips: a scene in which one object moves, and a caption that says how."""

from dataclasses import dataclass, replace

import numpy as np

from tasks.scenes.draw import render
from tasks.scenes.language import choose
from tasks.scenes.scene import IMAGE_SIZE, Scene, SceneObject, draw_scene, scene_generator

FRAMES = 4
MOTIONS = {
    "to the left": (-1, 0),
    "to the right": (1, 0),
    "upwards": (0, -1),
    "downwards": (0, 1),
    "nowhere": (0, 0),
}
OBJECT_COUNTS = (0.5, 0.5, 0.0, 0.0)
_CLIP_STREAM = 40
_STEP = 7.0  # pixels between two frames
_MARGIN = 1.0


@dataclass(frozen=True)
class Clip:
    """A clip: the scene at every frame, and its caption."""

    scenes: tuple[Scene, ...]
    caption: str


def draw_clip(domain: str, seed: int, index: int) -> Clip:
    """Draw one clip.

    Args:
        domain: name of the domain.
        seed: seed of the world.
        index: number of the clip.

    Returns:
        A scene of one or two objects, the first of which moves or stays.
    """
    generator = scene_generator(domain, seed, index, _CLIP_STREAM)
    scene = draw_scene(domain, seed, index, OBJECT_COUNTS)
    mover, others = scene.objects[0], scene.objects[1:]
    motion = choose(generator, tuple(MOTIONS))
    dx, dy = MOTIONS[motion]
    span = _STEP * (FRAMES - 1)
    start = replace(
        mover,
        x=_start(mover.x, mover.radius, dx * span),
        y=_start(mover.y, mover.radius, dy * span),
    )
    scenes = tuple(
        replace(scene, objects=(*others, _moved(start, dx * _STEP * t, dy * _STEP * t)))
        for t in range(FRAMES)
    )
    return Clip(scenes, _caption(mover, others, motion, generator))


def _start(centre: float, radius: float, distance: float) -> float:
    """Return where a movement must start to stay inside the image."""
    low, high = radius + _MARGIN, IMAGE_SIZE - radius - _MARGIN
    first = min(max(centre, low - min(distance, 0)), high - max(distance, 0))
    return max(low, min(first, high))


def _moved(thing: SceneObject, dx: float, dy: float) -> SceneObject:
    return replace(thing, x=thing.x + dx, y=thing.y + dy)


def _caption(
    mover: SceneObject,
    others: tuple[SceneObject, ...],
    motion: str,
    generator: np.random.Generator,
) -> str:
    verb = "stays where it is" if motion == "nowhere" else f"moves {motion}"
    opening = choose(generator, ("a", "one"))
    text = f"{opening} {mover.texture} {mover.colour} {mover.shape} {verb}"
    for other in others:
        text += f" {choose(generator, ('near', 'beside', 'with'))} a {other.colour} {other.shape}"
    return text


def render_clip(clip: Clip) -> np.ndarray:
    """Draw a clip.

    Returns:
        uint8 [FRAMES, 64, 64, 3], RGB.
    """
    return np.stack([render(scene) for scene in clip.scenes])
