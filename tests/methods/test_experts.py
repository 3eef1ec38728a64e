"""ISMoE: routing laws, and the sparse dispatch against a loop in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode

from methods.experts.config import ExpertsConfig
from methods.experts.grouped import grouped_linear
from methods.experts.ismoe import ISMoE, balance_loss, dead_experts, take_statistics
from methods.experts.routing import Correlation, Router, normalise

WIDTH, SALIENT = 8, 16
NORMS = ["cosine", "dot", "l1", "minmax", "l2", "zscore"]


def mixture(seed: int = 0, replicate: bool = False, width: int = WIDTH, **settings) -> ISMoE:
    torch.manual_seed(seed)
    experts = ISMoE(ExpertsConfig(**settings), width, SALIENT, replicate)
    with torch.no_grad():  # let the router decide
        experts.router.logits.weight.normal_()
        if experts.router.correlation is not None:
            experts.router.correlation.keys.normal_()
    return experts


def batch(seed: int = 0, rows: int = 3, tokens: int = 5, width: int = WIDTH):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, tokens, width, generator=generator)
    return x, torch.randn(rows, SALIENT, generator=generator)


def reference(experts: ISMoE, x: torch.Tensor, salient: torch.Tensor) -> torch.Tensor:
    """Eq. 6-8 token by token, in float64, for router_weight auto and the cosine norm."""
    config, router = experts.config, experts.router
    up, down = experts.up.double(), experts.down.double()
    weight, bias = router.logits.weight.double(), router.logits.bias.double()
    out = torch.zeros(x.shape, dtype=torch.float64)
    for b in range(x.shape[0]):
        h0, keys = salient[b].double(), router.correlation.keys.double()
        cosine = keys @ h0 / (keys.norm(dim=1) * h0.norm())
        c = (router.correlation.tau.double() * cosine).softmax(0)
        for n in range(x.shape[1]):
            token = x[b, n].double()
            scores = ((weight @ token + bias).softmax(0) + c) / 2
            chosen = sorted(range(config.experts), key=lambda i: -scores[i].item())
            chosen = chosen[: config.top_k]
            total = scores[chosen].sum() if config.top_k > 1 else 1.0
            for i in chosen:
                out[b, n] += scores[i] / total * (torch.relu(token @ up[i]) @ down[i])
    return out


@settings(max_examples=25)
@given(
    experts=st.integers(1, 5),
    top_k=st.integers(1, 5),
    rows=st.integers(1, 3),
    tokens=st.integers(1, 6),
    width=st.sampled_from([4, 6, 8, 12]),
    seed=st.integers(0, 1000),
    dispatch=st.sampled_from(["sparse", "dense"]),
)
def test_output_is_the_equation_token_by_token(experts, top_k, rows, tokens, width, seed, dispatch):
    top_k = min(top_k, experts)
    moe = mixture(seed, width=width, experts=experts, top_k=top_k, dispatch=dispatch)
    x, salient = batch(seed, rows, tokens, width)
    with torch.no_grad():
        expected = reference(moe, x, salient)
        assert torch.allclose(moe(x, salient, None).double(), expected, atol=1e-4)


def test_sparse_and_dense_dispatch_have_the_same_gradients():
    x, salient = batch()
    gradients = []
    for dispatch in ("sparse", "dense"):
        moe = mixture(dispatch=dispatch)
        moe(x, salient, None).square().sum().backward()
        gradients.append({n: p.grad for n, p in moe.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5), name


def test_sparse_dispatch_stores_the_chosen_experts_alone():
    def saved(dispatch: str) -> int:
        moe = mixture(experts=8, top_k=1, dispatch=dispatch)
        x, salient = batch(rows=8, tokens=16)
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            moe(x.requires_grad_(), salient, None)
        return sum(storages.values())

    hidden_bytes = 8 * 16 * 4 * WIDTH * 4  # tokens x hidden x fp32
    assert saved("dense") - saved("sparse") > 6 * hidden_bytes


@pytest.mark.parametrize("weighting", ["auto", "renorm", "resoftmax", "raw"])
@pytest.mark.parametrize("norm", NORMS)
def test_weights_of_the_chosen_experts_sum_to_one(weighting, norm):
    config = ExpertsConfig(router_weight=weighting, correlation_norm=norm)
    choice = Router(config, WIDTH, SALIENT)(*batch())
    assert torch.allclose(choice.weights.sum(-1), torch.ones(3, 5), atol=1e-5)
    assert torch.allclose(choice.scores.sum(-1), torch.ones(3, 5), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_correlations_are_probabilities(norm):
    torch.manual_seed(0)
    c = Correlation(ExpertsConfig(correlation_norm=norm), WIDTH, SALIENT)(batch()[1])
    assert c.shape == (3, 4)
    assert (c >= 0).all()
    assert torch.allclose(c.sum(-1), torch.ones(3), atol=1e-5)


def test_norms_survive_equal_scores():
    for norm in NORMS[1:]:
        c = normalise(torch.zeros(2, 4), norm)
        assert torch.allclose(c, torch.full((2, 4), 0.25))


def test_permuting_the_experts_permutes_nothing_in_the_output():
    moe = mixture()
    x, salient = batch()
    before = moe(x, salient, None)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for parameter in (moe.up, moe.down, moe.router.logits.weight, moe.router.logits.bias):
            parameter.copy_(parameter[order].clone())
        moe.router.correlation.keys.copy_(moe.router.correlation.keys[order].clone())
    assert torch.allclose(moe(x, salient, None), before, atol=1e-5)


def test_with_one_expert_a_token_the_router_still_learns():
    moe = mixture(top_k=1)
    x, salient = batch()
    moe(x, salient, None).square().sum().backward()
    assert moe.router.logits.weight.grad.abs().sum() > 0
    assert moe.router.correlation.keys.grad.abs().sum() > 0


def test_the_literal_reading_gives_a_single_expert_no_router_gradient():
    moe = mixture(top_k=1, router_weight="resoftmax")
    x, salient = batch()
    moe(x, salient, None).square().sum().backward()
    assert moe.router.logits.weight.grad.abs().sum() == 0


def test_tau_starts_at_the_root_of_the_width_and_learns():
    moe = mixture()
    x, salient = batch()
    moe(x, salient, None).square().sum().backward()
    assert moe.router.correlation.tau.item() == pytest.approx(math.sqrt(SALIENT))
    assert moe.router.correlation.tau.grad != 0


def test_correlation_controls():
    x, salient = batch()
    for source in ("salient", "off", "constant", "shuffled"):
        moe = mixture(correlation=source)
        plain = moe.router(x, salient).scores
        other = moe.router(x, torch.roll(salient, 1, 0)).scores
        assert torch.equal(plain, other) == (source in ("off", "constant"))
    shuffled, own = (mixture(correlation=s).router for s in ("shuffled", "salient"))
    assert torch.allclose(shuffled(x, salient).scores, own(x, salient.roll(1, 0)).scores, atol=1e-6)


def test_the_salient_token_gets_no_gradient():
    moe = mixture(correlation_width="side")
    x, salient = batch()
    salient.requires_grad_()
    moe(x, salient, None).sum().backward()
    assert salient.grad is None
    assert moe.router.correlation.project.weight.grad.abs().sum() > 0


def test_replicated_experts_differ_by_jitter_alone():
    copies = ISMoE(ExpertsConfig(jitter=0.0), WIDTH, SALIENT, replicate=True)
    assert all(torch.equal(copies.up[0], expert) for expert in copies.up)
    jittered = ISMoE(ExpertsConfig(jitter=0.05), WIDTH, SALIENT, replicate=True)
    ratio = (jittered.up[0] - jittered.up[1]).std() / jittered.up.std()
    assert 0.04 < ratio < 0.11  # the difference of two draws: 0.05 x sqrt(2)
    apart = ISMoE(ExpertsConfig(expert_init="independent"), WIDTH, SALIENT, replicate=True)
    assert (apart.up[0] - apart.up[1]).std() > apart.up.std()


@pytest.mark.parametrize(("hidden", "size"), [("4m", 32), ("m", 8), ("d", 16), (24, 24)])
def test_parameter_counts(hidden, size):
    moe = ISMoE(ExpertsConfig(experts=3, expert_hidden=hidden), WIDTH, SALIENT, False)
    router = WIDTH * 3 + 3 + 3 * SALIENT + 1  # logits, r, tau
    assert sum(p.numel() for p in moe.parameters()) == 3 * 2 * WIDTH * size + router


def test_statistics_count_real_tokens_and_start_again():
    moe = mixture(experts=4, top_k=2).train()
    x, salient = batch()
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[0, 2:] = False
    moe(x, salient, mask)
    assert moe.load.sum() == 2 * mask.sum()
    statistics = take_statistics([moe])
    assert sum(statistics["expert_load"][0]) == pytest.approx(1)
    assert 0 < statistics["router_entropy"] <= math.log(4) + 1e-6
    assert take_statistics([moe]) == {}
    moe.eval()(x, salient, mask)
    assert moe.load.sum() == 0


def test_an_expert_that_nothing_chooses_is_dead():
    moe = mixture(correlation="off", top_k=1).train()
    with torch.no_grad():
        moe.router.logits.weight.zero_()
        moe.router.logits.bias.copy_(torch.tensor([5.0, 0, 0, 0]))
    moe(*batch(), None)
    assert dead_experts([moe]) == 3
    take_statistics([moe])
    assert dead_experts([moe]) == 3


def test_load_balancing_is_lowest_when_even():
    moe = mixture(load_balance=0.01).train()
    moe(*batch(rows=4, tokens=50), None)
    term = balance_loss([moe])
    assert term.item() >= 0.01 * (1 - 1e-3)
    term.backward()
    assert moe.router.logits.weight.grad.abs().sum() > 0
    assert balance_loss([moe]) is None


@pytest.mark.parametrize("dispatch", ["sparse", "dense"])
def test_shapes_follow_from_shapes_alone(dispatch):
    with FakeTensorMode():
        moe = ISMoE(ExpertsConfig(dispatch=dispatch), WIDTH, SALIENT, True).train()
        x = torch.randn(3, 5, WIDTH, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            y = moe(x, torch.randn(3, SALIENT), torch.ones(3, 5, dtype=torch.bool))
        y.sum().backward()
    assert x.grad.shape == y.shape == (3, 5, WIDTH)


def test_experts_without_tokens_cost_nothing_and_get_zero_gradient():
    x = torch.randn(6, 8)
    weight = torch.randn(3, 8, 16, requires_grad=True)
    offsets = torch.tensor([4, 4, 6], dtype=torch.int32)
    y = grouped_linear(x, weight, offsets)
    y.square().sum().backward()
    assert torch.allclose(y[:4], x[:4] @ weight[0], atol=1e-5)
    assert torch.allclose(y[4:], x[4:] @ weight[2], atol=1e-5)
    assert (weight.grad[1] == 0).all()


@pytest.mark.parametrize("counts", [(2000, 0, 70), (1, 63, 2000), (64, 1920, 128), (0, 0, 1600)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_rows_give_what_a_loop_over_the_experts_gives(counts, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(counts), 12, generator=generator).to(dtype)
    weight = torch.randn(len(counts), 12, 24, generator=generator).to(dtype)
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight)]
    y = grouped_linear(*leaves, ends)
    y.square().sum().backward()

    exact = [tensor.double().requires_grad_() for tensor in (x, weight)]
    groups = zip(exact[0].split(counts), exact[1], strict=True)
    expected = torch.cat([rows @ matrix for rows, matrix in groups])
    expected.square().sum().backward()
    error = 2e-2 if dtype == torch.bfloat16 else 1e-5
    for found, wanted in zip(
        (y, *(t.grad for t in leaves)), (expected, *(t.grad for t in exact)), strict=True
    ):
        assert (found.double() - wanted).abs().max() <= error * wanted.abs().max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": 0}, "greater than or equal to 1"),
        ({"top_k": 0}, "greater than or equal to 1"),
        ({"experts": 4, "top_k": 5}, "more than experts=4; choose 4 or less, or more experts"),
        ({"router_weight": "renorm", "top_k": 1}, "router no gradient; choose router_weight=auto"),
        ({"experts": "many"}, "valid integer"),
        ({"expertz": 3}, "Extra inputs"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings, message):
    with pytest.raises(ValidationError, match=message):
        ExpertsConfig(**settings)
