"""Every objective against arithmetic by hand, and what all keep: shares add up, nothing to count is 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from illume_plugin.examples import LabelledRationale  # noqa: E402
from illume_plugin.training.objectives.contrast import (  # noqa: E402
    ProjectionHead,
    contrast_loss,
    mean_pooled,
    term_weights,
)
from illume_plugin.training.objectives.dpo import dpo_loss  # noqa: E402
from illume_plugin.training.objectives.dress import dress_loss, row_weights  # noqa: E402
from illume_plugin.training.objectives.illume import illume_loss, token_counts  # noqa: E402
from illume_plugin.training.objectives.kto import (  # noqa: E402
    kl_baseline,
    kl_sums,
    kto_loss,
)
from illume_plugin.training.objectives.pairing import mismatched  # noqa: E402
from illume_plugin.training.objectives.shares import masked_mean, masked_sum, share  # noqa: E402

pytestmark = pytest.mark.torch

NAN, INF = math.nan, math.inf


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def T(*values: Any) -> Any:  # noqa: N802 - as short as the tables need it
    return torch.tensor(values, dtype=torch.float64)


def places(*numbers: int) -> Any:
    return torch.tensor(numbers, dtype=torch.long)


# -- sums and shares -------------------------------------------------------------------------------------


def test_what_stands_behind_a_row_does_not_count() -> None:
    logps = T([-1.0, -2.0, NAN], [-3.0, -INF, INF]).requires_grad_()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_sum(logps, mask).tolist() == [-3.0, -3.0]
    assert masked_mean(logps, mask).tolist() == [-1.5, -3.0]
    masked_mean(logps, mask).sum().backward()
    assert logps.grad.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]


def test_a_row_without_tokens_has_mean_0() -> None:
    assert masked_mean(T([-1.0]), torch.tensor([[False]])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("values", "weights", "total", "expected"),
    [
        ((2.0, 4.0), (1.0, 1.0), 2.0, 3.0),
        ((2.0, 4.0), (1.0, 0.5), 1.5, 8 / 3),
        ((2.0, 4.0), (1.0, 1.0), 8.0, 0.75),
        ((2.0, NAN), (1.0, 0.0), 1.0, 2.0),
        ((NAN,), (0.0,), 0.0, 0.0),
        ((), (), 0.0, 0.0),
    ],
)
def test_share(values: Any, weights: Any, total: float, expected: float) -> None:
    assert float(share(T(*values), T(*weights), torch.tensor(total))) == pytest.approx(expected)


# -- by hand ---------------------------------------------------------------------------------------------

A = torch.tensor([[True, False, False], [True, True, False]])
R = torch.tensor([[False, True, True], [False, False, False]])
LOGPS = T([-1.0, -2.0, -3.0], [-0.5, -1.5, NAN])


@pytest.mark.parametrize(
    ("weights", "w", "expected"),
    [
        ((1.0, 1.0), 1.0, 3.0 / 3 + 5.0 / 2),
        ((0.5, 1.0), 1.0, 3.0 / 3 + 2.5 / 1.0),
        ((1.0, 1.0), 4.0, 3.0 / 3 + 4 * 5.0 / 2),
        ((0.0, 1.0), 4.0, 3.0 / 3),
    ],
)
def test_illume(weights: Any, w: float, expected: float) -> None:
    totals = token_counts(A, R, T(*weights))
    loss, told = illume_loss(LOGPS, A, R, T(*weights), totals=totals, w=w)
    assert float(loss) == pytest.approx(expected)
    assert float(told["answer_ce"]) == pytest.approx(1.0)
    assert float(told["answer_ce"] + w * told["rationale_ce"]) == pytest.approx(expected)


# sums of the three rows: -2, -3, -1; log-ratios to the reference: 0.5, -1, 0
ROWS = T([-0.5, -1.5, NAN], [-1.0, -1.0, -1.0], [-1.0, NAN, NAN])
OWN = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
REFERENCE = T(-2.5, -2.0, -1.0)


@pytest.mark.parametrize(
    ("chosen", "rejected", "weights", "beta", "expected", "accuracy"),
    [
        ((0,), (1,), (1.0,), 0.1, -math.log(sigmoid(0.15)), 1.0),
        ((1,), (0,), (1.0,), 0.1, -math.log(sigmoid(-0.15)), 0.0),
        ((0,), (1,), (0.3,), 2.0, -math.log(sigmoid(3.0)), 1.0),
        ((0, 2), (1, 0), (1.0, 1.0), 1.0, -(math.log(sigmoid(1.5)) + math.log(sigmoid(-0.5))) / 2, 0.5),
        ((0, 2), (1, 0), (3.0, 1.0), 1.0, -(3 * math.log(sigmoid(1.5)) + math.log(sigmoid(-0.5))) / 4, 0.75),
        ((0,), (0,), (1.0,), 0.1, math.log(2), 0.0),
        ((), (), (), 0.1, 0.0, 0.0),
    ],
)
def test_dpo(chosen: Any, rejected: Any, weights: Any, beta: float, expected: float, accuracy: float) -> None:
    loss, told = dpo_loss(
        ROWS,
        OWN,
        REFERENCE,
        places(*chosen),
        places(*rejected),
        T(*weights),
        total=T(*weights).sum(),
        beta=beta,
    )
    assert float(loss) == pytest.approx(expected)
    assert float(told["accuracy"]) == pytest.approx(accuracy)
    assert float(told["margin"]) == pytest.approx(float(told["chosen_reward"] - told["rejected_reward"]))


def test_dpo_raises_the_chosen_and_lowers_the_rejected() -> None:
    logps = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    loss, _ = dpo_loss(
        logps,
        mask,
        torch.tensor([-2.0, -1.0]),
        places(0),
        places(1),
        torch.ones(1),
        total=torch.tensor(1.0),
        beta=0.5,
    )
    loss.backward()
    # at a margin of 0 the slope of -log sigmoid is -1/2
    assert logps.grad.tolist() == [[-0.25, -0.25], [0.25, 0.0]]


@pytest.mark.parametrize(
    ("desirable", "weights", "lambdas", "baseline", "expected"),
    [
        ((True, False, True), (1.0, 1.0, 1.0), (1.0, 1.0), 0.0, (sigmoid(-0.5) + sigmoid(-1.0) + 0.5) / 3),
        ((True, True, True), (1.0, 0.0, 0.0), (1.0, 1.0), 0.0, sigmoid(-0.5)),
        ((True, True, True), (1.0, 0.0, 0.0), (1.0, 1.0), 2.0, sigmoid(1.5)),
        ((False, True, True), (1.0, 0.0, 0.0), (1.0, 1.0), 2.0, sigmoid(-1.5)),
        ((True, False, True), (1.0, 0.5, 0.0), (1.0, 1.0), 0.0, (sigmoid(-0.5) + 0.5 * sigmoid(-1.0)) / 1.5),
        ((True, False, True), (1.0, 1.0, 0.0), (4.0, 1.0), 0.0, (4 * sigmoid(-0.5) + sigmoid(-1.0)) / 2),
        ((True, False, True), (1.0, 1.0, 0.0), (1.0, 3.0), 0.0, (sigmoid(-0.5) + 3 * sigmoid(-1.0)) / 2),
    ],
)
def test_kto(desirable: Any, weights: Any, lambdas: Any, baseline: float, expected: float) -> None:
    loss, told = kto_loss(
        ROWS,
        OWN,
        REFERENCE,
        torch.tensor(desirable),
        T(*weights),
        total=T(*weights).sum(),
        baseline=torch.tensor(baseline),
        beta=1.0,
        desirable_weight=lambdas[0],
        undesirable_weight=lambdas[1],
    )
    assert float(loss) == pytest.approx(expected)
    fitting = sum(w for fits, w in zip(desirable, weights, strict=True) if fits)
    assert float(told["fit_share"]) == pytest.approx(fitting / sum(weights))


@pytest.mark.parametrize(
    ("reference", "baseline"),
    [((-2.5, -2.0, -1.0), 0.0), ((-3.5, -4.0, -1.0), (1.5 + 1.0) / 3), ((-2.0, -3.0, -1.0), 0.0)],
)
def test_the_baseline_is_a_mean_of_at_least_0_without_gradient(reference: Any, baseline: float) -> None:
    rows = ROWS.clone().requires_grad_()
    sums = kl_sums(rows, OWN, T(*reference))
    assert float(sums[1]) == 3
    assert float(kl_baseline(sums)) == pytest.approx(baseline)
    assert not sums.requires_grad
    assert float(kl_baseline(torch.zeros(2))) == 0.0


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1.0, 1.0, 1.0), (1.0 + 1.0 + 1.0) / 3),
        ((1.0, 0.0, 0.0), 1.0),
        ((1.0, 0.0, 0.5), 1.0),
    ],
)
def test_dress_takes_each_rows_mean(weights: Any, expected: float) -> None:
    assert float(dress(ROWS, OWN, T(*weights))) == pytest.approx(expected)


def dress(logps: Any, mask: Any, weights: Any) -> Any:
    return dress_loss(logps, mask, weights, total=row_weights(mask, weights).sum())[0]


def test_a_long_response_counts_no_more_than_a_short_one() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert float(dress(T([-3.0, -3.0, -3.0], [-1.0, NAN, NAN]), mask, T(1.0, 1.0))) == pytest.approx(2.0)


def test_a_row_without_a_response_is_no_row() -> None:
    mask = torch.tensor([[True], [False]])
    assert float(dress(T([-3.0], [NAN]), mask, T(1.0, 1.0))) == pytest.approx(3.0)


# unit vectors at 0, 60, 90 and 180 degrees: cosines with the first are 1, 1/2, 0, -1
CIRCLE = T([1.0, 0.0], [0.5, math.sqrt(3) / 2], [0.0, 1.0], [-1.0, 0.0])
YES, NO = True, False


@pytest.mark.parametrize(
    ("positive", "negatives", "real", "tau", "expected", "accuracy"),
    [
        (1, (2,), (YES,), 1.0, math.log(1 + math.exp(-0.5)), 1.0),
        (1, (2, 3), (YES, YES), 1.0, math.log(1 + math.exp(-0.5) + math.exp(-1.5)), 1.0),
        (1, (2, 3), (YES, NO), 1.0, math.log(1 + math.exp(-0.5)), 1.0),
        (1, (2,), (YES,), 0.1, math.log(1 + math.exp(-5.0)), 1.0),
        (3, (2, 1), (YES, YES), 0.5, math.log(1 + math.exp(2.0) + math.exp(3.0)), 0.0),
        (1, (0,), (NO,), 0.1, 0.0, 0.0),
    ],
)
def test_contrast(
    positive: int, negatives: Any, real: Any, tau: float, expected: float, accuracy: float
) -> None:
    mask, weights = torch.tensor([real]), T(0.5)
    loss, told = contrast_loss(
        CIRCLE,
        places(0),
        places(positive),
        torch.tensor([negatives]),
        mask,
        weights,
        total=term_weights(mask, weights).sum(),
        tau=tau,
    )
    assert float(loss) == pytest.approx(expected)
    assert float(told["accuracy"]) == accuracy


def test_hidden_states_are_pooled_over_the_tokens_that_count() -> None:
    hidden = T([[1.0, 2.0], [3.0, 6.0], [NAN, INF]], [[5.0, 5.0], [NAN, NAN], [0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_pooled(hidden, mask).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_the_head_gives_vectors_of_length_1() -> None:
    torch.manual_seed(0)
    seen = ProjectionHead(6, 4)(torch.randn(5, 6))
    assert seen.shape == (5, 4)
    assert seen.norm(dim=-1).tolist() == pytest.approx([1.0] * 5)


# -- what holds for all of them --------------------------------------------------------------------------

#: Objective -> (what it adds to the step's total, its loss), both of (logps, mask, weights) of some rows.
#: Rows come in threes: of each three the first is preferred to the second, the third is a negative too.
OBJECTIVES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "illume": (
        lambda logps, mask, weights: token_counts(~mask & (logps > -9), mask, weights),
        lambda logps, mask, weights, total: illume_loss(
            logps, ~mask & (logps.detach() > -9), mask, weights, totals=total, w=3.0
        ),
    ),
    "dpo": (
        lambda logps, mask, weights: weights[::3].sum(),
        lambda logps, mask, weights, total: dpo_loss(
            logps, mask, _half(logps), *_sides(logps), weights[::3], total=total, beta=0.7
        ),
    ),
    "kto": (
        lambda logps, mask, weights: weights.sum(),
        lambda logps, mask, weights, total: kto_loss(
            logps,
            mask,
            _half(logps),
            torch.arange(len(logps)) % 3 == 0,
            weights,
            total=total,
            baseline=torch.tensor(0.25),
            beta=0.7,
            undesirable_weight=2.0,
        ),
    ),
    "dress": (
        lambda logps, mask, weights: row_weights(mask, weights).sum(),
        lambda logps, mask, weights, total: dress_loss(logps, mask, weights, total=total),
    ),
    "contrast": (
        lambda logps, mask, weights: weights[::3].sum(),
        lambda logps, mask, weights, total: contrast_loss(
            torch.nn.functional.normalize(logps.masked_fill(~mask, 0.0) + 0.1, dim=-1),
            *_sides(logps),
            _sides(logps)[1][:, None] + 1,
            torch.ones(len(logps) // 3, 1, dtype=torch.bool),
            weights[::3],
            total=total,
            tau=0.5,
        ),
    ),
}


def _half(logps: Any) -> Any:
    return torch.full((len(logps),), -2.0, dtype=logps.dtype)


def _sides(logps: Any) -> tuple[Any, Any]:
    first = torch.arange(0, len(logps), 3)
    return first, first + 1


def some(rows: int, seed: int = 0) -> tuple[Any, Any, Any]:
    chance = torch.Generator().manual_seed(seed)
    logps = -torch.rand(rows, 5, generator=chance, dtype=torch.float64) * 3 - 0.01
    lengths = torch.randint(1, 6, (rows, 1), generator=chance)
    weights = torch.rand(rows, generator=chance, dtype=torch.float64) + 0.1
    return logps, torch.arange(5) < lengths, weights


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_shares_of_micro_batches_add_up_to_the_step(name: str) -> None:
    count, objective = OBJECTIVES[name]
    rows = some(12)
    parts = [tuple(each[start:stop] for each in rows) for start, stop in ((0, 3), (3, 9), (9, 12), (12, 12))]
    total = count(*rows)
    torch.testing.assert_close(sum(count(*part) for part in parts), total)
    whole, told = objective(*rows, total)
    shares = [objective(*part, total) for part in parts]
    torch.testing.assert_close(sum(loss for loss, _ in shares), whole)
    for figure, value in told.items():
        torch.testing.assert_close(sum(each[figure] for _, each in shares), value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_scale_of_weights_to_each_other_counts(name: str) -> None:
    count, objective = OBJECTIVES[name]
    logps, mask, weights = some(9)
    one, other = (
        objective(logps, mask, each, count(logps, mask, each))[0] for each in (weights, 7 * weights)
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("empty", ["no rows", "no weight"])
def test_nothing_to_count_is_0_with_gradients_of_0(name: str, empty: str) -> None:
    count, objective = OBJECTIVES[name]
    logps, mask, weights = some(0 if empty == "no rows" else 6)
    logps.requires_grad_()
    weights = torch.zeros_like(weights)
    mask = torch.ones_like(mask)  # for ILLUME: no answer token either
    loss, told = objective(logps, mask, weights, count(logps, mask, weights))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logps.grad is None or not logps.grad.any()
    assert all(float(value) == 0.0 and not value.requires_grad for value in told.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    count, objective = OBJECTIVES[name]
    logps, mask, weights = some(6, seed=1)
    total = count(logps, mask, weights)
    assert torch.autograd.gradcheck(
        lambda it: objective(it, mask, weights, total)[0], [logps.requires_grad_()]
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_statistics_take_no_gradient(name: str) -> None:
    count, objective = OBJECTIVES[name]
    logps, mask, weights = some(6)
    _, told = objective(logps.requires_grad_(), mask, weights, count(logps.detach(), mask, weights))
    assert told
    assert not any(value.requires_grad for value in told.values())


def test_the_head_is_trained_along() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(5, 3).double()
    hidden = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(3, 4, dtype=torch.bool)

    def loss(states: Any) -> Any:
        seen = head(mean_pooled(states, mask))
        real = torch.tensor([[True]])
        return contrast_loss(
            seen, places(0), places(1), places(2)[:, None], real, T(1.0), total=T(1.0).sum(), tau=0.2
        )[0]

    assert torch.autograd.gradcheck(loss, [hidden])
    loss(hidden).backward()
    assert all(bool(weight.grad.any()) for weight in head.parameters())


# -- mismatched rows -------------------------------------------------------------------------------------


def label(task_id: int, rationale: str) -> LabelledRationale:
    return LabelledRationale(task_id, "/a.png", f"q{task_id}", "a", rationale, desirable=True)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([(1, "a"), (2, "b"), (3, "c")], [(1, "c"), (2, "a"), (3, "b")]),
        ([(1, "a"), (1, "b"), (2, "c")], [(1, "c"), (1, "c"), (2, "b")]),
        ([(1, "a"), (1, "b")], []),
        ([], []),
    ],
)
def test_a_mismatched_rationale_is_of_another_task(labels: Any, expected: Any) -> None:
    found = mismatched([label(*each) for each in labels])
    assert [(each.task_id, each.rationale) for each in found] == expected
    assert all(each.question == f"q{each.task_id}" for each in found)
