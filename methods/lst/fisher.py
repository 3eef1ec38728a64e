"""Side weights cut out of the backbone's by Fisher information (LST, section 3.3).

One set of kept dimensions is carried through a stream in forward order. Each layer keeps, of its
output rows, those whose weights at the kept inputs matter most; the side layer is that slice.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from harness.backbones.base import AttentionNames, Backbone
from harness.errors import UserError
from methods.base import Batch
from methods.lst.ladder import LadderStream
from methods.side.layers import Attention, Block, FeedForward

TEXT = ("text", "target")


@dataclass(frozen=True)
class BlockNames:
    """The layers of one block of the backbone, as its module names, in forward order."""

    attentions: tuple[AttentionNames, ...]
    up: str
    down: str
    norms: tuple[str, ...]


def block_names(backbone: Backbone, stream: str) -> list[BlockNames]:
    """Return the layers of a stream's blocks.

    Raises:
        UserError: the stream reads no text, or its feed-forward networks are gated.
    """
    if backbone.spec(stream).modality not in TEXT:
        raise UserError(
            f"side_init=fisher starts from a text embedding, which stream '{stream}' of "
            f"{type(backbone).__name__} has not; choose side_init=random."
        )
    return [_names_within(backbone, stream, block) for block in backbone.blocks(stream)]


def _names_within(backbone: Backbone, stream: str, block: str) -> BlockNames:
    inside = f"{block}."
    attentions = [a for a in backbone.attentions(stream) if a.query.startswith(inside)]
    projections = {n for a in attentions for n in (a.query, a.key, a.value, a.output)}
    linear = [
        f"{inside}{name}"
        for name, module in backbone.get_submodule(block).named_modules()
        if isinstance(module, nn.Linear) and f"{inside}{name}" not in projections
    ]
    if len(linear) != 2:
        raise UserError(
            f"side_init=fisher needs a feed-forward network of two layers, but '{block}' has "
            f"{len(linear)}: {', '.join(linear)}; choose side_init=random."
        )
    norms = tuple(n for n in backbone.norms(stream) if n.startswith(inside))
    return BlockNames(tuple(attentions), linear[0], linear[1], norms)


def pruned_weights(backbone: Backbone, stream: str) -> dict[str, nn.Parameter]:
    """Return the weights that importance is measured of, by module name."""
    names = [backbone.embedding_of(stream)]
    for block in block_names(backbone, stream):
        for a in block.attentions:
            names += [a.query, a.key, a.value, a.output]
        names += [block.up, block.down]
    return {name: backbone.get_submodule(name).get_parameter("weight") for name in names}


def empirical_fisher(
    weights: Mapping[str, nn.Parameter],
    rows: Iterator[Batch],
    loss: Callable[[Batch], Tensor],
) -> dict[str, Tensor]:
    """Return the squared gradient of the label loss, summed over rows, by name; float64.

    Args:
        weights: parameters of the frozen model; their ``requires_grad`` is restored.
        rows: batches of one row.
        loss: the loss of the backbone by itself.
    """
    distinct = {id(p): p for p in weights.values()}
    sums = {key: torch.zeros_like(p, dtype=torch.float64) for key, p in distinct.items()}
    before = {key: p.requires_grad for key, p in distinct.items()}
    try:
        for parameter in distinct.values():
            parameter.requires_grad_(True)
        for batch in rows:
            gradients = torch.autograd.grad(loss(batch), list(distinct.values()), allow_unused=True)
            for key, gradient in zip(distinct, gradients, strict=True):
                if gradient is not None:
                    sums[key] += gradient.double().square()
    finally:
        for key, parameter in distinct.items():
            parameter.requires_grad_(before[key])
    return {name: sums[id(parameter)] for name, parameter in weights.items()}


def single_rows(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield each row of the batches as a batch of its own."""
    for batch in batches:
        for i in range(len(batch.rows)):
            row = slice(i, i + 1)
            inputs = {name: value[row] for name, value in batch.inputs.items()}
            targets = {name: value[row] for name, value in batch.targets.items()}
            yield Batch(inputs, targets, batch.rows[row])


@torch.no_grad()
def prune_stream(side: LadderStream, backbone: Backbone, importance: Mapping[str, Tensor]) -> None:
    """Write slices of the backbone's weights into a side stream, in place.

    Blocks that the side stream skips are walked all the same. The stream's samplers are left.

    Args:
        side: the ladder of one stream.
        backbone: whose weights are cut.
        importance: by name of ``pruned_weights``, of each weight's shape.
    """
    walk = _Walk(side, backbone, importance)
    blocks = dict(zip(side.kept, side.blocks, strict=True))
    for index, names in enumerate(block_names(backbone, side.spec.name), start=1):
        walk.block(names, blocks.get(index))
    if side.spec.style.norm_first:
        walk.norm(backbone.norms(side.spec.name)[-1], side.norm)
    if side.positions is not None:
        tables = dict(zip(_streams_with_tables(backbone), backbone.position_tables(), strict=True))
        side.positions.table.weight.copy_(tables[side.spec.name])


def check_stream(side: LadderStream, backbone: Backbone) -> None:
    """Refuse what ``prune_stream`` could not do.

    Raises:
        UserError: a layer has no counterpart, or a table of positions another number of heads.
    """
    spec = side.spec
    block_names(backbone, spec.name)
    if side.positions is not None and side.positions.table.embedding_dim != spec.heads:
        raise UserError(
            f"side_init=fisher copies the position table of stream '{spec.name}' with its "
            f"{spec.heads} heads, but the side network has {side.positions.table.embedding_dim}; "
            f"choose another reduction, or side_init=random."
        )


def _streams_with_tables(backbone: Backbone) -> list[str]:
    return [spec.name for spec in backbone.specs if spec.style.position_buckets]


class _Walk:
    """The kept dimensions on their way through one stream."""

    def __init__(
        self, side: LadderStream, backbone: Backbone, importance: Mapping[str, Tensor]
    ) -> None:
        self.backbone = backbone
        self.importance = importance
        self.width = side.width
        self.norm_first = side.spec.style.norm_first
        self.share = side.width / side.spec.width
        embedding = importance[backbone.embedding_of(side.spec.name)]  # [V, D]
        self.kept = _top(embedding.sum(0), side.width)

    def block(self, names: BlockNames, side: nn.Module | None) -> None:
        """Walk through one block, and fill the side block where there is one."""
        assert side is None or isinstance(side, Block)
        norms = iter(names.norms)
        for position, attention in enumerate(names.attentions):
            layer = norm = None
            if side is not None:
                layer = side.cross_attention if position else side.attention
                norm = side.cross_norm if position else side.attention_norm
            self._sublayer(next(norms), norm, partial(self._attention, attention, layer))
        mixer = None if side is None else side.mixer
        norm = None if side is None else side.mixer_norm
        self._sublayer(next(norms), norm, partial(self._feed_forward, names, mixer))

    def norm(self, name: str, side: nn.Module | None) -> None:
        """Slice a norm with the dimensions kept so far."""
        if side is not None:
            for key, value in self.backbone.get_submodule(name).named_parameters():
                side.get_parameter(key).copy_(value[self.kept])

    def _sublayer(self, name: str, norm: nn.Module | None, walk: Callable[[], None]) -> None:
        if self.norm_first:
            self.norm(name, norm)
        walk()
        if not self.norm_first:
            self.norm(name, norm)

    def _attention(self, names: AttentionNames, side: Attention | None) -> None:
        inputs = self.kept
        product = torch.stack([p[:, inputs] for p in self._projections(names, "importance")])
        scores = product.prod(0).sum(1)  # [inner]
        inner = _top(scores, round(len(scores) * self.share))
        self.kept = self._rows(names.output, inner)
        if side is None:
            return
        weights = [w[inner][:, inputs] for w in self._projections(names, "weight")]
        biases = [b[inner] for b in self._projections(names, "bias")]
        if hasattr(side, "qkv"):
            _write(side.qkv, torch.cat(weights), biases)
        else:
            _write(side.q, weights[0], biases[:1])
            _write(side.kv, torch.cat(weights[1:]), biases[1:])
        self._write_slice(side.out, names.output, self.kept, inner)

    def _feed_forward(self, names: BlockNames, side: nn.Module | None) -> None:
        inputs = self.kept
        scores = self.importance[names.up][:, inputs].sum(1)  # [hidden]
        hidden = _top(scores, max(1, round(len(scores) * self.share)))
        self.kept = self._rows(names.down, hidden)
        if side is None:
            return
        assert isinstance(side, FeedForward)
        self._write_slice(side.up, names.up, hidden, inputs)
        self._write_slice(side.down, names.down, self.kept, hidden)

    def _rows(self, name: str, inputs: Tensor) -> Tensor:
        """Return the output rows [m] of a layer that goes back to the stream's width."""
        return _top(self.importance[name][:, inputs].sum(1), self.width)

    def _write_slice(self, side: nn.Linear, name: str, rows: Tensor, inputs: Tensor) -> None:
        layer = self.backbone.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        bias = [] if layer.bias is None else [layer.bias[rows]]
        _write(side, layer.weight[rows][:, inputs], bias)

    def _projections(self, names: AttentionNames, part: str) -> list[Tensor]:
        """Return query's, key's and value's importance, weights, or biases (none where none)."""

        def read(name: str) -> Tensor | None:
            if part == "importance":
                return self.importance[name]
            return getattr(self.backbone.get_submodule(name), part)

        if names.query == names.key:  # one fused layer, whose rows are theirs in turn
            whole = read(names.query)
            return [] if whole is None else list(whole.chunk(3))
        found = [read(name) for name in (names.query, names.key, names.value)]
        return [tensor for tensor in found if tensor is not None]


def _top(scores: Tensor, count: int) -> Tensor:
    """Return the positions of the ``count`` highest scores, in ascending order."""
    return scores.topk(count).indices.sort().values


def _write(side: nn.Linear, weight: Tensor, biases: list[Tensor]) -> None:
    side.weight.copy_(weight)
    if biases:
        side.bias.copy_(torch.cat(biases))
