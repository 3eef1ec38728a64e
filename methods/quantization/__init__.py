"""Low-bit backbones: packed storage, quantiser, Gaussian noise and re-quantisation (GNP-IQ).

A library for methods, not a method. This file imports no torch.
"""

from methods.quantization.config import Bits, QuantizationConfig

__all__ = ["Bits", "QuantizationConfig"]
