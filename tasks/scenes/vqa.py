"""Questions about a scene with their answers, true by the scene graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tasks.scenes.domains import Domain, get_domain
from tasks.scenes.language import NUMBERS, article, choose, holds, place
from tasks.scenes.scene import Scene, SceneObject

POSITIONS = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
_TRIES = 12


@dataclass(frozen=True)
class Question:
    """A question about one scene.

    Attributes:
        text: The question, lower case.
        answer: The answer, a member of `answer_choices` for its kind.
        kind: The question type, a key of `Domain.question_weights`.
    """

    text: str
    answer: str
    kind: str


def answer_choices(domain: Domain) -> dict[str, tuple[str, ...]]:
    """Returns the possible answers by kind of answer.

    Args:
        domain: The domain.

    Returns:
        Answers of `truth`, `count`, `colour`, `shape`, `size`, `texture` and `position` questions.
    """
    return {
        "truth": ("yes", "no"),
        "count": NUMBERS,
        "colour": tuple(domain.colours),
        "shape": domain.shapes,
        "size": tuple(domain.sizes),
        "texture": tuple(domain.textures),
        "position": POSITIONS,
    }


def questions(
    scene: Scene,
    generator: np.random.Generator,
    n: int,
    weights: Mapping[str, float] | None = None,
) -> list[Question]:
    """Asks questions about a scene.

    Args:
        scene: The scene.
        generator: Chooses kind, objects and words.
        n: Number of questions; the same question may be asked twice.
        weights: Relative frequency of every question type; the domain's own by default.

    Returns:
        `n` questions with true answers. Yes and no are about equally frequent.
    """
    domain = get_domain(scene.domain)
    frequency = weights or domain.question_weights
    kinds = tuple(frequency)
    bounds = np.cumsum(list(frequency.values()))
    asked: list[Question] = []
    while len(asked) < n:
        kind = kinds[int(np.searchsorted(bounds, bounds[-1] * generator.random(), "right"))]
        question = _ask(kind, domain, scene, generator)
        if question is not None:
            asked.append(question)
    return asked


def _ask(
    kind: str, domain: Domain, scene: Scene, generator: np.random.Generator
) -> Question | None:
    for _ in range(_TRIES):
        pair = _WRITERS[kind](domain, scene, generator)
        if pair is not None:
            return Question(pair[0], pair[1], kind)
    return None


_Pair = tuple[str, str] | None


def _exist(domain: Domain, scene: Scene, generator: np.random.Generator) -> _Pair:
    phrase, matches = _filter(domain, scene, generator)
    text = choose(
        generator,
        (
            f"can you see {article(phrase)} ?",
            f"is {article(phrase)} shown here ?",
            f"is there {article(phrase)} anywhere ?",
            f"does the picture show {article(phrase)} ?",
        ),
    )
    return text, _truth(bool(matches))


def _logic(domain: Domain, scene: Scene, generator: np.random.Generator) -> _Pair:
    first, first_matches = _filter(domain, scene, generator)
    second, second_matches = _filter(domain, scene, generator)
    if first == second:
        return None
    form = int(generator.integers(3))
    if form == 0:
        return (
            f"are {article(first)} and {article(second)} both shown ?",
            _truth(bool(first_matches) and bool(second_matches)),
        )
    if form == 1:
        return (
            f"is either {article(first)} or {article(second)} shown ?",
            _truth(bool(first_matches) or bool(second_matches)),
        )
    return (
        f"is {article(first)} shown without {article(second)} ?",
        _truth(bool(first_matches) and not second_matches),
    )


def _count(domain: Domain, scene: Scene, generator: np.random.Generator) -> _Pair:
    noun = choose(generator, domain.nouns)
    if generator.random() < 0.4:
        return f"how many {noun}s are there ?", NUMBERS[len(scene.objects)]
    attribute = choose(generator, ("colour", "texture", "size"))
    value = _value(domain, scene, generator, attribute)
    matches = [thing for thing in scene.objects if getattr(thing, attribute) == value]
    return f"how many {value} {noun}s are there ?", NUMBERS[len(matches)]


def _attribute(attribute: str) -> Callable[[Domain, Scene, np.random.Generator], _Pair]:
    wordings = {
        "colour": ("which color does {} have ?", "name the color of {} .", "{} has which color ?"),
        "shape": ("which shape does {} have ?", "name the shape of {} .", "{} has which shape ?"),
        "size": ("how big is {} ?", "which size does {} have ?"),
        "texture": ("how is {} filled ?", "which texture does {} have ?"),
        "position": ("where is {} ?", "in which part of the picture is {} ?"),
    }[attribute]

    def write(domain: Domain, scene: Scene, generator: np.random.Generator) -> _Pair:
        thing = choose(generator, scene.objects)
        phrase = refer(domain, scene, thing, generator, hidden=attribute)
        if phrase is None:
            return None
        answer = place(thing) if attribute == "position" else getattr(thing, attribute)
        return choose(generator, wordings).format(phrase), answer

    return write


def _relation(domain: Domain, scene: Scene, generator: np.random.Generator) -> _Pair:
    if len(scene.objects) < 2:
        return None
    first, second = (scene.objects[i] for i in generator.permutation(len(scene.objects))[:2])
    asked = choose(generator, ("colour", "shape", "truth"))
    anchor = refer(domain, scene, second, generator)
    if anchor is None:
        return None
    if asked == "truth":
        phrase = refer(domain, scene, first, generator)
        word = choose(generator, domain.relations)
        if phrase is None:
            return None
        return f"is {phrase} {word} {anchor} ?", _truth(holds(domain, word, first, second))
    words = [
        word
        for word in domain.relations
        if [o for o in scene.objects if o is not second and holds(domain, word, o, second)]
        == [first]
    ]
    if not words:
        return None
    noun = choose(generator, domain.nouns)
    name = "color" if asked == "colour" else "shape"
    text = f"which {name} is the {noun} {choose(generator, words)} {anchor} ?"
    return text, getattr(first, asked)


def _compare(domain: Domain, scene: Scene, generator: np.random.Generator) -> _Pair:
    if len(scene.objects) < 2:
        return None
    first, second = (scene.objects[i] for i in generator.permutation(len(scene.objects))[:2])
    attribute = choose(generator, ("colour", "shape", "texture", "size"))
    same = getattr(first, attribute) == getattr(second, attribute)
    if not same and attribute in ("colour", "shape") and generator.random() < 0.6:
        return None  # equal colours and shapes are rare: ask less often where they differ
    one = refer(domain, scene, first, generator, hidden=attribute)
    other = refer(domain, scene, second, generator, hidden=attribute)
    if one is None or other is None:
        return None
    if attribute == "size":
        order = tuple(domain.sizes)
        bigger = order.index(first.size) > order.index(second.size)
        return f"is {one} bigger than {other} ?", _truth(bigger)
    name = {"colour": "color"}.get(attribute, attribute)
    return f"do {one} and {other} have the same {name} ?", _truth(same)


_WRITERS: dict[str, Callable[[Domain, Scene, np.random.Generator], _Pair]] = {
    "exist": _exist,
    "colour": _attribute("colour"),
    "shape": _attribute("shape"),
    "size": _attribute("size"),
    "texture": _attribute("texture"),
    "count": _count,
    "position": _attribute("position"),
    "relation": _relation,
    "compare": _compare,
    "logic": _logic,
}


def _truth(value: bool) -> str:
    return "yes" if value else "no"


def _filter(
    domain: Domain, scene: Scene, generator: np.random.Generator
) -> tuple[str, list[SceneObject]]:
    """Chooses an indefinite phrase, present or absent alike, and finds what it matches."""
    noun = choose(generator, domain.nouns)
    form = choose(generator, (("colour",), ("shape",), ("colour", "shape"), ("texture", "shape")))
    thing = choose(generator, scene.objects)
    values = {name: str(getattr(thing, name)) for name in form}
    if generator.random() < 0.6:  # change one word, most often to something absent
        name = choose(generator, form)
        values[name] = choose(generator, answer_choices(domain)[name])
    matches = [o for o in scene.objects if all(getattr(o, k) == v for k, v in values.items())]
    return " ".join([*values.values(), *([] if "shape" in values else [noun])]), matches


def _value(domain: Domain, scene: Scene, generator: np.random.Generator, attribute: str) -> str:
    if generator.random() < 0.7:
        return str(getattr(choose(generator, scene.objects), attribute))
    return choose(generator, answer_choices(domain)[attribute])


def refer(
    domain: Domain,
    scene: Scene,
    thing: SceneObject,
    generator: np.random.Generator,
    hidden: str = "",
) -> str | None:
    """Returns a definite phrase that only this object matches and that hides one attribute.

    Args:
        domain: The scene's domain.
        scene: The scene.
        thing: One of its objects.
        generator: Chooses the words.
        hidden: Attribute that the phrase must not name; empty for none.

    Returns:
        The phrase, `None` where words alone cannot tell the object apart.
    """
    noun = choose(generator, domain.nouns)
    if len(scene.objects) == 1 and generator.random() < 0.6:
        return f"the {noun}"
    forms = (("shape",), ("colour",), ("size", "shape"), ("texture", "shape"), ("colour", "shape"))
    usable = []
    for form in forms:
        if hidden in form:
            continue
        values = [getattr(thing, name) for name in form]
        if sum([getattr(o, name) for name in form] == values for o in scene.objects) == 1:
            usable.append(f"the {' '.join(values)}{'' if 'shape' in form else ' ' + noun}")
    return choose(generator, usable) if usable else None


def wrong_answer(question: Question, domain: Domain, generator: np.random.Generator) -> str:
    """Returns another answer of the same kind, for instance another colour for a colour.

    Args:
        question: A question of the domain.
        domain: The domain.
        generator: Chooses the answer.

    Returns:
        An answer that is not the question's.
    """
    same_kind = next(c for c in answer_choices(domain).values() if question.answer in c)
    return choose(generator, [answer for answer in same_kind if answer != question.answer])
