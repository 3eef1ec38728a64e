"""Laws of the drawn world: determinism, true answers, and what is held out of pretraining."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from tasks.scenes.domains import DOMAINS, MIXED, PRETRAIN, SHIFTED, get_domain
from tasks.scenes.draw import render
from tasks.scenes.language import NUMBERS, captions, holds, place
from tasks.scenes.scene import IMAGE_SIZE, Scene, SceneObject, draw_scene, scene_generator
from tasks.scenes.shapes import UNIT_OUTLINES
from tasks.scenes.vqa import Question, answer_choices, questions, wrong_answer

domains = st.sampled_from(sorted(DOMAINS))
numbers = st.integers(min_value=0, max_value=10**9)


def words_of(domain: str, scenes: int) -> set[str]:
    found: set[str] = set()
    for index in range(scenes):
        scene, words = draw_scene(domain, 3, index), scene_generator(domain, 3, index, 2)
        texts = captions(scene, words, 2) + [
            word for q in questions(scene, words, 2) for word in (q.text, q.answer)
        ]
        found.update(re.findall(r"[a-z]+", " ".join(texts)))
    return found


@settings(max_examples=40)
@given(domains, numbers, numbers)
def test_the_same_numbers_draw_the_same_scene_pixels_and_words(domain, seed, index):
    first, second = (draw_scene(domain, seed, index) for _ in range(2))
    assert first == second
    assert np.array_equal(render(first), render(second))
    generators = [scene_generator(domain, seed, index, 2) for _ in range(2)]
    said = [
        (captions(s, g, 3), questions(s, g, 3))
        for s, g in zip((first, second), generators, strict=True)
    ]
    assert said[0] == said[1]


def test_seed_index_and_domain_each_change_the_scene():
    scenes = [draw_scene("pretrain", 0, 0), draw_scene("pretrain", 1, 0)]
    scenes += [draw_scene("pretrain", 0, 1), draw_scene("shifted", 0, 0)]
    assert len({scene.objects for scene in scenes}) == 4


@settings(max_examples=60)
@given(domains, numbers)
def test_objects_stand_apart_inside_the_image_and_off_the_background(domain, index):
    scene = draw_scene(domain, 0, index)
    image = render(scene)
    assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert image.dtype == np.uint8
    for number, thing in enumerate(scene.objects):
        left, top, right, bottom = thing.box
        assert 0 <= left < right <= IMAGE_SIZE
        assert 0 <= top < bottom <= IMAGE_SIZE
        assert thing.shape in UNIT_OUTLINES
        patch = image[int(top) : int(bottom) + 1, int(left) : int(right) + 1].astype(int)
        assert (np.abs(patch - thing.rgb).sum(axis=-1) < 60).any()
        for other in scene.objects[:number]:
            distance = np.hypot(thing.x - other.x, thing.y - other.y)
            assert distance > thing.radius + other.radius


def test_an_unknown_domain_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"'mars'.*pretrain, mixed, shifted"):
        get_domain("mars")


def test_what_is_shifted_is_held_out_of_pretraining():
    for field in ("colours", "shapes", "textures", "sizes", "relations", "nouns"):
        assert not set(getattr(PRETRAIN, field)) & set(getattr(SHIFTED, field)), field
    relation_words = {word for relation in SHIFTED.relations for word in relation.split()}
    new = {*SHIFTED.colours, *SHIFTED.shapes, *SHIFTED.textures, *SHIFTED.sizes, *SHIFTED.nouns}
    held_out = new | relation_words - {"of"}
    assert not held_out & words_of("pretrain", 1500)
    assert held_out <= words_of("shifted", 1500)


def test_what_is_mixed_knows_pretraining_and_a_part_of_what_is_shifted():
    for field in ("colours", "shapes", "textures"):
        mixed = set(getattr(MIXED, field))
        assert set(getattr(PRETRAIN, field)) < mixed, field
        new = mixed - set(getattr(PRETRAIN, field))
        assert new < set(getattr(SHIFTED, field)), field
        assert new & words_of("mixed", 1500), field


def test_colour_ranges_of_the_two_domains_do_not_overlap():
    def apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[1] < b[0] or b[1] < a[0]

    def hues_apart(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return all(apart(a, (b[0] + turn, b[1] + turn)) for turn in (-360, 0, 360))

    for name, old in PRETRAIN.colours.items():
        for new_name, new in SHIFTED.colours.items():
            assert (
                hues_apart(old.hue, new.hue)
                or apart(old.saturation, new.saturation)
                or apart(old.value, new.value)
            ), (name, new_name)


def test_the_world_asks_no_question_of_easy_vqa():
    easy_vqa = pytest.importorskip("easy_vqa")
    asked = {
        " ".join(re.findall(r"[a-z]+", text.lower()))
        for get in (easy_vqa.get_train_questions, easy_vqa.get_test_questions)
        for text in get()[0]
    }
    for domain in DOMAINS:
        for index in range(1500):
            generator = scene_generator(domain, 5, index, 2)
            for question in questions(draw_scene(domain, 5, index), generator, 2):
                assert " ".join(re.findall(r"[a-z]+", question.text)) not in asked


@settings(max_examples=40)
@given(domains, numbers)
def test_captions_name_every_object(domain, index):
    scene = draw_scene(domain, 0, index)
    for caption in captions(scene, scene_generator(domain, 0, index, 2), 4):
        assert caption == caption.lower()
        for thing in scene.objects:
            assert thing.colour in caption.split()
            assert thing.shape in caption.split()


def test_one_scene_has_many_captions():
    scene = draw_scene("pretrain", 0, 3)
    assert len(set(captions(scene, scene_generator("pretrain", 0, 3, 2), 50))) > 30


class Reader:
    """Answers questions by reading their words against the scene graph, apart from the writer."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.domain = scene, get_domain(scene.domain)

    def matching(self, phrase: str) -> list[SceneObject]:
        """The objects that have every attribute named in a phrase."""
        said = set(phrase.split())
        named = {
            field: said & set(getattr(self.domain, plural))
            for field, plural in {
                "colour": "colours",
                "shape": "shapes",
                "texture": "textures",
                "size": "sizes",
            }.items()
        }
        return [
            thing
            for thing in self.scene.objects
            if all(not said or getattr(thing, field) in said for field, said in named.items())
        ]

    def the(self, phrase: str) -> SceneObject:
        """The one object that a definite phrase names."""
        (thing,) = self.matching(phrase)
        return thing

    def answer(self, question: Question) -> str:
        return getattr(self, question.kind)(question.text)

    def exist(self, text: str) -> str:
        phrase = re.split(r"\b(?:see|there|show|is) an? ", text)[-1]
        return yes(self.matching(phrase))

    def logic(self, text: str) -> str:
        if match := re.fullmatch(r"are an? (.+) and an? (.+) both shown \?", text):
            return yes(self.matching(match[1]) and self.matching(match[2]))
        if match := re.fullmatch(r"is either an? (.+) or an? (.+) shown \?", text):
            return yes(self.matching(match[1]) or self.matching(match[2]))
        match = re.fullmatch(r"is an? (.+) shown without an? (.+) \?", text)
        assert match
        return yes(self.matching(match[1]) and not self.matching(match[2]))

    def count(self, text: str) -> str:
        return NUMBERS[len(self.matching(text))]

    def colour(self, text: str) -> str:
        return self.the(text).colour

    def shape(self, text: str) -> str:
        return self.the(text).shape

    def size(self, text: str) -> str:
        return self.the(text).size

    def texture(self, text: str) -> str:
        return self.the(text).texture

    def position(self, text: str) -> str:
        return place(self.the(text))

    def relation(self, text: str) -> str:
        word = next(w for w in self.domain.relations if f" {w} the " in text)
        before, after = text.split(f" {word} ")
        anchor = self.the(after)
        if before.startswith("is "):
            return yes(holds(self.domain, word, self.the(before), anchor))
        others = [o for o in self.scene.objects if o is not anchor]
        (thing,) = (o for o in others if holds(self.domain, word, o, anchor))
        return thing.colour if "which color" in before else thing.shape

    def compare(self, text: str) -> str:
        if match := re.fullmatch(r"is (.+) bigger than (.+) \?", text):
            order = list(self.domain.sizes)
            first, second = (order.index(self.the(part).size) for part in match.groups())
            return yes(first > second)
        match = re.fullmatch(r"do (.+) and (.+) have the same (\w+) \?", text)
        assert match
        attribute = {"color": "colour"}.get(match[3], match[3])
        return yes(len({getattr(self.the(part), attribute) for part in match.groups()[:2]}) == 1)


def yes(value: object) -> str:
    return "yes" if value else "no"


@settings(max_examples=150)
@given(domains, numbers)
def test_every_answer_follows_from_the_scene_graph(domain, index):
    scene = draw_scene(domain, 0, index)
    for question in questions(scene, scene_generator(domain, 0, index, 2), 8):
        assert Reader(scene).answer(question) == question.answer, question


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_yes_and_no_are_balanced_and_every_answer_is_a_choice(domain):
    choices = {a for group in answer_choices(get_domain(domain)).values() for a in group}
    asked = [
        question
        for index in range(1500)
        for question in questions(
            draw_scene(domain, 1, index), scene_generator(domain, 1, index, 2), 2
        )
    ]
    assert {question.answer for question in asked} <= choices
    weights = get_domain(domain).question_weights
    assert {question.kind for question in asked} == {k for k, w in weights.items() if w > 0}
    truths = [question.answer for question in asked if question.answer in ("yes", "no")]
    assert 0.35 < truths.count("yes") / len(truths) < 0.6


@settings(max_examples=30)
@given(domains, numbers)
def test_a_wrong_answer_is_another_answer_of_the_same_kind(domain, index):
    generator = scene_generator(domain, 0, index, 2)
    for question in questions(draw_scene(domain, 0, index), generator, 4):
        wrong = wrong_answer(question, get_domain(domain), generator)
        groups = answer_choices(get_domain(domain)).values()
        assert wrong != question.answer
        assert any(wrong in group and question.answer in group for group in groups)
