"""What every backbone must do, with random weights."""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamState
from harness.cards import BACKBONES, BackboneCard
from harness.registry import Config
from harness.testing.cards import check_card
from harness.testing.small import random_inputs

TEXTS = ("is there a red circle?", "no", "what shape is left of the blue square?")


class BackboneContract:
    """Laws of a backbone.

    Attributes:
        name: its registered name.
        settings: fields of its configuration that make it small.
        image_size: height and width of the images that it is given, in pixels.
    """

    name: str
    settings: Mapping[str, object] = MappingProxyType({})
    image_size: int = 64

    @property
    def card(self) -> BackboneCard:
        """The backbone's card."""
        return BACKBONES.card(self.name)

    @property
    def config(self) -> Config:
        """The small configuration."""
        return self.card.config(**self.settings)

    def build(self, device: str = "cpu") -> Backbone:
        """Build with random weights."""
        backbone = BACKBONES.load(self.name).build(self.config, weights="random", device=device)
        assert isinstance(backbone, Backbone)
        return backbone.eval()

    def inputs(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return one row a text, with random images."""
        return random_inputs(backbone, TEXTS, self.image_size)

    def encode(
        self, backbone: Backbone, inputs: dict[str, Tensor], *, taps: bool = True
    ) -> dict[str, StreamState]:
        """Encode all streams without gradients."""
        states: dict[str, StreamState] = {}
        with torch.no_grad():
            for spec in backbone.specs:
                states[spec.name] = backbone.encode(spec.name, inputs, states, taps=taps)
        return states

    def test_card_describes_itself(self) -> None:
        """Texts, fields and streams are those of the implementation."""
        check_card(BACKBONES, self.name)
        backbone = self.build()
        assert tuple(s.name for s in backbone.specs) == self.card.streams
        assert set(self.card.modalities) == set(backbone.processors())

    def test_streams_come_after_their_sources(self) -> None:
        """A stream has tokens of one modality, or of earlier streams; it may cross to these."""
        seen: set[str] = set()
        for spec in self.build().specs:
            assert set(spec.sources) <= seen
            assert spec.sources or (spec.modality is not None and not spec.cross)
            assert spec.cross or spec.modality is None or not spec.sources
            seen.add(spec.name)

    def test_states_have_the_declared_shapes(self) -> None:
        """Outputs, masks, salient tokens and ``depth + 1`` taps."""
        backbone = self.build()
        for name, state in self.encode(backbone, self.inputs(backbone)).items():
            spec = backbone.spec(name)
            rows, tokens, width = state.output.shape
            assert (rows, width) == (len(TEXTS), spec.width)
            assert state.salient.shape == (rows, width)
            assert len(state.taps) == spec.depth + 1
            if state.mask is not None:
                assert state.mask.dtype == torch.bool
                assert state.mask.shape == (rows, tokens)
                assert bool(state.mask.any(1).all()), "every row has a real token"
            for layer, tap in enumerate(state.taps):
                assert tap.value.shape == state.output.shape or tap.layout == "BCHW"
                assert tap.tokens().shape[2] == spec.tap_width(layer)
                assert tap.tokens(state.taps[-1].grid).shape[1] == tokens

    def test_taps_are_kept_only_on_request(self) -> None:
        """Without ``taps`` a state has none, and the same output."""
        backbone = self.build()
        inputs = self.inputs(backbone)
        with_taps, without = (self.encode(backbone, inputs, taps=t) for t in (True, False))
        for name, state in without.items():
            assert state.taps == ()
            assert torch.equal(state.output, with_taps[name].output)

    def test_salient_token_is_the_selected_one(self) -> None:
        """A state's salient token is ``select_salient`` of its output."""
        backbone = self.build()
        for name, state in self.encode(backbone, self.inputs(backbone)).items():
            selected = backbone.select_salient(name, state.output, state.mask)
            assert torch.equal(state.salient, selected)

    def test_rows_are_independent(self) -> None:
        """A row alone, without the padding of its batch, has the same salient token."""
        backbone = self.build()
        inputs = self.inputs(backbone)
        whole = self.encode(backbone, inputs)
        alone = self.encode(backbone, {k: v[2:3] for k, v in inputs.items()})
        for name, state in whole.items():
            assert torch.allclose(state.salient[2:3], alone[name].salient, atol=1e-4)

    def test_padding_changes_nothing(self) -> None:
        """A text's states are those of the text alone, however long its batch is."""
        backbone = self.build()
        if "text" not in backbone.processors():
            pytest.skip("no text")
        process = backbone.processors()["text"]
        inputs = self.inputs(backbone)
        short = {**{k: v[1:2] for k, v in inputs.items()}, **process([TEXTS[1]])}
        padded = self.encode(backbone, inputs)
        alone = self.encode(backbone, short)
        for name, state in alone.items():
            assert torch.allclose(state.salient, padded[name].salient[1:2], atol=1e-4)

    def test_causal_streams_do_not_see_the_future(self) -> None:
        """Changing the last token of a causal stream changes no earlier state."""
        backbone = self.build()
        causal = [s for s in backbone.specs if s.causal]
        if not causal:
            pytest.skip("no causal stream")
        inputs = {k: v[:1] for k, v in self.inputs(backbone).items()}
        for spec in causal:
            process = backbone.processors()[str(spec.modality)]
            texts = [process([text]) for text in ("abcd", "abce")]
            outputs = [self.encode(backbone, {**inputs, **t})[spec.name].output for t in texts]
            changed = next(
                v != texts[1][k] for k, v in texts[0].items() if (v != texts[1][k]).any()
            )
            first = int(changed[0].nonzero()[0])
            assert torch.allclose(outputs[0][:, :first], outputs[1][:, :first], atol=1e-5)
            assert not torch.allclose(outputs[0][:, first:], outputs[1][:, first:])

    def test_tokens_one_by_one_are_the_tokens_at_once(self) -> None:
        """A cached stream gives the states that it gives without a cache."""
        if "generation" not in self.card.provides:
            pytest.skip("writes no text")
        backbone = self.build()
        inputs = self.inputs(backbone)
        states = self.encode(backbone, inputs)
        for spec in (s for s in backbone.specs if s.causal):
            key = backbone.tokens_of(spec.name)
            cache = backbone.new_cache()
            with torch.no_grad():
                steps = [
                    backbone.encode(spec.name, {key: token}, states, cache=cache).output
                    for token in inputs[key].split(1, dim=1)
                ]
            assert torch.allclose(torch.cat(steps, 1), states[spec.name].output, atol=1e-4)

    def test_a_prompt_stands_before_the_content(self) -> None:
        """A prompt makes a stream longer; its content keeps its length and is changed by it."""
        if "prompt" not in self.card.provides:
            pytest.skip("takes no prompt")
        backbone = self.build()
        inputs = self.inputs(backbone)
        plain = self.encode(backbone, inputs)
        for spec in (s for s in backbone.specs if s.modality == "text"):
            generator = torch.Generator().manual_seed(0)
            prompt = torch.randn(3, spec.width, generator=generator)
            with torch.no_grad():
                state = backbone.encode(spec.name, inputs, {}, prompt=prompt)
            content = state.output[:, state.content]
            assert state.output.shape[1] == content.shape[1] + 3
            assert content.shape == plain[spec.name].output.shape
            assert not torch.allclose(content, plain[spec.name].output)

    def test_the_last_block_alone_ends_the_stream(self) -> None:
        """``run_late`` maps the last but one hidden state to the last."""
        if "late_block" not in self.card.provides:
            pytest.skip("cannot run its last block alone")
        backbone = self.build()
        states = self.encode(backbone, self.inputs(backbone))
        for spec in (s for s in backbone.specs if s.depth):
            state = states[spec.name]
            crossed = states[spec.sources[0]] if spec.cross else None
            with torch.no_grad():
                late = backbone.run_late(
                    spec.name,
                    state.taps[-2].tokens(),
                    state.mask,
                    memory=None if crossed is None else crossed.output,
                    memory_mask=None if crossed is None else crossed.mask,
                )
            assert torch.allclose(late, state.taps[-1].tokens(), atol=1e-5)

    def test_attentions_are_linear_layers(self) -> None:
        """Query, key, value and output of every attention, fused or apart."""
        backbone = self.build()
        for spec in backbone.specs:
            sites = backbone.attentions(spec.name)
            per_block = 0 if spec.convolutional else 1 + spec.cross
            assert len(sites) == spec.depth * per_block
            for site in sites:
                for name in (site.query, site.key, site.value, site.output):
                    assert isinstance(backbone.get_submodule(name), nn.Linear)

    def test_module_names_exist(self) -> None:
        """Blocks, sub-layers, norms and quantisable layers are modules of the right kind."""
        backbone = self.build()
        for spec in backbone.specs:
            assert len(backbone.blocks(spec.name)) == spec.depth
            assert len(backbone.sublayers(spec.name)) == (not spec.convolutional) * 2 * spec.depth
            assert backbone.norms(spec.name)
            for name in (*backbone.blocks(spec.name), *backbone.sublayers(spec.name)):
                backbone.get_submodule(name)
            for name in backbone.norms(spec.name):
                assert "norm" in type(backbone.get_submodule(name)).__name__.lower()
        names = backbone.quantizable()
        assert len(set(names)) == len(names) > 0
        for name in names:
            kinds = nn.Linear | nn.Embedding | nn.Conv2d
            assert isinstance(backbone.get_submodule(name), kinds)

    def test_sublayer_outputs_are_tokens(self) -> None:
        """Adapters can be put behind every sub-layer."""
        backbone = self.build()
        shapes: dict[str, torch.Size] = {}

        def note(name: str, output: Tensor) -> None:
            shapes[name] = output.shape

        widths = {n: s.width for s in backbone.specs for n in backbone.sublayers(s.name)}
        for name in widths:
            module = backbone.get_submodule(name)
            module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        self.encode(backbone, self.inputs(backbone))
        assert {name: shape[-1] for name, shape in shapes.items()} == widths
        assert all(len(shape) == 3 for shape in shapes.values())

    def test_texts_that_are_cut_are_known(self) -> None:
        """``cuts`` names the texts of which the processor leaves out the end."""
        backbone = self.build()
        if "text" not in self.card.modalities:
            return
        texts = ["no " * words for words in range(1, 200)]
        cut = backbone.cuts(texts)
        first = cut.index(True)
        assert cut == [False] * first + [True] * (len(texts) - first)
        read = [
            backbone.processors()["text"]([text]).values() for text in texts[first - 2 : first + 2]
        ]
        same = [
            all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*pair, strict=True))
            for pair in pairwise(read)
        ]
        assert same[0] is False
        assert same[-1] is True

    def test_same_seed_same_weights(self) -> None:
        """Random weights are a function of the configuration, and name themselves."""
        states = [self.build().state_dict() for _ in range(2)]
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
        assert self.build().weights_hash.startswith("random")

    def test_shapes_without_weights(self) -> None:
        """The meta device gives the same parameters."""
        meta = dict(self.build("meta").named_parameters())
        for name, parameter in self.build().named_parameters():
            assert meta[name].is_meta
            assert meta[name].shape == parameter.shape

    def test_gradients_reach_every_parameter(self) -> None:
        """Full fine-tuning of all streams, and of what embeds them, trains everything."""
        backbone = self.build()
        backbone.requires_grad_(True)
        states: dict[str, StreamState] = {}
        inputs = self.inputs(backbone)
        for spec in backbone.specs:
            states[spec.name] = backbone.encode(spec.name, inputs, states)
        heard = [s.output.square().mean() for s in states.values()]
        for spec in backbone.specs if "embedding" in self.card.provides else ():
            embedded = backbone.embed(spec.name, states[spec.name].salient)
            assert embedded.shape == (len(TEXTS), spec.embedding_width)
            heard.append(embedded.square().mean())
        torch.stack(heard).sum().backward()
        assert not [n for n, p in backbone.named_parameters() if p.grad is None]
