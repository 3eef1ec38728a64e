"""Labelled sentences about scenes: acceptability, warmth of colours, entailment, similarity.

They have the shapes of four GLUE tasks, and their own names: none is a GLUE dataset.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tasks.scenes.domains import Domain, get_domain
from tasks.scenes.language import article, captions, choose
from tasks.scenes.scene import Scene, SceneObject, draw_scene

Labelled = tuple[str | tuple[str, str], float]

_SMALL_WORDS = frozenset({"a", "an", "the", "in", "at", "near", "on", "of", "and", "is", "that"})
_FOREIGN = 1_000_000  # offset of the scenes whose objects are mixed into others


def acceptability(scene: Scene, generator: np.random.Generator) -> Labelled:
    """Return a caption and 1, or one whose grammar is broken and 0."""
    (text,) = captions(scene, generator)
    if generator.random() < 0.5:
        return text, 1.0
    words = text.split()
    small = [i for i, word in enumerate(words[:-1]) if word in _SMALL_WORDS]
    at = int(choose(generator, small))
    breaks: Mapping[str, list[str]] = {
        "dropped": [*words[:at], *words[at + 1 :]],
        "doubled": [*words[: at + 1], *words[at:]],
        "swapped": [*words[:at], words[at + 1], words[at], *words[at + 2 :]],
    }
    return " ".join(breaks[choose(generator, tuple(breaks))]), 0.0


def warmth(scene: Scene, generator: np.random.Generator) -> Labelled:
    """Return a caption, and 1 where at least half of its colours are warm."""
    (text,) = captions(scene, generator)
    domain = get_domain(scene.domain)
    warm = [is_warm(domain, thing.colour) for thing in scene.objects]
    return text, float(2 * sum(warm) >= len(warm))


def is_warm(domain: Domain, colour: str) -> bool:
    """Tell whether a colour word's hues lie between magenta and yellow, across red."""
    low, high = domain.colours[colour].hue
    return not 75 <= ((low + high) / 2) % 360 < 300


def entailment(scene: Scene, generator: np.random.Generator) -> Labelled:
    """Return a caption and a claim about one object: 0 where it follows, else 1.

    False claims mix what the caption does say wherever they can.
    """
    (text,) = captions(scene, generator)
    said = {(thing.colour, thing.shape) for thing in scene.objects}
    if generator.random() < 0.5:
        claim, label = sorted(said)[int(generator.integers(len(said)))], 0.0
    else:
        claim, label = _false_claim(scene, said, generator), 1.0
    opening = choose(generator, ("there is ", "the picture shows ", "we can see "))
    return (text, opening + article(" ".join(claim))), label


def _false_claim(
    scene: Scene, said: set[tuple[str, str]], generator: np.random.Generator
) -> tuple[str, str]:
    colours = sorted({colour for colour, _ in said})
    shapes = sorted({shape for _, shape in said})
    mixed = [(c, s) for c in colours for s in shapes if (c, s) not in said]
    if mixed:
        return mixed[int(generator.integers(len(mixed)))]
    domain = get_domain(scene.domain)
    colour, shape = sorted(said)[0]
    if generator.random() < 0.5:
        return choose(generator, [c for c in domain.colours if c != colour]), shape
    return colour, choose(generator, [s for s in domain.shapes if s != shape])


def similarity(scene: Scene, generator: np.random.Generator) -> Labelled:
    """Return captions of two scenes, and five times the share of objects that both have."""
    other = draw_scene(scene.domain, scene.seed, scene.index + _FOREIGN)
    kept = [thing for thing in scene.objects if generator.random() < 0.5]
    new = [thing for thing in other.objects if generator.random() < 0.5]
    objects = (*kept, *new) or other.objects[:1]
    second = replace(scene, objects=objects, background=other.background)
    first_set, second_set = _things(scene.objects), _things(objects)
    shared = len(first_set & second_set) / len(first_set | second_set)
    texts = captions(scene, generator)[0], captions(second, generator)[0]
    return texts, 5 * shared


def _things(objects: tuple[SceneObject, ...]) -> set[tuple[str, str]]:
    return {(thing.colour, thing.shape) for thing in objects}


SENTENCES: Mapping[str, Callable[[Scene, np.random.Generator], Labelled]] = {
    "acceptability": acceptability,
    "warmth": warmth,
    "entailment": entailment,
    "similarity": similarity,
}
