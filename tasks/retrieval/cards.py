"""What the cards of retrieval tasks share. Imports no torch."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.cards import Direction
from tasks.image_rows import ImageRowsConfig

RANKS = (1, 5, 10)


class RetrievalConfig(ImageRowsConfig):
    """Which pairs are used, and how they are compared. Subsets are fixed by no run's seed."""

    width: int = Field(
        default=128, ge=1, description="Size of the embeddings where the backbone brings none."
    )
    loss: Literal["infonce", "hinge"] = Field(
        default="infonce",
        description="infonce: symmetric cross-entropy with a trained temperature; hinge: the "
        "hardest negative of the batch within a margin, VSE++'s.",
    )
    margin: float = Field(default=0.2, gt=0.0, description="Of the hinge loss.")
    fold_images: int | None = Field(
        default=None,
        ge=1,
        description="Score splits of more images than this as the mean over folds of so many: 1000 "
        "is MSCOCO 1K, null 5K.",
    )
    caption_sets: bool = Field(
        default=False,
        description="Rank all captions of a video as one candidate, the best of them, as is the "
        "custom on MSVD; else each is one.",
    )


def metrics(first: str) -> Mapping[str, Direction]:
    """Return the metrics of retrieval between texts and ``first`` (``image`` or ``video``)."""
    found: dict[str, Direction] = {"rsum": "max"}
    for direction in (f"{first}_to_text", f"text_to_{first}"):
        found |= dict.fromkeys((f"recall@{k}/{direction}" for k in RANKS), "max")
        found |= dict.fromkeys((f"{mean}_rank/{direction}" for mean in ("median", "mean")), "min")
    return found


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "quick": {"task.train_rows": 2000, "train.epochs": 5, "train.batch_size": 128},
    "default": {"train.epochs": 10, "train.batch_size": 128},
    "full": {"train.epochs": 30, "train.batch_size": 128},
}

BUNDLED: Mapping[str, Mapping[str, Any]] = {name: {"method.join": "gate"} for name in RECIPES}
"""On drawn data: what pretraining's projections fit is the frozen output, so side networks join it.

Alone they begin from nothing, and the recipes' steps are few: 80 for ``quick``.
"""
