"""The heads of pretraining: contrast, matching, masked language and object labels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_MAX_LOGIT_SCALE = math.log(100.0)


class PretrainingHeads(nn.Module):
    """What pretraining adds to the backbone.

    Args:
        width: Width D of the backbone.
        vocabulary: Rows of the word embedding.
        labels: Number of words for each attribute of an object.
    """

    def __init__(self, width: int, vocabulary: int, labels: Sequence[int]) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.object_labels = nn.Linear(width, sum(labels))
        self.image_projection = nn.Linear(width, width)
        self.text_projection = nn.Linear(width, width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.matching = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2))
        self.word = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.word_bias = nn.Parameter(torch.zeros(vocabulary))

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Scales cosine similarities, as CLIP does (Radford et al., 2021, section 2.3).

        Args:
            image: [CLS] of images [N, D].
            text: [CLS] of texts [M, D].

        Returns:
            Logits [N, M].
        """
        image = functional.normalize(self.image_projection(image).float(), dim=-1)
        text = functional.normalize(self.text_projection(text).float(), dim=-1)
        return self.logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp() * image @ text.T

    def objects(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """Predicts the attributes of objects: [K, D] -> logits [K, labels] for each attribute."""
        return self.object_labels(hidden).split(self.labels, dim=-1)

    def words(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Predicts masked tokens with the tied embedding: [K, D], [V, D] -> logits [K, V]."""
        return functional.linear(self.word(hidden), embedding, self.word_bias)


def first_hits(similarity: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Tells which images find their caption first, and which captions their image.

    Args:
        similarity: [N, N], of image i and caption j; those of the same number belong together.
        ids: Token ids of the captions [N, T], long; equal captions count as hits.

    Returns:
        Hits of the images and of the captions, bool [N] each.
    """
    equal = (ids[:, None] == ids[None]).all(dim=-1)
    own = torch.arange(len(ids), device=ids.device)
    return equal[own, similarity.argmax(dim=1)], equal[own, similarity.argmax(dim=0)]
