"""In evaluation, what several rows of a batch read is encoded once.

A dozen questions may ask about one image: rows are taken in an order in which they meet.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.backbones.base import StreamSpec, StreamState
from harness.data import Examples
from methods.base import Method, States
from tasks.base import Split


def meeting_order(split: Split, specs: Sequence[StreamSpec]) -> np.ndarray:
    """Return all rows of ``split`` [rows] int64, those that read the same unit side by side.

    Args:
        split: the rows.
        specs: streams in their order; the first one that is made of units decides.
    """
    for spec in specs:
        if spec.by_unit:
            units = split.units[str(spec.modality)].reshape(len(split), -1)[:, 0]
            return np.argsort(units, kind="stable")
    return np.arange(len(split))


def read_ahead(
    examples: Examples, split: str, specs: Sequence[StreamSpec], parts: Sequence[np.ndarray]
) -> None:
    """Take notice of the rows that ``encode_once`` will be asked for next, one array a batch."""
    for spec in specs:
        if spec.by_unit:
            wanted = [_distinct(examples.split(split), spec, rows)[0] for rows in parts]
            examples.read_units_ahead(str(spec.modality), wanted)


def encode_once(method: Method, examples: Examples, split: str, rows: np.ndarray) -> States:
    """Return the states of ``rows``, as ``method`` encodes them, its adaptation still to come.

    Args:
        method: the adapted backbone.
        examples: the data.
        split: name of a split.
        rows: int64 positions in it.
    """
    states: States = {}
    for spec in method.specs:
        if spec.by_unit:
            units, index = _distinct(examples.split(split), spec, rows)
            inputs = examples.unit_inputs(str(spec.modality), units)
            state = method.encode(spec.name, inputs, {})
            states[spec.name] = _spread(state, index)
        else:
            inputs = {}
            if spec.modality:
                own = examples.split(split).units[spec.modality][rows].reshape(-1)
                inputs = examples.unit_inputs(spec.modality, own)
            states[spec.name] = method.encode(spec.name, inputs, states)
    return states


def _distinct(split: Split, spec: StreamSpec, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the units that ``rows`` read, each once, and where each row's unit is among them."""
    units = split.units[str(spec.modality)][rows].reshape(-1)
    distinct, index = np.unique(units, return_inverse=True)
    return distinct, index.reshape(-1)


def _spread(state: StreamState, index: np.ndarray) -> StreamState:
    """Return the state of the units at ``index``, with taps; itself where that is all in order."""
    if np.array_equal(index, np.arange(len(state.output))):
        return state
    chosen = torch.from_numpy(index).to(state.output.device)
    taps = tuple(tap.rows(chosen) for tap in state.taps)
    return replace(state.rows(chosen), taps=taps)
