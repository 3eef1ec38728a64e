"""The costs on cards: their formulas are what is counted and, to leading order, what is saved."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.backbones.base import Backbone
from harness.cards import BACKBONES, METHODS, MethodCard
from harness.costs import EXAMPLES, Cost, Symbol, evaluate, names_in
from harness.counting import count_parameters
from harness.testing.methods import build_method
from methods.base import Method
from methods.lst import CARD as LST

T5_SMALL = {**EXAMPLES["t5-base"], "d": 512, "d_ff": 2048, "h": 8, "L": 6}

# A value other than the default for every field that is a symbol
SETTINGS: dict[str, dict[str, Any]] = {
    "adapter": {"reduction": 8},
    "lora": {"rank": 4, "targets": ("query", "key", "output")},
    "peft": {"targets": ("query", "key", "value")},
    "prompt": {"tokens": 7},
    "side_tuning": {"reduction": 8, "depth": 3},
    "lst": {"reduction": 8, "layers": (2, 3, 5)},
    "unipt": {"width": 96, "reduction": 2, "layers": (0, 1, 4, 6)},
    "sherl": {"reduction": 4, "layers": (0, 3, 6)},
    "qst": {"reduction": 8, "rank": 4},
    "mp_ismoe": {"reduction": 8, "layers": (1, 6), "experts": 3, "top_k": 1},
}


def cost_of(name: str) -> Cost:
    cost = METHODS.card(name).cost
    assert cost is not None
    return cost


def build_backbone(name: str) -> Backbone:
    chosen = BACKBONES.choose(name)
    config = chosen.card.config(**chosen.values)
    return BACKBONES.load(chosen.card.name).build(config, device="meta")


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_tells_what_it_trains_and_costs(name: str) -> None:
    card = METHODS.card(name)
    assert card.trains.endswith(".")
    assert card.gradient.endswith(".")
    assert card.cost
    assert all(text.endswith(".") for text in card.deviations)


@pytest.mark.parametrize("backbone", EXAMPLES)
@pytest.mark.parametrize("name", METHODS.names())
def test_the_formula_is_what_is_counted(name: str, backbone: str) -> None:
    params = count_parameters(name, backbone)
    config = METHODS.card(name).config()
    alone = params.trainable - params.parts["head"]
    assert cost_of(name).count(EXAMPLES[backbone], config) == alone


@pytest.mark.parametrize("name", METHODS.names())
def test_the_formula_follows_the_settings_that_are_its_symbols(name: str) -> None:
    settings = SETTINGS.get(name, {})
    fields = {symbol.field for symbol in cost_of(name).symbols.values() if symbol.field}
    assert fields - set(settings) <= {"width"}
    with torch.device("meta"):
        model = build_backbone("t5-small")
        method = build_method(name, model, model.paper_reads, **settings)
    counted = sum(p.numel() for p in method.parameters() if p.requires_grad)
    config = METHODS.card(name).config(**settings)
    assert cost_of(name).count(T5_SMALL, config) == counted


SMALL = {"width": 64, "heads": 4, "ffn_width": 256, "layers": 4, "vocabulary": 300, "dropout": 0.0}
SMALL_SHAPE = {"d": 64, "d_ff": 256, "h": 4, "L": 4, "B": 4, "T": 32}
STREAMS = {"t5-base": ("t5", {"head_width": 16}, "decoder"), "bert-base": ("bert", {}, "text")}


def saved_numbers(method: Method, stream: str) -> float:
    """Count what a forward pass saves for the backward pass, in fp32 numbers."""
    method.train()
    own = {p.untyped_storage().data_ptr() for p in [*method.parameters(), *method.buffers()]}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    tokens = torch.randint(5, 300, (SMALL_SHAPE["B"], SMALL_SHAPE["T"]))
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = method(inputs | {"decoder_input_ids": tokens})[stream].output
    assert output.shape[:2] == tokens.shape
    return sum(storage.nbytes() for key, storage in saved.items() if key not in own) / 4


@pytest.mark.parametrize("alike", STREAMS)
@pytest.mark.parametrize("name", METHODS.names())
def test_saved_activations_are_the_leading_terms(name: str, alike: str) -> None:
    kind, settings, stream = STREAMS[alike]
    config = BACKBONES.card(kind).config(**SMALL, **settings)
    method = build_method(name, BACKBONES.load(kind).build(config, weights="random"), (stream,))
    cost = cost_of(name)
    values = cost.values({**EXAMPLES[alike], **SMALL_SHAPE}, method.config)
    assert saved_numbers(method, stream) == pytest.approx(evaluate(cost.saved, values), rel=0.1)


def test_streams_that_differ_have_no_common_formula() -> None:
    config = LST.config(layers={"encoder": (1, 2), "decoder": (3,)})
    with pytest.raises(ValueError, match="layers: streams that differ"):
        cost_of("lst").values(EXAMPLES["t5-base"], config)


@given(*(st.integers(1, 50) for _ in range(3)))
def test_formulas_are_arithmetic(a: int, b: int, c: int) -> None:
    values = {"a": a, "b": b, "c": c}
    assert evaluate("2*a + b // c - (a - b)*c**2", values) == 2 * a + b // c - (a - b) * c**2
    assert evaluate("a / b", values) == a / b


def test_names_stand_in_the_order_of_the_formula() -> None:
    assert names_in("b*(a + b) // d_ff") == ["b", "a", "d_ff"]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("a +", "no formula"),
        ("", "no formula"),
        ("open('x')", r"open\('x'\)"),
        ("a.b", r"'a\.b'"),
        ("a if b else a", "no number, name"),
        ("True + a", "True"),
        ("'a'*b", "'a'"),
        ("-a", "-a"),
        ("a**b", r"a \*\* b"),
        ("2**1000", r"2 \*\* 1000"),
        ("a % b", "a % b"),
        ("a + z", "z is not defined"),
    ],
)
def test_nothing_but_arithmetic_is_a_formula(formula: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(formula, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainable": "x*d"}, "x is not defined"),
        ({"trainable": "B*d"}, "B is not defined"),
        ({"saved": "B*T*d*y"}, "y is not defined"),
        ({"symbols": {"d": Symbol(meaning="width", value="1")}}, "'d' is the backbone's"),
        ({"symbols": {"m": Symbol(meaning="width", value="d // r")}}, "r is not defined"),
    ],
)
def test_every_symbol_of_a_cost_is_defined(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Cost(**{"trainable": "d", "saved": "B*T*d", **change})


def test_a_symbol_has_a_value() -> None:
    with pytest.raises(ValidationError, match="neither a field nor a value"):
        Symbol(meaning="width")


def test_a_card_names_fields_of_its_configuration() -> None:
    cost = Cost(trainable="r", saved="0", symbols={"r": Symbol(meaning="r", field="reduktion")})
    with pytest.raises(ValidationError, match="reduktion"):
        MethodCard(**{**dict(LST), "cost": cost})
