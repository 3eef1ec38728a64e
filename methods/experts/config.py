"""The settings of a mixture of experts; torch-free, so that method cards can import it."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness.registry import Config

RouterWeight = Literal["auto", "renorm", "switch", "resoftmax", "raw"]
Correlation = Literal["salient", "off", "constant", "shuffled"]
CorrelationNorm = Literal["cosine", "dot", "l1", "minmax", "l2", "zscore"]


class ExpertsConfig(Config):
    """Settings of ISMoE (MP-ISMoE, Eq. 6-8).

    A method's configuration derives from this class, so that every field is a field of it.
    """

    experts: int = Field(4, ge=1, description="N: experts of a mixture")
    top_k: int = Field(
        2, ge=1, validate_default=True, description="k: experts that work on a token, at most N"
    )
    expert_hidden: int | Literal["4m", "m", "d"] = Field(
        "4m", description="hidden size of an expert: a number, or by the side or backbone width"
    )
    expert_init: Literal["auto", "replicate", "independent"] = Field(
        "auto",
        description="experts start as jittered copies (replicate) or apart; auto: copies on lst",
    )
    jitter: float = Field(
        0.05, ge=0, description="noise on replicated experts, in standard deviations of a weight"
    )
    router_weight: RouterWeight = Field(
        "auto",
        description="weights of chosen experts: their g' (switch), g' over its sum (renorm), "
        "softmax of g' (resoftmax, literal Eq. 6) or of the router's logits (raw), where r gets "
        "no gradient; auto: switch at k=1, else renorm. At k=1 resoftmax and raw are 1, and the "
        "router learns nothing",
    )
    router_bias: bool = Field(True, description="whether the router's linear layer has a bias")
    router_temperature: float = Field(
        1.0, gt=0, description="divides the router's logits before any softmax"
    )
    correlation: Correlation = Field(
        "salient",
        description="what joins the router (Eq. 7): the salient token, nothing, or a control (a "
        "constant vector, another row's token)",
    )
    correlation_norm: CorrelationNorm = Field(
        "cosine",
        description="Norm of Eq. 7: softmax of tau cos(h0, r), of the scaled product (dot) or "
        "z-score, l1norm(ReLU), min-max, or squares (l2)",
    )
    correlation_width: Literal["backbone", "side"] = Field(
        "backbone", description="width of r: the backbone's, or the side's on a projected h0"
    )
    salient_layer: Literal["tap", "last", "embedding"] = Field(
        "tap", description="hidden state that h0 comes from: the tap that feeds the experts, ..."
    )
    salient_token: Literal["backbone", "first", "mean"] = Field(
        "backbone", description="h0: what the backbone calls salient, the first token, or the mean"
    )
    load_balance: float = Field(
        0.0, ge=0, description="coefficient of the Switch load-balancing loss"
    )
    dispatch: Literal["sparse", "dense"] = Field(
        "sparse", description="run the chosen experts alone, or all and mask (N-fold activations)"
    )

    @field_validator("top_k")
    @classmethod
    def _check_top_k(cls, value: int, info: ValidationInfo) -> int:
        experts = info.data.get("experts", value)  # absent where it is wrong itself
        if value > experts:
            raise ValueError(
                f"more than experts={experts}; choose {experts} or less, or more experts"
            )
        return value

    @model_validator(mode="after")
    def _check_choice(self) -> "ExpertsConfig":
        if self.router_weight == "renorm" and self.top_k == 1:
            raise ValueError(
                "router_weight=renorm with top_k=1 gives every chosen expert the weight 1 and the "
                "router no gradient; choose router_weight=auto (or switch), or top_k=2"
            )
        return self
