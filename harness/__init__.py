"""Benchmark and ablation harness for memory-efficient transfer learning."""

__version__ = "0.1.0"
