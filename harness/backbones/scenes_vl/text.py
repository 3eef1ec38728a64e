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

from harness.backbones.base import Inputs, Text

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


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of texts, `[CLS]` and `[SEP]` included, however many they are."""
    return [e.ids for e in tokenizer.encode_batch_fast([text.lower() for text in texts])]


def whole_rows(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[list[list[int]]]:
    """Returns for each text the ids of its one or two parts, special tokens left out."""
    parts = [(text,) if isinstance(text, str) else text for text in texts]
    ids_of = iter(token_ids(tokenizer, [part for text in parts for part in text]))
    return [[next(ids_of)[1:-1] for _ in text] for text in parts]


def encode_texts(tokenizer: Tokenizer, texts: Sequence[Text], max_tokens: int) -> Inputs:
    """Turns texts into model inputs.

    Args:
        tokenizer: From `train_tokenizer` or `load_tokenizer`.
        texts: n texts or pairs of texts; upper case is lowered first, so no text can name a
            special token.
        max_tokens: Longer texts are cut, `[SEP]` included; of a pair, the longer text first.

    Returns:
        `input_ids` and `attention_mask`, long [n, T], padded to the longest text.
    """
    rows = [_joined(parts, max_tokens) for parts in whole_rows(tokenizer, texts)]
    length = max(len(row) for row in rows)
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    sizes = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(length) < sizes[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


def _joined(bodies: list[list[int]], max_tokens: int) -> list[int]:
    """Returns `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]` with at most `max_tokens` tokens."""
    room = max_tokens - 1 - len(bodies)
    while sum(map(len, bodies)) > room:
        longest = max(bodies, key=len)
        del longest[-1]
    return [CLS, *(token for body in bodies for token in (*body, SEP))]


def decode_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Returns the lower-case text that the ids stand for, without special tokens."""
    return tokenizer.decode(list(ids), skip_special_tokens=True).removeprefix(" ")
