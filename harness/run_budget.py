"""Hold a run to a budget of memory before anything is trained or any weight stays in memory."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from harness.budget import largest_fitting, read_budget
from harness.cards import METHODS, Growth, MethodCard
from harness.config import RunConfig, RunRequest, resolve
from harness.data import Examples
from harness.errors import UserError, did_you_mean
from harness.memory.predict import fake_copy, predict_built_peak
from harness.memory.step import StepProgram
from harness.model import build_model, build_task, pick_device
from harness.precision import settle_precision
from harness.profile import step_program
from harness.registry import Config
from methods.base import Batch
from reports.tables import gib
from tasks.base import Task, TaskData

AUTO = "auto"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class BudgetRequest:
    """What was typed.

    Attributes:
        budget: such as ``2GiB``, or a method, whose predicted need is the budget.
        fill: whole number of the method's configuration that grows as far as the budget allows;
            ``auto`` for the one that its card names.
        of_many: whether it is asked of several methods: one without that number just has to fit.
    """

    budget: str
    fill: str | None = None
    of_many: bool = False


@dataclass(frozen=True)
class Held:
    """A request that fits.

    Attributes:
        request: with the setting that fills the budget, where one was asked for.
        peak_bytes: predicted peak of training.
        budget_bytes: the budget.
        filled: that setting; None where nothing has grown.
    """

    request: RunRequest
    peak_bytes: int
    budget_bytes: int
    filled: str | None = None


def hold(request: RunRequest, asked: BudgetRequest) -> Held:
    """Return a request whose training fits a budget.

    The training step of the run itself is predicted: on its data's largest batch, for its device.

    Args:
        request: the run, of any seed.
        asked: the budget, and what may fill it.

    Raises:
        UserError: the run does not fit; the message says what would.
    """
    config = resolve(request)
    growth = _growth(config, asked)
    task = build_task(config)
    data = task.load(config.limit)

    @cache
    def peak(request: RunRequest) -> int:
        return predicted_peak(resolve(request), task, data)

    budget = _budget_bytes(request, asked.budget, peak)
    need = peak(request)
    if need > budget:
        raise UserError(
            f"--budget {asked.budget}: training '{request.method}' on '{request.task}' needs "
            f"{gib(need)} GiB (predicted), and {gib(budget)} GiB are there. "
            f"{_advice(config, request, peak, budget)}"
        )
    held = Held(request, need, budget)
    return held if growth is None else _filled(held, config, growth, peak)


def predicted_peak(config: RunConfig, task: Task, data: TaskData) -> int:
    """Predict the peak of a configured run's training step, in bytes.

    The model is built of fake tensors: of weights, one tensor at a time is read.
    """
    device = pick_device(config.device)
    config = settle_precision(config, device)

    def build() -> StepProgram:
        model = build_model(config, task, CPU).model
        with unset_fake_temporarily():
            examples = Examples(data, model.method.backbone, CPU)
        program = step_program(config, task, model, examples)

        def make_batch() -> Batch:
            with unset_fake_temporarily():
                batch = program.make_batch()
            return fake_copy(batch)

        return replace(program, make_batch=make_batch)

    return predict_built_peak(build, target=device.type)


def _budget_bytes(request: RunRequest, text: str, peak: Callable[[RunRequest], int]) -> int:
    """Return the bytes of a budget, or what the method needs that is named instead."""
    if text.partition("@")[0] in METHODS:
        return peak(replace(request, method=text, overrides=_without_method(request)))
    near = get_close_matches(text, [*METHODS.names(), *METHODS.aliases])
    return read_budget(text, f", or a method.{did_you_mean(text, near)}")


def _without_method(request: RunRequest) -> tuple[str, ...]:
    return tuple(text for text in request.overrides if not text.startswith("method."))


def _growth(config: RunConfig, asked: BudgetRequest) -> Growth | None:
    """Return what is to grow, None for nothing.

    Raises:
        UserError: the method has no such whole number, and neither has one of many.
    """
    card = METHODS.card(config.method.name)
    if asked.fill is None or asked.fill == AUTO:
        return card.grows if asked.fill else None
    if card.grows is not None and asked.fill == card.grows.field:
        return card.grows
    numbers = _growing(card, config.method.config)
    if asked.fill in numbers:
        return Growth(field=asked.fill)
    lacking = f"method '{config.method.label}' has no"
    if asked.of_many:
        lacking = "no method has a"
        cards = [METHODS.card(name) for name in METHODS.names()]
        numbers = set().union(*(_growing(card, card.config()) for card in cards))
        if asked.fill in numbers:
            return None
    raise UserError(
        f"--fill-budget {asked.fill}: {lacking} whole number of that name; 'auto' lets every "
        f"method grow its own.{did_you_mean(asked.fill, numbers)}"
    )


def _growing(card: MethodCard, config: Config) -> set[str]:
    """Return the whole numbers of a method."""
    numbers = {name for name, value in config.model_dump().items() if type(value) is int}
    return numbers | ({card.grows.field} if card.grows else set())


def _filled(
    held: Held, config: RunConfig, growth: Growth, peak: Callable[[RunRequest], int]
) -> Held:
    """Let a whole number of the method grow from its configured value, if that adds anything."""

    def grown(value: int) -> RunRequest:
        setting = f"method.{growth.field}={value}"
        return replace(held.request, overrides=(*held.request.overrides, setting))

    def need(value: int) -> int:
        return peak(grown(value))

    start = config.method.config.model_dump()[growth.field]
    found = (
        _risen(need, held.budget_bytes, start, growth.step)
        if growth.rising
        else _fallen(need, held.budget_bytes, start)
    )
    if found is None or found[1] <= held.peak_bytes:
        return held
    request = grown(found[0])
    return Held(request, found[1], held.budget_bytes, request.overrides[-1])


def _risen(
    need: Callable[[int], int], budget: int, start: int | None, step: int
) -> tuple[int, int] | None:
    """Return the largest value that fits, and its need; None where a larger one adds nothing."""
    smallest = step if start is None else start
    try:
        if need(smallest + step) <= need(smallest):
            return None
    except UserError:  # such as a width that it does not divide
        return None
    return largest_fitting(need, budget, smallest=smallest, step=step)


def _fallen(need: Callable[[int], int], budget: int, start: int) -> tuple[int, int] | None:
    """Return the smallest value that fits, and its need; None where no smaller one does."""
    for value in range(1, start):
        try:
            found = need(value)
        except UserError:  # such as a width that it does not divide
            continue
        if found <= budget:
            return value, found
    return None


def _advice(
    config: RunConfig, request: RunRequest, peak: Callable[[RunRequest], int], budget: int
) -> str:
    """Say which single changes of the run would fit."""
    found = [
        text for ladder in _remedies(config, request) if (text := _first(ladder, peak, budget))
    ]
    if found:
        return f"What would fit: {', '.join(found)}."
    return (
        f"Neither bf16, nor smaller steps, nor recomputed blocks would fit; see what other methods "
        f"need: harness memory table --backbone {request.backbone or config.backbone.name}"
    )


def _first(
    ladder: Sequence[tuple[str, RunRequest]], peak: Callable[[RunRequest], int], budget: int
) -> str | None:
    """Return the first change of a ladder that fits, with its need; every rung needs less."""
    try:
        if not ladder or peak(ladder[-1][1]) > budget:
            return None
        rung = bisect_left(ladder, True, key=lambda change: peak(change[1]) <= budget)
    except UserError:  # such as the blocks of a backbone that no gradient enters
        return None
    flag, changed = ladder[rung]
    return f"{flag} ({gib(peak(changed))} GiB)"


def _remedies(config: RunConfig, request: RunRequest) -> Iterator[Sequence[tuple[str, RunRequest]]]:
    """Yield changes that keep method and batch: each a ladder, the mildest first."""
    train = config.train
    if train.amp == "off":
        yield [("--amp bf16", replace(request, amp="bf16"))]
    yield [
        (f"--set {setting}", replace(request, overrides=(*request.overrides, setting)))
        for power in range(1, (train.batch_size // train.grad_accum).bit_length())
        for setting in [f"train.grad_accum={train.grad_accum * 2**power}"]
    ]
    if not train.grad_checkpoint:
        yield [("--grad-checkpoint", replace(request, grad_checkpoint=True))]
