"""The bundled model's tokenizer: byte-level BPE, so that any text can be read."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from harness.backbones.base import Inputs

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Trains the tokenizer.

    Args:
        texts: The language to learn merges from.
        vocabulary: Greatest number of tokens; all 256 bytes and the special tokens among them.

    Returns:
        A tokenizer that lowercases and frames a text as `[CLS] text [SEP]`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer


@cache
def load_tokenizer(path: Path) -> Tokenizer:
    """Returns the tokenizer of a `tokenizer.json`."""
    return Tokenizer.from_file(str(path))


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> Inputs:
    """Turns texts into model inputs.

    Args:
        tokenizer: From `train_tokenizer` or `load_tokenizer`.
        texts: n texts; upper case is lowered first, so no text can name a special token.
        max_tokens: Longer texts are cut, `[SEP]` included.

    Returns:
        `input_ids` and `attention_mask`, long [n, T], padded to the longest text.
    """
    encoded = tokenizer.encode_batch_fast([text.lower() for text in texts])
    rows = [e.ids if len(e.ids) <= max_tokens else [*e.ids[: max_tokens - 1], SEP] for e in encoded]
    length = max(len(row) for row in rows)
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    sizes = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(length) < sizes[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


def decode_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Returns the lower-case text that the ids stand for, without special tokens."""
    return tokenizer.decode(list(ids), skip_special_tokens=True).removeprefix(" ")
