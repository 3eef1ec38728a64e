"""Captions: what a scene shows, in words, with many paraphrases."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tasks.scenes.domains import Domain, get_domain
from tasks.scenes.scene import IMAGE_SIZE, Scene, SceneObject

T = TypeVar("T")

NUMBERS = ("zero", "one", "two", "three", "four")

_ROWS = ("top", "middle", "bottom")
_COLUMNS = ("left", "middle", "right")
_CLEAR_OFFSET = 8.0  # pixels by which one centre must pass another to be "left of" it
_GROUNDS = {
    "light": ("light", "bright", "pale"),
    "dark": ("dark", "dim"),
    "middle": ("mid tone", "deep"),
}


def choose(generator: np.random.Generator, choices: Sequence[T]) -> T:
    """Returns one of the choices, each equally likely."""
    return choices[int(generator.integers(len(choices)))]


def article(phrase: str) -> str:
    """Returns the phrase with `a` or `an` before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def place(thing: SceneObject) -> str:
    """Returns the name of the ninth of the image that holds the object's centre."""
    row = _ROWS[min(int(3 * thing.y / IMAGE_SIZE), 2)]
    column = _COLUMNS[min(int(3 * thing.x / IMAGE_SIZE), 2)]
    if row == column == "middle":
        return "center"
    return " ".join(word for word in (row, column) if word != "middle")


def holds(domain: Domain, relation: str, first: SceneObject, second: SceneObject) -> bool:
    """Tells whether `first` stands in that relation to `second`.

    Args:
        domain: The scene's domain.
        relation: One of the domain's four relation words.
        first: The object spoken of.
        second: The object that it is compared with.

    Returns:
        True if the centres are at least 8 pixels apart in the relation's direction.
    """
    dx, dy = first.x - second.x, first.y - second.y
    offset = (-dx, dx, -dy, dy)[domain.relations.index(relation)]
    return offset >= _CLEAR_OFFSET


def captions(scene: Scene, generator: np.random.Generator, n: int = 1) -> list[str]:
    """Writes captions that name every object of a scene.

    Args:
        scene: The scene.
        generator: Chooses grammar, order and words.
        n: Number of captions.

    Returns:
        `n` captions in lower case.
    """
    return [_caption(scene, generator) for _ in range(n)]


def _caption(scene: Scene, generator: np.random.Generator) -> str:
    domain = get_domain(scene.domain)
    order = generator.permutation(len(scene.objects))
    things = [scene.objects[i] for i in order]
    if len(things) > 1 and generator.random() < 0.4:
        text = _related(domain, things, generator)
    else:
        text = _join([_describe(thing, generator) for thing in things])
        if generator.random() < 0.2:
            noun = choose(generator, domain.nouns) + ("s" if len(things) > 1 else "")
            text = f"{NUMBERS[len(things)]} {noun} : {text}"
    opening = choose(
        generator, ("", "", "", "there is ", "a picture of ", "we see ", "this shows ")
    )
    text = opening + text
    if generator.random() < 0.5:
        ground = choose(generator, _GROUNDS[scene.background.tone])
        text = f"{text} on {article(ground)} {choose(generator, ('background', 'ground'))}"
    return text


def _related(domain: Domain, things: list[SceneObject], generator: np.random.Generator) -> str:
    parts = [_describe(thing, generator, with_place=False) for thing in things]
    true = [word for word in domain.relations if holds(domain, word, things[0], things[1])]
    if not true:
        return _join(parts)
    pair = f"{parts[0]} {choose(generator, true)} {parts[1]}"
    return _join([pair, *parts[2:]])


def _describe(
    thing: SceneObject,
    generator: np.random.Generator,
    *,
    with_place: bool | None = None,
) -> str:
    size = thing.size if generator.random() < 0.5 else ""
    texture = thing.texture if generator.random() < 0.5 else ""
    style = generator.random()
    if style < 0.7:
        words = (size, texture, thing.colour, thing.shape)
        text = article(" ".join(word for word in words if word))
    elif style < 0.85:
        adjectives = " ".join(word for word in (size, texture, thing.shape) if word)
        text = f"{article(adjectives)} in {thing.colour}"
    else:
        rest = " and ".join(word for word in (thing.colour, texture) if word)
        text = f"{article(' '.join(word for word in (size, thing.shape) if word))} that is {rest}"
    if with_place is None:
        with_place = generator.random() < 0.45
    if with_place:
        text = f"{text} {choose(generator, ('in', 'at', 'near'))} the {place(thing)}"
    return text


def _join(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{' , '.join(parts[:-1])} and {parts[-1]}"
