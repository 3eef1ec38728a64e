"""MP-ISMoE: a low-bit frozen backbone beside a sparse side network."""

from typing import Literal

from pydantic import Field, model_validator

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from methods.experts.config import ExpertsConfig
from methods.lst import LstConfig
from methods.mp_ismoe.readings import READINGS
from methods.official import glue, hosts
from methods.quantization.config import QuantizationConfig
from methods.side.config import T5_BASE_LAYERS, T5_LARGE_LAYERS
from methods.side.cost import SIDE_WIDTH, TAPS

Precision = Literal["amp", "mixed", "low"]


class MpIsmoeConfig(QuantizationConfig, ExpertsConfig, LstConfig):
    """Settings of the low-bit backbone, of the experts and of the host, on one level."""

    host: Literal["unipt", "sherl", "lst"] = Field(
        "unipt",
        description="the side network that the experts join: in place of UniPT's projection, "
        "behind the sum of SHERL's tiers, or in place of every LST block's feed-forward network",
    )
    mixture: bool = Field(
        True,
        description="whether experts take their place; false leaves the host's own layer there, "
        "so that the low-bit backbone alone is seen (GNP-IQ)",
    )
    placement: Literal["aggregate", "per_tap", "per_tap_shared", "upsampled"] = Field(
        "aggregate",
        description="where UniPT holds experts: in place of its projection; behind every meeting, "
        "with own or shared experts; or behind the upsampler (host=unipt)",
    )
    train_norms: Literal["side_copy", "none", "late_only", "counted_no_grad"] = Field(  # type: ignore[assignment]
        "side_copy",
        description="which norms train: a copy of a stream's final norm after the upsampler (on "
        "host=sherl the new one that its network ends in), none, those of the last block that "
        "host=sherl runs with gradients anyway, or all of the backbone's, counted as trainable "
        "though no gradient reaches them",
    )
    precision: Precision = Field(
        "amp",
        description="as train.amp says; fp32 norms and side weights under bf16 autocast (mixed); "
        "or norms, biases and side network all stored in bf16, with no fp32 weight left (low)",
    )

    @model_validator(mode="after")
    def _check_side_init(self) -> "MpIsmoeConfig":
        if self.side_init != "random":
            raise ValueError(
                f"side_init={self.side_init} needs gradients of the backbone's weights, and codes "
                f"have none; leave side_init=random, or choose method lst"
            )
        return self

    @model_validator(mode="after")
    def _check_norms(self) -> "MpIsmoeConfig":
        if self.train_norms == "late_only" and self.host != "sherl":
            raise ValueError(
                f"train_norms=late_only is of host=sherl; host={self.host} runs no block of the "
                f"backbone with gradients, so choose side_copy or none"
            )
        if self.train_norms == "late_only" and self.join != "none":
            raise ValueError(
                f"train_norms=late_only changes the output that join={self.join} lets in as the "
                f"frozen one; leave join=none, or choose train_norms=side_copy"
            )
        if self.train_norms == "late_only" and self.salient_layer == "last":
            raise ValueError(
                "train_norms=late_only changes the hidden state that salient_layer=last takes for "
                "a frozen one; choose salient_layer=tap or embedding, or train_norms=side_copy"
            )
        if self.train_norms == "none" and self.host == "sherl":
            raise ValueError(
                "train_norms=none with host=sherl: its network ends in a new norm, which trains; "
                "choose side_copy"
            )
        return self

    @model_validator(mode="after")
    def _check_placement(self) -> "MpIsmoeConfig":
        if self.host != "unipt" and self.placement != "aggregate":
            raise ValueError(
                f"placement={self.placement} is of host=unipt; host={self.host} has one place for "
                f"its experts, so leave placement=aggregate"
            )
        if not self.mixture and self.placement != "aggregate":
            raise ValueError(
                f"mixture=false has no experts to stand at placement={self.placement}; "
                f"leave placement=aggregate"
            )
        return self


_T5 = {
    "reduction": 4,
    "train_norms": "counted_no_grad",
    "router_bias": False,
    "correlation_norm": "dot",
}

CARD = MethodCard(
    name="mp_ismoe",
    revision=4,
    summary="Low-bit backbone re-quantised with noise (GNP-IQ) and a side mixture-of-experts.",
    source="MP-ISMoE: Mixed-Precision Interactive Side Mixture-of-Experts, AAAI 2026",
    config=MpIsmoeConfig,
    implementation="methods.mp_ismoe.model:MpIsmoe",
    family="side",
    requires=frozenset({"taps"}),
    backbone_gradients=False,
    presets={
        "literal": {
            "tensors": "all",
            "rounding": "floor",
            "range": "literal",
            "noise": "random",
            "accept": "always",
            "requantize_every": 1,
            "router_weight": "resoftmax",
            "correlation_norm": "dot",
        },
        "gnp_iq": {"mixture": False},
        "ismoe": {"bits": None, "embedding_bits": None, "noise": "none"},
        "no_noise": {"noise": "none"},
        "no_correlation": {"correlation": "off"},
        "one_expert": {"experts": 1, "top_k": 1},
        "low_pre": {"precision": "low"},
        "low_pre_no_noise": {"precision": "low", "noise": "none"},
        "mixed_pre": {"precision": "mixed"},
        "mixed_pre_no_noise": {"precision": "mixed", "noise": "none"},
        "lst": {"host": "lst"},
        "sherl": {"host": "sherl", "reduction": 8},
    },
    train={"lr": 3e-3, "amp": "auto"},
    published={
        "t5-base": Published(values=_T5 | {"layers": T5_BASE_LAYERS}, trainable="2.41 %"),
        "t5-large": Published(
            values=_T5 | {"layers": T5_LARGE_LAYERS},
            trainable="1.75 %",
            note="No single rule reproduces all published counts.",
        ),
    },
    grows=Growth(field="experts"),
    trains="The side network: for each stream downsamplers with norms, confidence, N experts with "
    "their router and vectors r; an upsampler and a copy of the final norm for each stream that is "
    "read. The backbone's codes change in re-quantisation, by no gradient.",
    gradient="It stays in the side network: hidden states and salient tokens enter it without a "
    "graph.",
    cost=Cost(
        trainable="S*(K*(d*m + 3*m) + m + 1 + 2*N*m*H + N*(m + 1 + d) + 1 + 2*m) "
        "+ (R + C)*(d*m + d + g*d)",
        saved="B*T*(S*(K*(d + 2*m) + (K - 1)*(2*m + T) + 3*m + k*(H + 2*m)) "
        "+ C*(d + 2*m + T) + (R + C)*(5 - 2*g)*d)",
        symbols={
            **SIDE_WIDTH,
            **TAPS,
            "N": Symbol(meaning="experts of a mixture", field="experts"),
            "k": Symbol(meaning="experts that work on a token", field="top_k"),
            "H": Symbol(meaning="hidden size of an expert, with expert_hidden=4m", value="4*m"),
        },
        note="On host=unipt, with one mixture a stream. Of n weights at a bit-width, codes take "
        "ceil(bits * n / 8) bytes, and every output channel a scale and a zero point.",
    ),
    official={
        **glue(
            "8-bit backbone, 16-bit side network; N, k, p, M and the rates are not in the paper, "
            "and these are the hosts'"
        ),
        **hosts(*["as on the host"] * 4),
    },
    deviations=(
        "No code is released. Where the equations cannot be followed as printed, or would lose "
        "what they are for, the readings differ; mp_ismoe@literal follows them as printed.",
        "The side network is in bf16 where the device computes it natively (train.amp=auto), with "
        "fp32 weights; precision=low and mixed are the paper's Low-Pre and Mixed-Pre.",
        "Dropout of the frozen backbone is off, and the side network has none.",
    ),
    readings=READINGS,
)
