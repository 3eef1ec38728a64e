"""``noise``: what every quantiser, and noise on top of it, costs on a real backbone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.common import (
    Json,
    Verbose,
    examples,
    print_json,
    set_up_logging,
    stdout_console,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.backbones.base import Backbone

NOISE_EXAMPLES = examples(
    "harness noise --backbone minilm",
    "harness noise --backbone bert-base --weights FOLDER --texts sentences.txt --bits 4",
)
BITS = ("8", "4", "3", "2")


def noise(
    backbone: Annotated[str, typer.Option(help="A backbone that reads text alone.")] = "minilm",
    weights: Annotated[
        str | None, typer.Option(help="Folder with its weights, or OWNER/NAME@REVISION.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="File with one text a line; default: drawn captions.")
    ] = None,
    bits: Annotated[str, typer.Option(help="Comma-separated: 8, 4, 3, 2.")] = "8,4,3,2",
    calibration: Annotated[int, typer.Option(min=2, help="Texts that choose codes.")] = 256,
    held_out: Annotated[int, typer.Option(min=2, help="Other texts, that judge them.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and of captions.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Print the output error of every quantiser, relative to plain rounding, by bits.

    Codes are chosen by the inputs that the calibration texts give every linear layer, and judged
    by those of the held-out texts. The figures are geometric means over layers.
    """
    import torch

    from methods.quantization.table import measured_layers, relative_errors

    set_up_logging(verbose)
    chosen = _bits(bits)
    model = _built(backbone, weights)
    lines = _texts(texts, calibration + held_out, seed)
    torch.set_num_threads(threads)
    layers = measured_layers(model, lines[:calibration], lines[calibration:])
    table = {count: dict(relative_errors(layers, count, seed)) for count in chosen}
    if as_json:
        settings = {"backbone": backbone, "weights": model.weights_hash, "layers": len(layers)}
        counts = {"calibration": calibration, "held_out": held_out, "seed": seed}
        print_json({**settings, **counts, "errors": table})
    else:
        stdout_console().print(*_rows(table), sep="\n")


def _bits(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in BITS:
            raise UserError(f"--bits {text}: '{part}' must be one of {', '.join(BITS)}.")
    return [int(part) for part in parts]


def _built(name: str, weights: str | None) -> "Backbone":
    from harness.cards import BACKBONES

    choice = BACKBONES.choose(name)
    if choice.card.modalities != ("text",):
        raise UserError(
            f"--backbone {name}: it reads {', '.join(choice.card.modalities)}; this table needs a "
            "backbone that reads text alone, such as minilm."
        )
    config = choice.card.config(**choice.values)
    origin = weights or choice.card.packaged_weights(choice.preset)
    return BACKBONES.load(choice.card.name).build(config, weights=origin)


def _texts(path: Path | None, count: int, seed: int) -> Sequence[str]:
    """Return ``count`` texts of a file, or captions of scenes of the pretraining domain."""
    if path is None:
        from tasks.scenes.language import captions
        from tasks.scenes.scene import draw_scene, scene_generator

        return [
            captions(draw_scene("pretrain", seed, i), scene_generator("pretrain", seed, i, 0))[0]
            for i in range(count)
        ]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--texts {path}: cannot be read as text ({error}).") from None
    found = [line for line in lines if line]
    if len(found) < count:
        raise UserError(
            f"--texts {path}: {len(found)} texts; calibration and held-out texts need {count}. "
            "Ask for fewer with --calibration and --held-out."
        )
    return found[:count]


def _rows(table: dict[int, dict[str, float]]) -> list[str]:
    names = list(dict.fromkeys(name for errors in table.values() for name in errors))
    head = "".join(f"{count} bit".rjust(12) for count in table)
    plain = "".join(f"{errors['rtn']:.2g}".rjust(12) for errors in table.values())
    rows = [
        f"{name:<22}"
        + "".join(
            (f"{errors[name]:.3f}" if name in errors else "-").rjust(12)
            for errors in table.values()
        )
        for name in names
        if name != "rtn"
    ]
    return [
        f"{'':<22}{head}",
        f"{'plain rounding (rtn)':<22}{plain}   of the output's power",
        *rows,
        "Below the first row: held-out output error over that of plain rounding, geometric mean "
        "over layers.",
    ]
