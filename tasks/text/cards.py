"""Cards of tasks on sentences and sentence pairs. Imports no torch."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.cards import DatasetCard, Direction, TaskCard
from harness.registry import Config

MINI = "-mini"


class SubsetConfig(Config):
    """Which rows are used. Subsets are fixed: no run's seed changes them."""

    train_rows: int | None = Field(
        default=None,
        ge=1,
        description="At most this many training rows, a fixed random subset; null: all.",
    )
    val_rows: int | None = Field(
        default=None,
        ge=1,
        description="At most this many validation rows, a fixed random subset; null: all.",
    )
    pooling: Literal["mean", "salient"] = Field(
        default="mean",
        description="What the head reads: the mean of a text's tokens, or its salient token, "
        "which is BERT's [CLS]. Sentence encoders such as MiniLM are trained for the mean.",
    )
    form: Literal["classification", "text"] = Field(
        default="classification",
        description="classification: a head on the encoder; text: the decoder of a T5 writes the "
        "label, token by token, with the frozen output layer of its pretraining.",
    )


class GlueConfig(SubsetConfig):
    """Which rows are used, and for what. Subsets are fixed: no run's seed changes them."""

    splits: Literal["lst", "standard"] = Field(
        default="lst",
        description="lst: small tasks halve the development set into validation and test, large "
        "ones take 1,000 training rows as validation, MNLI validates on the mismatched set; "
        "standard: the whole (matched) development set is test, and validation comes out of "
        "training.",
    )


class Table(Config):
    """The columns of a text task's files.

    Attributes:
        texts: for each text of a row, the column names that files may give it.
        label: the names that files may give the label's column.
        labels: label ``i`` as files spell it; empty for a number.
        highest: the largest number, where the label is one.
        metrics: what is reported; the mean of them, ``score``, is the primary metric.
        rows: how many rows each file has.
        val: where validation comes from under ``splits=lst``: half of the development file, 1,000
            training rows, or a file of its own.
        headerless: column names of files that have no header.
        keys: what stands before each text where a decoder writes the label; empty for the first
            of a text's column names and a colon.
    """

    texts: tuple[tuple[str, ...], ...]
    label: tuple[str, ...] = ("label",)
    labels: tuple[str, ...] = ()
    highest: float = 1.0
    metrics: tuple[str, ...]
    rows: Mapping[str, int]
    val: Literal["half", "train", "dev_mismatched"]
    headerless: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files, without ``.tsv``; training first, then what test is made of."""
        return tuple(self.rows)


def glue_card(
    name: str, summary: str, title: str, table: Table, *, licence: str, epochs: int
) -> TaskCard:
    """Return the card of a GLUE task.

    Args:
        name: the task's name.
        summary: one line.
        title: the dataset's name in GLUE, which its folder may have.
        table: its files.
        licence: of the data.
        epochs: of the recipe ``official``.
    """
    origin = f"{title} of GLUE (Wang et al., ICLR 2019)"
    counts = ", ".join(f"{rows:,} in {file}.tsv" for file, rows in table.rows.items())
    return TaskCard(
        name=name,
        summary=summary,
        source=origin,
        config=GlueConfig,
        implementation=f"tasks.{name}.task:{name.capitalize()}",
        modalities=("text",),
        metrics=directions(table),
        primary="score",
        datasets=(
            DatasetCard(
                name=name,
                summary=counts,
                source="folder",
                licence=licence,
                origin=origin,
                folder=title,
            ),
            DatasetCard(
                name=name + MINI,
                summary="any part of it, in the same files; never ranked",
                source="folder",
                licence=licence,
                origin=f"a part of {origin}",
                folder=title,
                part=True,
            ),
        ),
        recipes=recipes(epochs),
        backbone="minilm",
        groups=("glue",),
    )


def scenes_card(kind: str, summary: str, table: Table) -> TaskCard:
    """Return the card of a task on sentences about drawn scenes.

    Args:
        kind: which sentences.
        summary: one line.
        table: their labels.
    """
    name = f"scenes_{kind}"
    return TaskCard(
        name=name,
        summary=summary,
        source="drawn by tasks.scenes, domain shifted",
        config=SubsetConfig,
        implementation=f"tasks.{name}.task:Scenes{kind.capitalize()}",
        modalities=("text",),
        metrics=directions(table),
        primary="score",
        datasets=(
            DatasetCard(
                name=f"scenes-{kind}",
                summary="6,000 training rows and 1,000 for test, one a drawn scene",
                source="bundled",
                licence="Apache-2.0",
                origin="drawn by tasks.scenes, domain shifted",
            ),
        ),
        recipes=BUNDLED_RECIPES,
        backbone="scenes_vl",
        groups=("scenes_text",),
    )


BUNDLED_RECIPES: Mapping[str, Mapping[str, Any]] = {
    "quick": {"task.train_rows": 2000, "train.epochs": 2, "train.batch_size": 64},
    "default": {"train.epochs": 6, "train.batch_size": 64},
    "full": {"train.epochs": 12, "train.batch_size": 64},
}


def directions(table: Table) -> dict[str, Direction]:
    """Return the direction of every metric of a table."""
    return dict.fromkeys(("score", *table.metrics), "max")


def recipes(epochs: int) -> dict[str, dict[str, Any]]:
    """Return the recipes of a text task.

    Args:
        epochs: of ``official``, which has the LST paper's settings: batches of 100, a linear
            decay, and gradients clipped at 1. ``text`` adds its text-to-text form, for a T5.
    """
    batch = {"train.batch_size": 32, "train.eval_batch_size": 64}
    official = {"train.epochs": epochs, "train.batch_size": 100, "train.eval_batch_size": 100}
    return {
        "quick": {"task.train_rows": 500, "task.val_rows": 200, "train.epochs": 2, **batch},
        "default": {"task.train_rows": 2000, "task.val_rows": 1000, "train.epochs": 4, **batch},
        "full": {"train.epochs": 4, **batch},
        "official": official,
        "standard": {"task.splits": "standard", **official},
        "text": {"task.form": "text", **official},
    }
