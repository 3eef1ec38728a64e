"""What every method must do, on a tiny backbone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.cards import METHODS, MethodCard
from harness.errors import UserError
from harness.memory.measure import measure
from harness.memory.predict import predict_train_peak
from harness.memory.step import StepProgram
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.cards import check_card
from harness.testing.methods import ProbedModel, TinyContext, build_method, snapshot, train_steps
from methods.base import InPlaceMethod, Method, SideMethod

TINY_STREAMS = ("image", "text", "joint")


class MethodContract:
    """Laws of a method.

    Attributes:
        name: ``method`` or ``method@preset``.
        rows_independent: whether a row's output depends on that row alone.
    """

    name: str
    rows_independent: bool = True

    @property
    def card(self) -> MethodCard:
        """The method's card."""
        return METHODS.choose(self.name).card

    def build(self, **options: Any) -> Method:
        """Build the method, on a tiny backbone of its own."""
        return build_method(self.name, **options)

    def inputs(self) -> dict[str, Tensor]:
        """Return a batch of three rows with texts of different lengths."""
        return tiny_inputs(TinyBackbone.build(TinyConfig()))

    def test_card_describes_itself(self) -> None:
        """Summary, source, presets and fields are complete."""
        check_card(METHODS, self.name.partition("@")[0])

    def test_family_matches_the_base_class(self) -> None:
        """A frozen backbone is read by a ``SideMethod``, a trained one by an ``InPlaceMethod``."""
        frozen = not self.card.backbone_gradients
        assert isinstance(self.build(), SideMethod if frozen else InPlaceMethod)

    @pytest.mark.parametrize("stream", TINY_STREAMS)
    def test_keeps_the_shape_of_every_stream(self, stream: str) -> None:
        """Output, salient token and mask look like the backbone's own, without taps."""
        try:
            method = self.build(reads=(stream,)).eval()
        except UserError as refusal:
            pytest.skip(str(refusal))
        inputs = self.inputs()
        adapted = method(inputs)[stream]
        frozen: dict[str, Any] = {}
        for spec in method.backbone.needed((stream,)):
            frozen[spec.name] = method.backbone.encode(spec.name, inputs, frozen)
        expected = frozen[stream]
        assert adapted.output.shape == expected.output.shape
        assert adapted.salient.shape == expected.salient.shape
        assert adapted.output.dtype == torch.float32
        assert adapted.taps == ()
        assert (adapted.mask is None) == (expected.mask is None)
        assert bool(adapted.output.isfinite().all())

    def test_several_streams_at_once(self) -> None:
        """A head may read all streams."""
        states = self.build(reads=TINY_STREAMS)(self.inputs())
        assert set(TINY_STREAMS) <= set(states)

    def test_runs_under_bf16_autocast(self) -> None:
        """Forward and backward pass work in mixed precision, and gradients are finite."""
        model = ProbedModel(self.build()).train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(self.inputs())
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(bool(g.isfinite().all()) for g in gradients)

    def test_trains_exactly_what_it_says(self) -> None:
        """Groups and parts name each trainable parameter once, and each gets a gradient."""
        method = self.build(reads=TINY_STREAMS)
        trainable = {id(p) for p in method.parameters() if p.requires_grad}
        grouped = [id(p) for group in method.param_groups() for p in group["params"]]
        parted = [id(p) for part in method.parts().values() for p in part]
        assert sorted(grouped) == sorted(trainable)
        assert sorted(parted) == sorted(trainable)
        model = ProbedModel(method).train()
        model.loss(self.inputs()).backward()
        missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing

    def test_frozen_is_frozen(self) -> None:
        """A training step changes no frozen parameter and no buffer of the backbone."""
        method = self.build()
        model = ProbedModel(method)
        trainable = {n for n, p in method.backbone.named_parameters() if p.requires_grad}
        assert not trainable or self.card.backbone_gradients
        before = snapshot(method.backbone)
        train_steps(model, self.inputs(), steps=2)
        after = method.backbone.state_dict()
        for name, value in before.items():
            assert name in trainable or torch.equal(after[name], value), name

    def test_padding_changes_nothing(self) -> None:
        """Real tokens are blind to padding."""
        method = self.build().eval()
        inputs = self.inputs()
        longer = {**inputs, "tokens": torch.nn.functional.pad(inputs["tokens"], (0, 3))}
        with torch.no_grad():
            short, long = (method(i)["joint"] for i in (inputs, longer))
        assert short.mask is not None
        assert long.mask is not None
        assert torch.allclose(short.output[short.mask], long.output[long.mask], atol=1e-5)
        assert torch.allclose(short.salient, long.salient, atol=1e-5)

    def test_rows_are_independent(self) -> None:
        """A row's output does not depend on the other rows of its batch."""
        if not self.rows_independent:
            pytest.skip("the method mixes rows on purpose")
        method = self.build().eval()
        inputs = self.inputs()
        with torch.no_grad():
            whole = method(inputs)["joint"].output
            alone = method({k: v[1:2] for k, v in inputs.items()})["joint"].output
        assert torch.allclose(whole[1:2], alone, atol=1e-5)

    def test_same_seed_same_model(self) -> None:
        """Two models of one seed have the same outputs after the same steps."""
        outputs = []
        for _ in range(2):
            method = self.build(seed=3)
            torch.manual_seed(0)
            train_steps(ProbedModel(method), self.inputs())
            method.eval()
            with torch.no_grad():
                outputs.append(method(self.inputs())["joint"].output)
        assert torch.equal(*outputs)

    def test_a_checkpoint_restores_the_outputs(self) -> None:
        """Trained parameters and extra state are the whole difference from a new model."""
        fitted = self.build(seed=1)
        model = ProbedModel(fitted)
        context = TinyContext(model, self.inputs())
        fitted.on_fit_start(context)
        for epoch in range(context.epochs):
            fitted.on_epoch_start(context, epoch)
            train_steps(model, self.inputs())
        restored = self.build(seed=2)
        restored.load_extra_state({k: v.clone() for k, v in fitted.extra_state().items()})
        with torch.no_grad():
            for group, source in zip(restored.param_groups(), fitted.param_groups(), strict=True):
                for new, old in zip(group["params"], source["params"], strict=True):
                    new.copy_(old)
            outputs = [m.eval()(self.inputs())["joint"].output for m in (fitted, restored)]
        assert torch.equal(*outputs)
        assert fitted.backbone_state_hash() == restored.backbone_state_hash()

    def test_side_is_a_function_of_frozen_states(self) -> None:
        """A stored frozen state gives the same output as the whole forward pass."""
        method = self.build().eval()
        if not isinstance(method, SideMethod):
            pytest.skip("the backbone is not frozen")
        inputs = self.inputs()
        with torch.no_grad():
            stored = method.side(method.frozen(inputs))["joint"].output
            assert torch.equal(stored, method(inputs)["joint"].output)

    @pytest.mark.parametrize("stream", ["text", pytest.param("joint", marks=pytest.mark.slow)])
    def test_memory_is_predicted_and_the_backbone_saves_nothing(self, stream: str) -> None:
        """Prediction equals the trace; a frozen backbone saves no activation.

        A late block, through which a side method sends its gradients, is exempt.
        """
        report = measure(self.step_program(stream))
        assert report.predicted_train_peak_bytes == report.traced_train_peak_bytes
        assert 0 <= report.residual_bytes <= 64
        if not self.card.backbone_gradients and "late_block" not in self.card.requires:
            assert report.at_peak_bytes["saved_backbone"] == 0

    def test_structure_can_be_built_without_weights(self) -> None:
        """Parameters can be counted on the meta device."""
        real = self.build()
        config = TinyConfig(width=32, heads=4)
        with torch.device("meta"):
            meta = self.build(backbone=TinyBackbone.build(config, device="meta"))
        shapes = [
            {name: p.shape for name, p in m.named_parameters() if p.requires_grad}
            for m in (real, meta)
        ]
        assert shapes[0] == shapes[1]

    def test_grows_with_the_number_that_the_card_names(self) -> None:
        """Trainable parameters and predicted memory rise with it, or as it falls."""
        growth = self.card.grows
        if growth is None or "@" in self.name:
            pytest.skip("nothing grows, or a preset may hold it still")
        start = self.card.config().model_dump()[growth.field] or growth.step
        values = (start, start + growth.step) if growth.rising else (2, 1)
        programs = [self.step_program("text", **{growth.field: value}) for value in values]
        small, large = (
            (
                sum(p.numel() for p in program.model.parameters() if p.requires_grad),
                predict_train_peak(program),
            )
            for program in programs
        )
        assert small[0] < large[0]
        assert small[1] < large[1]

    def step_program(self, stream: str, **options: Any) -> StepProgram:
        """Return one training step whose head reads ``stream``, for the memory tracker."""
        model = ProbedModel(self.build(reads=(stream,), **options))
        method = model.method
        inputs = self.inputs()
        return StepProgram(
            model=model,
            regions={"backbone": method.backbone, "side": method, "head": model.heads},
            make_batch=lambda: inputs,
            output=lambda m, batch: m(batch),
            loss=lambda m, output, _: m.loss_of(output),  # type: ignore[operator]
            make_optimizer=lambda m: torch.optim.AdamW(m.trained(), lr=1e-3),  # type: ignore[operator]
            clip_norm=1.0,
            accumulation_steps=1,
        )
