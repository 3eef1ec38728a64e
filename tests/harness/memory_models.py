"""Small models for the memory tests: one transformer, trained in the ways that methods do it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from harness.memory.step import StepProgram

CLASSES = 5
VOCABULARY = 50


class Block(nn.Module):
    """Pre-norm block with eager attention."""

    def __init__(self, width: int, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, N, D/H]
        scores = self.dropout((query @ key.transpose(-2, -1)).softmax(-1))
        x = x + self.dropout(self.out((scores @ value).transpose(1, 2).reshape(x.shape)))
        return x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))


class Backbone(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width, heads, ratio, dropout) for _ in range(depth))
        self.saving = False

    def forward(self, tokens: Tensor) -> list[Tensor]:
        states = [self.embed(tokens)]
        for block in self.blocks:
            if self.saving:
                states.append(checkpoint(block, states[-1], use_reentrant=False))
            else:
                states.append(block(states[-1]))
        return states


class Classifier(nn.Module):
    def __init__(self, backbone: Backbone, width: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.backbone(tokens)[-1].mean(1))


class Ladder(nn.Module):
    """A side network over the taps of a backbone that runs without gradient."""

    def __init__(self, width: int, depth: int, side: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, side) for _ in range(depth + 1))
        self.mix = nn.ModuleList(nn.Linear(side, side) for _ in range(depth + 1))
        self.up = nn.Linear(side, width)

    def forward(self, taps: list[Tensor]) -> Tensor:
        state = torch.zeros((), device=taps[0].device)
        for down, mix, tap in zip(self.down, self.mix, taps, strict=True):
            state = functional.gelu(mix(state + down(tap)))
        return self.up(state)


class SideClassifier(nn.Module):
    def __init__(self, backbone: Backbone, side: Ladder, width: int) -> None:
        super().__init__()
        self.backbone, self.side, self.head = backbone, side, nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            taps = self.backbone(tokens)
        return self.head(self.side(taps).mean(1))


class _PackedLinear(torch.autograd.Function):
    """Multiply by weights that are unpacked again in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        ctx.save_for_backward(codes, scale, zero)
        return x @ unpacked(codes, scale, zero).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient @ unpacked(*ctx.saved_tensors), None, None, None


def unpacked(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    pairs = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)  # [out, in]
    return (pairs.to(scale.dtype) - zero) * scale


class Packed(nn.Module):
    """A linear layer of random 4-bit weights, two in a byte."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        shape = (like.out_features, like.in_features // 2)
        self.register_buffer("codes", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("scale", torch.full((like.out_features, 1), 0.01))
        self.register_buffer("zero", torch.full((like.out_features, 1), 8.0))

    def memory_categories(self) -> dict[str, str]:
        metadata = dict.fromkeys(("scale", "zero"), "quantization_metadata")
        return {"codes": "quantized_weights", **metadata}

    def forward(self, x: Tensor) -> Tensor:
        return _PackedLinear.apply(x, self.codes, self.scale, self.zero)


class Adapter(nn.Module):
    """A bottleneck after a block of the backbone, which belongs to the side."""

    memory_region = "side"

    def __init__(self, block: nn.Module, width: int) -> None:
        super().__init__()
        self.block, self.down, self.up = block, nn.Linear(width, 4), nn.Linear(4, width)
        self.block.memory_region = "backbone"

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return x + self.up(functional.gelu(self.down(x)))


def program_of(
    model: nn.Module, regions: Mapping[str, nn.Module], make_batch: Callable[[], Any]
) -> StepProgram:
    return StepProgram(
        model=model,
        regions=regions,
        make_batch=make_batch,
        output=lambda model, batch: model(batch),
        loss=lambda model, output, batch: output.square().mean(),
        make_optimizer=lambda model: torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=1e-3
        ),
        clip_norm=1.0,
    )


def full(
    batch: int = 2,
    length: int = 12,
    width: int = 16,
    depth: int = 2,
    heads: int = 2,
    ratio: int = 4,
    dropout: float = 0.1,
) -> StepProgram:
    backbone = Backbone(width, depth, heads, ratio, dropout)
    model = Classifier(backbone, width)

    def make_batch() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {
            "tokens": torch.randint(VOCABULARY, (batch, length), generator=generator),
            "labels": torch.randint(CLASSES, (batch,), generator=generator),
        }

    def loss(model: nn.Module, output: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(output, batch["labels"])

    regions = {"backbone": backbone, "head": model.head}
    program = program_of(model, regions, make_batch)
    return StepProgram(
        **{
            **vars(program),
            "output": lambda model, batch: model(batch["tokens"]),
            "loss": loss,
        }
    )


def _with_model(program: StepProgram, model: nn.Module) -> StepProgram:
    regions = {
        name: getattr(model, name) for name in ("backbone", "side", "head") if hasattr(model, name)
    }
    return StepProgram(**{**vars(program), "model": model, "regions": regions})


def bias_only(**shape: Any) -> StepProgram:
    program = full(**shape)
    for name, parameter in program.model.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name.startswith("head"))
    return program


def head_only(**shape: Any) -> StepProgram:
    program = full(**shape)
    program.regions["backbone"].requires_grad_(False)
    return program


def checkpointed(**shape: Any) -> StepProgram:
    program = full(**shape)
    program.model.backbone.saving = True
    return program


def in_place_adapter(width: int = 16, **shape: Any) -> StepProgram:
    program = head_only(width=width, **shape)
    blocks = program.model.backbone.blocks
    for index, block in enumerate(blocks):
        blocks[index] = Adapter(block, width)
    return program


def ladder(width: int = 16, depth: int = 2, **shape: Any) -> StepProgram:
    program = head_only(width=width, depth=depth, **shape)
    model = SideClassifier(program.model.backbone, Ladder(width, depth, 4), width)
    return _with_model(program, model)


def packed(**shape: Any) -> StepProgram:
    program = ladder(**shape)
    for block in program.model.backbone.blocks:
        for name in ("qkv", "out", "up", "down"):
            setattr(block, name, Packed(getattr(block, name)))
    return program
