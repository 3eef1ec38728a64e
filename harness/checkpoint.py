"""Checkpoints: one safetensors file that holds all that a run needs to go on.

The header carries the JSON part (epoch, history, scalars); tensors are trained parameters,
optimizer state, generator states, quantiser codes and the best weights so far. Nothing is pickled.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from harness.errors import UserError

Tensors = dict[str, Tensor]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-ready state atomically.

    Raises:
        OSError: the file cannot be written, for instance as the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        try:
            save_file(whole, draft, metadata={"state": json.dumps(state)})
        except SafetensorError as error:
            raise _system_error(error) from error
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _system_error(error: SafetensorError) -> Exception:
    """Return the operating system's error that safetensors tells in words, else ``error``."""
    told = re.search(r"os error (\d+)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else error


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what ``save_tensors`` wrote.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}). Delete it to begin this run anew."
        ) from error


def read_tensor(file: Any, name: str) -> Tensor:
    """Return a tensor of an open safetensors file: a real one, even while models are fake."""
    with unset_fake_temporarily():
        tensor: Tensor = file.get_tensor(name)
    return tensor


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return ``tensors`` with ``prefix.`` before every name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors whose name begins with ``prefix.``, without it."""
    start = f"{prefix}."
    return {n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)}


def trained_tensors(model: nn.Module) -> Tensors:
    """Return copies of all trainable parameters by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def load_trained(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into the trainable parameters of the same names.

    Raises:
        UserError: names or shapes are others.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    here, there = ({(n, t.shape) for n, t in held.items()} for held in (parameters, tensors))
    if here != there:
        odd = sorted({name for name, _ in here ^ there})[:3]
        raise UserError(f"The saved parameters do not fit this model; they differ in {odd}.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def batch_statistics(model: nn.Module) -> Tensors:
    """Return the running statistics of batch norms, which are state beside the parameters."""
    ends = (".running_mean", ".running_var")
    return {name: buffer for name, buffer in model.named_buffers() if name.endswith(ends)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return the optimizer's state as plain tensors named ``PARAMETER_INDEX.FIELD``.

    A tensor subclass, such as a low-bit moment, gives its parts: ``PARAMETER_INDEX.FIELD.PART``.
    """
    state = optimizer.state_dict()["state"]
    return {
        name: part
        for index, fields in state.items()
        for field, value in fields.items()
        for name, part in _parts(f"{index}.{field}", torch.as_tensor(value)).items()
    }


def _parts(name: str, tensor: Tensor) -> Tensors:
    if not is_traceable_wrapper_subclass(tensor):
        return {name: tensor}
    return {f"{name}.{part}": getattr(tensor, part) for part in tensor.__tensor_flatten__()[0]}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what ``optimizer_tensors`` returned.

    An optimizer that keeps tensor subclasses has ``new_buffer(parameter, field)``, which returns
    an empty one for the parts to be copied into.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, field, *part = name.split(".")
        fields = state.setdefault(int(index), {})
        if not part:
            counter = value.ndim == 0 and not value.is_floating_point()
            fields[field] = int(value) if counter else value.clone()
            continue
        if field not in fields:
            fields[field] = optimizer.new_buffer(parameters[int(index)], field)  # type: ignore[attr-defined]
        getattr(fields[field], part[0]).copy_(value)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def generator_tensors(generator: torch.Generator) -> Tensors:
    """Return the states of the global generators and of ``generator``."""
    tensors = {"global": torch.get_rng_state(), "method": generator.get_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def load_generators(generator: torch.Generator, tensors: Mapping[str, Tensor]) -> None:
    """Restore what ``generator_tensors`` returned."""
    torch.set_rng_state(tensors["global"])
    generator.set_state(tensors["method"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
