"""What pretraining reads: drawn scenes, captions, and questions with their answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from harness.backbones.scenes_vl.stem import GRID, IMAGE_SIZE
from harness.backbones.scenes_vl.text import CLS, MASK, PAD, SEP, encode_texts
from tasks.scenes.domains import PRETRAIN
from tasks.scenes.draw import render
from tasks.scenes.language import captions
from tasks.scenes.scene import Scene, draw_scene, scene_generator
from tasks.scenes.vqa import questions, wrong_answer

HELD_OUT_START = 1_000_000_000  # scenes from here on are never trained on
CANDIDATES = 100  # of held-out retrieval
HIDDEN = -100  # truth of a statement whose answer is masked, label of a cell without an object
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": PRETRAIN.shapes,
    "colour": tuple(PRETRAIN.colours),
    "texture": tuple(PRETRAIN.textures),
    "size": tuple(PRETRAIN.sizes),
}

_TEXT_STREAM = 2  # of `scene_generator`: the words about a scene
_STATEMENT_MASK_RATE = 0.1


@dataclass(frozen=True)
class Images:
    """Drawn scenes and what stands where.

    Attributes:
        pixels: uint8 [B, 3, 64, 64].
        objects: [B, 16, 4] long: for each cell of the token grid the labels, in the order of
            ATTRIBUTES, of the object whose centre it holds; HIDDEN where there is none.
    """

    pixels: Tensor
    objects: Tensor


@dataclass(frozen=True)
class Batch:
    """One step's data: B scenes; the first half get masked captions, the rest statements.

    Attributes:
        images: B scenes.
        captions: Inputs of B captions.
        masked: Inputs of the first B/2 captions, masked.
        words: Their true ids [B/2, T].
        statements: Inputs of B/2 questions with an answer, masked.
        statement_words: Their true ids [B/2, T], where masked words count; 0 elsewhere.
        truth: [B/2] long: 1 true, 0 false, HIDDEN answer masked.
    """

    images: Images
    captions: dict[str, Tensor]
    masked: dict[str, Tensor]
    words: Tensor
    statements: dict[str, Tensor]
    statement_words: Tensor
    truth: Tensor


class BatchMaker:
    """Draws scenes and words for given scene numbers.

    Args:
        tokenizer: Reads the texts.
        seed: Seed of the world.
        mask_rate: Part of a caption's tokens to mask.
        max_tokens: Longest text in tokens.
        device: Where the batches go.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        seed: int,
        mask_rate: float,
        max_tokens: int,
        device: torch.device,
    ) -> None:
        self.tokenizer, self.seed = tokenizer, seed
        self.mask_rate, self.max_tokens, self.device = mask_rate, max_tokens, device

    def batch(self, indices: range, generator: torch.Generator) -> Batch:
        """Draws one batch.

        Args:
            indices: Numbers of the scenes.
            generator: Chooses the masks.

        Returns:
            The batch on the device.
        """
        scenes = self._scenes(indices)
        words = [scene_generator(s.domain, s.seed, s.index, _TEXT_STREAM) for s in scenes]
        texts = [captions(s, w)[0] for s, w in zip(scenes, words, strict=True)]
        half = len(scenes) // 2
        whole = self._encode(texts)
        first = self._encode(texts[:half])
        chosen = _random_tokens(first["input_ids"], self.mask_rate, generator)
        said = [_statement(s, w) for s, w in zip(scenes[half:], words[half:], strict=True)]
        statements = self._encode([text for text, _ in said])
        truth = torch.tensor([label for _, label in said])
        hidden = _statement_mask(statements, truth, generator)
        shown = hidden & (truth != 0)[:, None]  # a false answer's words are not to be learned
        return Batch(
            images=self._images(scenes),
            captions=self._move(whole),
            masked=self._move(_masked(first, chosen)),
            words=torch.where(chosen, first["input_ids"], PAD).to(self.device),
            statements=self._move(_masked(statements, hidden)),
            statement_words=torch.where(shown, statements["input_ids"], PAD).to(self.device),
            truth=truth.to(self.device),
        )

    def images(self, indices: range) -> Images:
        """Draws scenes without words about them."""
        return self._images(self._scenes(indices))

    def _scenes(self, indices: range) -> list[Scene]:
        return [draw_scene(PRETRAIN.name, self.seed, i) for i in indices]

    def _images(self, scenes: Sequence[Scene]) -> Images:
        pixels = np.stack([render(s) for s in scenes]).transpose(0, 3, 1, 2)
        objects = np.stack([_cell_labels(s) for s in scenes])
        return Images(
            pixels=torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device),
            objects=torch.from_numpy(objects).to(self.device),
        )

    def _encode(self, texts: list[str]) -> dict[str, Tensor]:
        return dict(encode_texts(self.tokenizer, texts, self.max_tokens))

    def _move(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in inputs.items()}


def held_out_pairs(numbers: range) -> tuple[np.ndarray, list[str]]:
    """Draws scenes that no pretraining sees, with the captions that its scores are made with.

    Args:
        numbers: Which of the held-out scenes of world 0.

    Returns:
        Images uint8 [n, 64, 64, 3], and n captions.
    """
    scenes = [draw_scene(PRETRAIN.name, 0, HELD_OUT_START + number) for number in numbers]
    words = [scene_generator(s.domain, s.seed, s.index, _TEXT_STREAM) for s in scenes]
    texts = [captions(s, w)[0] for s, w in zip(scenes, words, strict=True)]
    return np.stack([render(scene) for scene in scenes]), texts


def language(seed: int, scenes: int) -> Iterator[str]:
    """Yields captions and questions of the pretraining domain, for the tokenizer.

    Args:
        seed: Seed of the world.
        scenes: Number of scenes to speak of.

    Yields:
        Texts in lower case, always the same for the same seed.
    """
    for index in range(scenes):
        scene = draw_scene(PRETRAIN.name, seed, index)
        words = scene_generator(scene.domain, scene.seed, scene.index, _TEXT_STREAM)
        yield captions(scene, words)[0]
        yield _statement(scene, words)[0]


def _statement(scene: Scene, words: np.random.Generator) -> tuple[str, int]:
    """Returns a question with an answer, and 1 (true), 0 (false) or HIDDEN (true, to mask)."""
    question = questions(scene, words, 1)[0]
    role = int(words.integers(3))
    answer = wrong_answer(question, PRETRAIN, words) if role == 0 else question.answer
    return f"{question.text} {answer}", (0, 1, HIDDEN)[role]


def _cell_labels(scene: Scene) -> np.ndarray:
    """Returns the labels [16, 4] of the objects of a scene, HIDDEN in cells without a centre."""
    labels = np.full((GRID * GRID, len(ATTRIBUTES)), HIDDEN)
    for thing in scene.objects:
        row, column = int(thing.y * GRID / IMAGE_SIZE), int(thing.x * GRID / IMAGE_SIZE)
        labels[row * GRID + column] = [
            words.index(getattr(thing, name)) for name, words in ATTRIBUTES.items()
        ]
    return labels


def _masked(inputs: dict[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    ids = torch.where(chosen, MASK, inputs["input_ids"])
    return {"input_ids": ids, "attention_mask": inputs["attention_mask"]}


def _random_tokens(ids: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Chooses tokens [N, T] to mask, never a special one."""
    special = (ids == PAD) | (ids == CLS) | (ids == SEP)
    return (torch.rand(ids.shape, generator=generator) < rate) & ~special


def _statement_mask(
    statements: dict[str, Tensor], truth: Tensor, generator: torch.Generator
) -> Tensor:
    """Masks the answer where truth is HIDDEN; elsewhere a few words, never the answer."""
    ids, mask = statements["input_ids"], statements["attention_mask"]
    last = mask.sum(dim=1) - 2  # before [SEP]
    is_last = torch.arange(ids.shape[1]) == last[:, None]
    few = _random_tokens(ids, _STATEMENT_MASK_RATE, generator) & ~is_last
    return few | (is_last & (truth == HIDDEN)[:, None])
