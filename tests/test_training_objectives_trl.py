"""DPO and KTO losses are TRL's: its own code and ours on one batch of one small model, with gradients."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402
from trl.trainer.dpo_trainer import DPOTrainer  # noqa: E402
from trl.trainer.kto_trainer import KTOTrainer  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from illume_plugin.training.objectives.dpo import dpo_loss  # noqa: E402
from illume_plugin.training.objectives.kto import kl_baseline, kl_sums, kto_loss  # noqa: E402

pytestmark = pytest.mark.torch

ROWS, TOKENS, VOCABULARY = 6, 9, 23


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    config._attn_implementation = "eager"
    made = LlamaForCausalLM(config)
    with torch.no_grad():  # a fresh model is nearly uniform, which would hide mistakes
        made.lm_head.weight.mul_(40)
    add_fused_lm_head(made, outputs=("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1"))
    return made


def texts(seed: int) -> tuple[Any, Any, Any]:
    """(input ids, attention mask, completion mask) of rows of different lengths."""
    chance = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (ROWS, TOKENS), generator=chance)
    prompt = torch.randint(1, 4, (ROWS, 1), generator=chance)
    length = torch.randint(5, TOKENS + 1, (ROWS, 1), generator=chance)
    place = torch.arange(TOKENS)
    return ids, (place < length).long(), ((place >= prompt) & (place < length)).long()


def reference(seed: int) -> Any:
    return -torch.rand(ROWS, generator=torch.Generator().manual_seed(seed)) * 30


def logps(model: Any, ids: Any, attention: Any) -> Any:
    """What our trainer gives the objectives: log P of each token but the first; shape (rows, tokens - 1)."""
    scores = model(input_ids=ids, attention_mask=attention).logits[:, :-1].float().log_softmax(dim=-1)
    return scores.gather(-1, ids[:, 1:, None]).squeeze(-1)


def trainer(**settings: Any) -> Any:
    """The parts of TRL's trainer that its loss reads."""
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


def gradients(model: Any, loss: Any) -> list[Any]:
    model.zero_grad()
    loss.backward()
    return [weight.grad.clone() for weight in model.parameters()]


def assert_same(model: Any, ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients(model, ours), gradients(model, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo(model: Any, beta: float) -> None:
    ids, attention, completion = texts(1)
    known = reference(2)
    chosen, rejected = torch.arange(3), torch.arange(3, 6)
    inputs = {
        "input_ids": ids,
        "attention_mask": attention,
        "completion_mask": completion,
        "ref_chosen_logps": known[:3],
        "ref_rejected_logps": known[3:],
    }
    peer = trainer(
        beta=beta,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        use_weighting=False,
    )
    theirs = DPOTrainer._compute_loss(peer, model, inputs, return_outputs=False)
    ours, told = dpo_loss(
        logps(model, ids, attention),
        completion[:, 1:].bool(),
        known,
        chosen,
        rejected,
        torch.ones(3),
        total=torch.tensor(3.0),
        beta=beta,
    )
    assert_same(model, ours, theirs)
    metrics = peer._metrics["train"]
    for figure, name in (("margin", "margins"), ("accuracy", "accuracies"), ("chosen_reward", "chosen")):
        assert float(told[figure]) == pytest.approx(metrics[f"rewards/{name}"][0], rel=1e-4)


@pytest.mark.parametrize(
    "desirable", [(1, 0, 1, 1, 0, 0), (1, 1, 1, 1, 1, 1), (0, 0, 0, 0, 0, 0)], ids=["both", "fits", "unfit"]
)
@pytest.mark.parametrize("lambdas", [(1.0, 1.0), (1.0, 3.0)])
@pytest.mark.parametrize("lift", [-100.0, 100.0], ids=["no baseline", "baseline"])
def test_kto(model: Any, desirable: Any, lambdas: Any, lift: float) -> None:
    ids, attention, completion = texts(1)
    other_ids, other_attention, other_completion = texts(3)
    known, other_known = reference(2), reference(4) - lift
    labels = torch.tensor(desirable, dtype=torch.bool)
    inputs = {
        "input_ids": ids,
        "attention_mask": attention,
        "completion_mask": completion,
        "KL_input_ids": other_ids,
        "KL_attention_mask": other_attention,
        "KL_completion_mask": other_completion,
        "label": labels,
        "ref_logps": known,
        "ref_KL_logps": other_known,
    }
    peer = trainer(
        beta=0.1,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=lambdas[0],
        undesirable_weight=lambdas[1],
    )
    peer._compute_kl_logps = partial(KTOTrainer._compute_kl_logps, peer)
    theirs = KTOTrainer._compute_loss(peer, model, inputs, return_outputs=False)
    baseline = kl_baseline(
        kl_sums(logps(model, other_ids, other_attention), other_completion[:, 1:].bool(), other_known)
    )
    ours, _ = kto_loss(
        logps(model, ids, attention),
        completion[:, 1:].bool(),
        known,
        labels,
        torch.ones(ROWS),
        total=torch.tensor(float(ROWS)),
        baseline=baseline,
        beta=0.1,
        desirable_weight=lambdas[0],
        undesirable_weight=lambdas[1],
    )
    assert bool(baseline > 0) == (lift > 0)
    assert float(baseline) == pytest.approx(peer._metrics["train"]["kl"][0], rel=1e-4)
    assert_same(model, ours, theirs)
