"""The settings of a low-bit backbone; torch-free, so that method cards can import it."""

from typing import Literal

from pydantic import Field, model_validator

from harness.registry import Config

Bits = Literal[2, 3, 4, 8]
Rounding = Literal["nearest", "floor"]
Range = Literal["include_zero", "literal", "float_min"]
Granularity = Literal["per_output_channel", "per_tensor", "group"]
Compute = Literal["float", "int8"]
Noise = Literal[
    "select",
    "none",
    "random",
    "moment",
    "range_jitter",
    "mu_channel",
    "mu_tensor",
    "mu_weight",
    "layer_recon",
    "spsa",
    "weight_mse",
]


class QuantizationConfig(Config):
    """Quantiser and re-quantisation of a frozen backbone (GNP-IQ, Eq. 1-5 of MP-ISMoE).

    A method's configuration derives from this class, so that every field is a field of it.
    """

    bits: Bits | None = Field(
        8, description="bits of a weight's code: 2, 3, 4 or 8; null keeps linear layers fp32"
    )
    embedding_bits: Bits | None = Field(
        8, description="bits of embeddings and their tied heads; null keeps them fp32"
    )
    compute: Compute = Field(
        "float",
        description="products of frozen linear layers: with the dequantised weight, or of integers "
        "(int8: inputs in 8 bits, each token on its own scale)",
    )
    tensors: Literal["weights", "all"] = Field(
        "weights",
        description="what becomes low-bit: weights of layers and embeddings, or all but norms: "
        "biases, and tables of positions, too",
    )
    rounding: Rounding = Field(
        "nearest", description="rounding of codes; floor is Eq. 1 as printed (4x the error)"
    )
    range: Range = Field(
        "include_zero",
        description="range of a group: widened to hold zero, literal Eq. 2, or stored minimum",
    )
    granularity: Granularity = Field(
        "per_output_channel", description="which weights share one scale and zero point"
    )
    group_size: int = Field(
        64, ge=1, description="weights in a group along the input (granularity=group)"
    )
    clip: Literal["none", "mse", "output"] = Field(
        "none", description="search a narrower range by weight error or by output error"
    )
    bias_correction: bool = Field(
        False, description="add the mean output error of the calibration rows to the bias"
    )
    init: Literal["rtn", "gptq"] = Field(
        "rtn", description="first codes: round to nearest, or GPTQ on the calibration rows"
    )
    noise: Noise = Field(
        "select",
        description="noise of a re-quantisation: best draw per output channel (select), one draw "
        "(random, Eq. 5; moment), learned (mu_*, layer_recon, spsa, weight_mse), or none",
    )
    noise_scale: float = Field(
        0.1, ge=0, description="standard deviation of the noise, in units of the scale s"
    )
    noise_draws: int = Field(
        32, ge=1, description="candidates of select and range_jitter; the first has no noise"
    )
    noise_steps: int = Field(50, ge=1, description="optimisation steps of learned noise")
    sample_percent: float = Field(
        10, gt=0, le=100, description="p: percent of the sample units that a round re-quantises"
    )
    sample_unit: Literal["groups", "tensors", "layers", "codes"] = Field(
        "groups",
        description="what p counts: output channels, weight tensors, whole layers, or single codes "
        "under the scale and zero point that they have",
    )
    requantize_every: int | None = Field(
        None, ge=1, description="M: epochs between rounds; null is one round, halfway"
    )
    accept: Literal["improve", "always"] = Field(
        "improve", description="keep a re-quantised channel only where its error falls, or always"
    )
    master: Literal["file", "none"] = Field(
        "file", description="what is perturbed: the full-precision file, or the dequantised codes"
    )
    accumulate: bool = Field(
        False, description="whether accepted noise stays in the master for later rounds"
    )
    calibration_rows: int = Field(
        128, ge=1, description="training rows whose activations measure output errors"
    )

    @model_validator(mode="after")
    def _check_bits(self) -> "QuantizationConfig":
        asked = {
            "noise": "none",
            "clip": "none",
            "init": "rtn",
            "bias_correction": False,
            "tensors": "weights",
            "compute": "float",
        }
        wrong = [
            f"{name}={getattr(self, name)}" for name, v in asked.items() if getattr(self, name) != v
        ]
        if not self.quantizes and wrong:
            raise ValueError(
                f"bits=null and embedding_bits=null leave nothing to quantise, but "
                f"{', '.join(wrong)} asks for it; set noise=none and leave the others"
            )
        return self

    @model_validator(mode="after")
    def _check_compute(self) -> "QuantizationConfig":
        if self.compute == "int8" and self.granularity == "group":
            raise ValueError(
                "compute=int8 sums whole rows of integers, which need one scale a channel; "
                "choose granularity=per_output_channel, or compute=float"
            )
        return self

    @model_validator(mode="after")
    def _check_unit(self) -> "QuantizationConfig":
        if self.sample_unit != "codes":
            return self
        if self.noise == "range_jitter":
            raise ValueError(
                "noise=range_jitter moves scales and zero points, which sample_unit=codes leaves "
                "alone; choose noise=select, or sample_unit=groups"
            )
        if self.accumulate:
            raise ValueError(
                "accumulate=true keeps the noise of whole channels; leave it false with "
                "sample_unit=codes"
            )
        return self

    @property
    def quantizes(self) -> bool:
        """Whether any weight becomes low-bit."""
        return self.bits is not None or self.embedding_bits is not None

    @property
    def needs_calibration(self) -> bool:
        """Whether output errors, and so calibration rows, are needed."""
        measured = self.noise not in ("none", "weight_mse")
        return measured or self.needs_initialisation

    @property
    def needs_initialisation(self) -> bool:
        """Whether the first codes depend on calibration rows."""
        return self.clip == "output" or self.bias_correction or self.init == "gptq"

    def requantizes_at(self, epoch: int, epochs: int) -> bool:
        """Tell whether a round comes before epoch ``epoch`` (0-based) of ``epochs``."""
        if self.noise == "none":
            return False
        if self.requantize_every is None:
            return epoch == epochs // 2
        return epoch > 0 and epoch % self.requantize_every == 0
