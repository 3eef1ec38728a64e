"""A trainer outside a run, for benches and tests: it writes nothing and says nothing."""

import torch

from harness.config import RunConfig
from harness.context import Context
from harness.data import Examples
from harness.loop import Trainer
from harness.model import build_model, build_task
from harness.progress import SilentProgress


def bare_trainer(config: RunConfig, device: torch.device) -> Trainer:
    """Return a trainer that runs the backbone in every step; it seeds the global generator.

    Args:
        config: the run, its precision settled.
        device: where model and batches lie.

    Raises:
        UserError: data or weights are missing, or the parts do not fit.
    """
    task = build_task(config)
    data = task.load(config.limit)
    torch.manual_seed(config.seed)
    model = build_model(config, task, device).model
    examples = Examples(data, model.method.backbone, device)
    context = Context(config, task, model, examples)
    return Trainer(config, task, model, examples, None, context, SilentProgress())
