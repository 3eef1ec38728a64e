"""Pretraining of the bundled model on drawn scenes of the `pretrain` domain.

First the image stream alone learns object labels: for each cell of its token grid the shape,
colour, texture and size of the object that stands there, as LXMERT (Tan and Bansal, 2019) learns
the labels of detected objects. Without them, colour and place are enough to tell scenes apart, and
shape is never learned.

Then four objectives in every step: object labels, image-text contrast (Radford et al., 2021),
image-text matching with hard negatives from the batch (Li et al., 2021, "Align before fuse"), and
masked language (Devlin et al., 2019) on captions and on questions followed by their answers.
Scenes are drawn anew for every step: no image is seen twice.
"""

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from harness import provenance
from harness.backbones.base import StreamState
from harness.backbones.scenes_vl import ScenesVLConfig
from harness.backbones.scenes_vl.checkpoint import (
    HEADS_PREFIX,
    SCORES_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    sha256,
)
from harness.backbones.scenes_vl.heads import PretrainingHeads, first_hits
from harness.backbones.scenes_vl.model import ScenesVL
from harness.backbones.scenes_vl.pretraining_data import (
    ATTRIBUTES,
    CANDIDATES,
    HELD_OUT_START,
    HIDDEN,
    Batch,
    BatchMaker,
    Images,
    language,
)
from harness.backbones.scenes_vl.text import PAD, train_tokenizer
from harness.registry import Config

log = logging.getLogger(__name__)


class PretrainingConfig(Config):
    """The recipe of pretraining."""

    seed: int = Field(default=0, ge=0, description="Seed of scenes, words, weights and masks.")
    minutes: float = Field(default=26.0, gt=0, description="Wall-clock time to train for.")
    steps: int | None = Field(
        default=None, gt=0, description="Steps to train for, instead of minutes."
    )
    threads: int = Field(default=2, ge=1, description="CPU threads.")
    device: str = Field(default="cpu", description="Device to train on.")
    batch_size: int = Field(default=128, ge=8, multiple_of=4, description="Scenes a step.")
    lr: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    images_first: float = Field(
        default=0.3, ge=0, lt=1, description="Part of training on object labels alone."
    )
    weight_decay: float = Field(default=0.05, ge=0, description="Weight decay of matrices.")
    warmup: float = Field(
        default=0.05, ge=0, lt=1, description="Part of training with rising rate."
    )
    mask_rate: float = Field(
        default=0.25, gt=0, lt=1, description="Part of a caption's tokens masked."
    )
    bf16: bool = Field(default=True, description="Run matrix products in bfloat16.")
    held_out: int = Field(default=2000, ge=100, multiple_of=100, description="Held-out scenes.")
    tokenizer_scenes: int = Field(
        default=20_000, gt=0, description="Scenes whose texts the tokenizer learns from."
    )
    report_seconds: float = Field(default=180.0, gt=0, description="Time between reports.")


def pretrain(
    output: Path, config: PretrainingConfig | None = None, **settings: Any
) -> dict[str, Any]:
    """Pretrains the bundled model and writes tokenizer, weights and scores.

    Args:
        output: Folder for `model.safetensors`, `config.json`, `scores.json`, `tokenizer.json`.
        config: The recipe; None for the defaults.
        **settings: Fields of the recipe to change, for instance `minutes=40`; None changes nothing.

    Returns:
        What `scores.json` holds: held-out scores, seconds, steps, and the weights' checksum.
    """
    changes = {name: value for name, value in settings.items() if value is not None}
    recipe = PretrainingConfig.model_validate((config.model_dump() if config else {}) | changes)
    torch.set_num_threads(recipe.threads)
    output.mkdir(parents=True, exist_ok=True)
    sizes = ScenesVLConfig(seed=recipe.seed)
    tokenizer = train_tokenizer(language(recipe.seed, recipe.tokenizer_scenes), sizes.vocabulary)
    tokenizer.save(str(output / TOKENIZER_FILE))
    return _Pretraining(recipe, sizes, tokenizer, output).run()


class _Pretraining:
    """The state of one pretraining run."""

    def __init__(
        self, recipe: PretrainingConfig, sizes: ScenesVLConfig, tokenizer: Tokenizer, output: Path
    ) -> None:
        self.recipe, self.sizes, self.tokenizer, self.output = recipe, sizes, tokenizer, output
        self.device = torch.device(recipe.device)
        self.backbone = ScenesVL.build(sizes, weights="random", device=self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed + 1)
            self.heads = PretrainingHeads(
                sizes.width, sizes.vocabulary, [len(words) for words in ATTRIBUTES.values()]
            ).to(self.device)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.maker = BatchMaker(
            tokenizer,
            seed=recipe.seed,
            mask_rate=recipe.mask_rate,
            max_tokens=sizes.max_tokens,
            device=self.device,
        )
        self.optimizer = self._optimizer()
        self.start = time.perf_counter()
        self.steps = 0

    def run(self) -> dict[str, Any]:
        """Trains to the end, reporting and saving on the way; returns the final scores."""
        reported = time.perf_counter()
        for indices in self._batches():
            progress = self._progress()
            if progress >= 1:
                break
            losses = self._step(indices, progress)
            self.steps += 1
            if self.steps % 50 == 0:
                self._log_losses(losses, progress)
            if time.perf_counter() - reported > self.recipe.report_seconds:
                log.info("held out: %s", self._save())
                reported = time.perf_counter()
        return self._save()

    def _batches(self) -> Iterator[range]:
        size = self.recipe.batch_size
        return (range(step * size, (step + 1) * size) for step in count())

    def _progress(self) -> float:
        if self.recipe.steps is not None:
            return self.steps / self.recipe.steps
        return (time.perf_counter() - self.start) / (60 * self.recipe.minutes)

    def _optimizer(self) -> torch.optim.Optimizer:
        parameters = [*self.backbone.parameters(), *self.heads.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups,
            lr=self.recipe.lr,
            betas=(0.9, 0.98),
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )

    def _rate(self, progress: float) -> float:
        warmup = self.recipe.warmup
        if progress < warmup:
            return self.recipe.lr * (progress / warmup + 1e-3)
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    def _autocast(self) -> Any:
        if not self.recipe.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _step(self, indices: range, progress: float) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(progress)
        self.backbone.train()
        with self._autocast():
            if progress < self.recipe.images_first:
                images = self.maker.images(indices)
                losses = {"objects": self._object_loss(self._encode_image(images), images)}
            else:
                losses = self._losses(self.maker.batch(indices, self.generator))
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values(), torch.zeros((), device=self.device)).backward()
        parameters = [*self.backbone.parameters(), *self.heads.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimizer.step()
        return losses

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        image = self._encode_image(batch.images)
        text = self.backbone.encode("text", batch.captions, {})
        similarity = self.heads.similarity(image.salient, text.salient)  # [B, B]
        own = torch.arange(len(similarity), device=self.device)
        contrast = functional.cross_entropy(similarity, own)
        contrast = 0.5 * (contrast + functional.cross_entropy(similarity.T, own))

        half, quarter = len(own) // 2, len(own) // 4
        caption = self.backbone.encode("text", batch.masked, {})
        others = _hard_negatives(similarity.T[:quarter], self.generator)
        rows = torch.cat([own[:half], own[:quarter]])
        seen = torch.cat([own[:half], others])
        paired = self._joint(_rows(caption, rows), _rows(image, seen))
        labels = (rows == seen).long()
        statement = self.backbone.encode("text", batch.statements, {})
        judged = self._joint(statement, _rows(image, own[half:]))
        matches = self.heads.matching(torch.cat([paired.salient, judged.salient]))
        truth = torch.cat([labels, batch.truth])
        return {
            "objects": self._object_loss(image, batch.images),
            "contrast": contrast,
            "matching": functional.cross_entropy(matches.float(), truth, ignore_index=HIDDEN),
            "words": self._word_loss(
                (paired.output[:half], batch.words), (judged.output, batch.statement_words)
            ),
        }

    def _encode_image(self, images: Images) -> StreamState:
        return self.backbone.encode("image", {"pixels": images.pixels}, {})

    def _object_loss(self, image: StreamState, images: Images) -> Tensor:
        """Sum over the attributes of the mean cross entropy over all objects."""
        logits, labels = self._object_logits(image, images)
        losses = [
            functional.cross_entropy(x.float(), y) for x, y in zip(logits, labels.T, strict=True)
        ]
        return torch.stack(losses).sum()

    def _object_logits(
        self, image: StreamState, images: Images
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns the logits [K, labels] of each attribute, and the labels [K, 4]."""
        filled = images.objects[..., 0] != HIDDEN  # [B, 16]
        cells = image.output[:, 1:]  # [B, 16, D], without [CLS]
        return self.heads.objects(cells[filled]), images.objects[filled]

    def _joint(self, text: StreamState, image: StreamState) -> StreamState:
        return self.backbone.encode("joint", {}, {"text": text, "image": image})

    def _word_loss(self, *pairs: tuple[Tensor, Tensor]) -> Tensor:
        """Cross entropy of the masked words; `pairs` hold states [N, T + I, D], ids [N, T]."""
        logits, ids = self._masked_words(*pairs)
        return functional.cross_entropy(logits.float(), ids)

    def _masked_words(self, *pairs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden = [states[:, : ids.shape[1]][ids != PAD] for states, ids in pairs]
        embedding = self.backbone.text.embeddings.word_embeddings.weight
        logits = self.heads.words(torch.cat(hidden), embedding)
        return logits, torch.cat([ids[ids != PAD] for _, ids in pairs])

    def _log_losses(self, losses: dict[str, Tensor], progress: float) -> None:
        seconds = time.perf_counter() - self.start
        parts = "  ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
        rate = self.steps * self.recipe.batch_size / seconds
        log.info("%5.1f%%  step %d  %s  %.0f scenes/s", 100 * progress, self.steps, parts, rate)

    def _save(self) -> dict[str, Any]:
        """Writes weights and scores, whole files at a time, and returns the scores."""
        tensors = {name: t.contiguous() for name, t in self.backbone.state_dict().items()}
        for name, tensor in self.heads.state_dict().items():
            tensors[HEADS_PREFIX + name] = tensor.contiguous()
        partial = self.output / (WEIGHTS_FILE + ".part")
        save_file(tensors, partial)
        scores = self._scores() | {"sha256": sha256(partial)}
        partial.replace(self.output / WEIGHTS_FILE)
        _write_json(self.output / SCORES_FILE, scores)
        recipe = self.recipe.model_dump()
        _write_json(
            self.output / "config.json", {"sizes": self.sizes.model_dump(), "recipe": recipe}
        )
        return scores

    def _scores(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.start
        parameters = sum(p.numel() for p in self.backbone.parameters())
        return {
            **self._held_out_scores(),
            "held_out_scenes": self.recipe.held_out,
            "candidates": CANDIDATES,
            "seconds": round(seconds, 1),
            "steps": self.steps,
            "scenes": self.steps * self.recipe.batch_size,
            "parameters": parameters,
            "commit": provenance.commit()[0],
        }

    @torch.no_grad()
    def _held_out_scores(self) -> dict[str, float]:
        """Scores scenes that training never draws, with fixed words and masks."""
        self.backbone.eval()
        generator = torch.Generator().manual_seed(0)
        tallies: list[dict[str, Tensor]] = []
        for start in range(HELD_OUT_START, HELD_OUT_START + self.recipe.held_out, CANDIDATES):
            batch = self.maker.batch(range(start, start + CANDIDATES), generator)
            tallies.append(self._group_scores(batch))
        return {
            name: round(float(torch.cat([t[name] for t in tallies]).float().mean()), 4)
            for name in tallies[0]
        }

    def _group_scores(self, batch: Batch) -> dict[str, Tensor]:
        """Returns hits, one entry a trial, of one group of candidates."""
        image = self._encode_image(batch.images)
        text = self.backbone.encode("text", batch.captions, {})
        similarity = self.heads.similarity(image.salient, text.salient)
        finds_text, finds_image = first_hits(similarity, batch.captions["input_ids"])
        own = torch.arange(len(similarity), device=self.device)
        half = len(own) // 2
        caption = self.backbone.encode("text", batch.masked, {})
        other = similarity[:, :half].clone()
        other[own[:half], own[:half]] = -torch.inf
        pairs = [
            self._joint(_rows(text, own[:half]), _rows(image, seen))
            for seen in (own[:half], other.argmax(dim=0))
        ]
        says = [self.heads.matching(pair.salient).argmax(dim=-1) for pair in pairs]
        statement = self.backbone.encode("text", batch.statements, {})
        judged = self._joint(statement, _rows(image, own[half:]))
        verdict = self.heads.matching(judged.salient).argmax(dim=-1)
        stated = batch.truth != HIDDEN
        masked = self._joint(caption, _rows(image, own[:half]))
        words, true_words = self._masked_words((masked.output, batch.words))
        answered = torch.where(stated[:, None], PAD, batch.statement_words)
        answers, true_answers = self._masked_words((judged.output, answered))
        logits, labels = self._object_logits(image, batch.images)
        objects = {
            f"{name}_accuracy": x.argmax(dim=-1) == y
            for name, x, y in zip(ATTRIBUTES, logits, labels.T, strict=True)
        }
        return {
            **objects,
            "image_to_text_r1": finds_text,
            "text_to_image_r1": finds_image,
            "matching_accuracy": torch.cat([says[0] == 1, says[1] == 0]),
            "statement_accuracy": (verdict == batch.truth)[stated],
            "masked_word_accuracy": words.argmax(dim=-1) == true_words,
            "masked_answer_accuracy": answers.argmax(dim=-1) == true_answers,
        }


def _hard_negatives(similarity: Tensor, generator: torch.Generator) -> Tensor:
    """Draws, for text i of [N, B], another image with probability by its similarity."""
    odds = similarity.detach().float().softmax(dim=1) + 1e-4
    odds.fill_diagonal_(0.0)
    drawn = torch.multinomial(odds.cpu(), 1, generator=generator)[:, 0]
    return drawn.to(similarity.device)


def _rows(state: StreamState, rows: Tensor) -> StreamState:
    """Returns a state with only those rows (a row may occur twice)."""
    output = state.output[rows]
    mask = None if state.mask is None else state.mask[rows]
    return StreamState(output=output, mask=mask, salient=output[:, 0])


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
