"""Settings that tasks on rows about images share. Imports no torch."""

from pydantic import Field

from harness.registry import Config


class ImageRowsConfig(Config):
    """Which rows are used. Subsets are fixed: no run's seed changes them."""

    train_rows: int | None = Field(
        default=None,
        ge=1,
        description="At most this many training rows, a fixed random subset; null: all.",
    )
    val_fraction: float = Field(
        default=0.1,
        gt=0.0,
        lt=1.0,
        description="Share of the training images set aside for validation, where the data have "
        "no validation of their own.",
    )
    image_size: int = Field(
        default=224, ge=8, description="Of a folder: side of the squares that photos become."
    )
