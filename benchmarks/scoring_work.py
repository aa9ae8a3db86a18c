"""P3: scoring 25 candidates with and without the picture, against one forward pass for each candidate.

The figure belongs to `benchmarks/sampling.py`; alone, for a look: python benchmarks/scoring_work.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import shapes
import torch
from figures import Figure, clocked, in_turns, line, ratio
from setting import Setting

from illume_plugin.generation import SamplingPlan
from illume_plugin.scoring import Mode
from illume_plugin.scoring.content import i2c, pmi
from illume_plugin.scoring.passes import plain_logprobs, read_prompt, tree_logprobs
from illume_plugin.scoring.tree import Tokens, TokenTree

Scores = list[tuple[float, float, float]]
Work = Callable[[], Scores]
GOAL = 10.0

#: Share of the tokens of the embedded model's distinct draws (60 tasks, 11 each, T from 0.3 to 0.9) that
#: are nodes of their tree; the rest stands in a beginning that several draws have in common.
OWN_SHARE = 0.7


@dataclass(frozen=True)
class Pool:
    """Candidates of one task: how many, how long, and how much of them is their own."""

    count: int = 25
    tokens: int = 30
    own: float = OWN_SHARE

    def candidates(self) -> list[Tokens]:
        """Random tokens; every candidate begins like its predecessor and goes on by itself."""
        numbers = torch.Generator().manual_seed(2)
        shared = round(self.tokens * (1 - self.own))
        last = self._words(self.tokens, numbers)
        found = [last]
        for _ in range(self.count - 1):
            last = (*last[:shared], *self._words(self.tokens - shared, numbers))
            found.append(last)
        return found

    def _words(self, count: int, numbers: torch.Generator) -> Tokens:
        return tuple(torch.randint(1, shapes.IMAGE_TOKEN, (count,), generator=numbers).tolist())


def works(
    shape: shapes.Shape, dtype: torch.dtype, device: str, pool: Pool
) -> tuple[Work, Work, dict[str, Any]]:
    """The peer's and our way of scoring one task's candidates, and what is worth telling about them.

    The peer runs each candidate's row by itself, with the picture and without, and asks for the candidate's
    logits only. Both give log-probability, i2c and pmi of every candidate.
    """
    model = shape.model(dtype, device)
    seen = shape.prompts(1, dtype, device)
    blind = {
        key: value[seen["input_ids"] != shapes.IMAGE_TOKEN][None]
        for key, value in seen.items()
        if key != "pixel_values"
    }
    candidates = pool.candidates()

    def peer() -> Scores:
        return scores(*(plain_logprobs(model, prompt, candidates) for prompt in (seen, blind)))

    def ours() -> Scores:
        return scores(
            *(
                tree_logprobs(model, read_prompt(model, prompt), candidates, tokens_at_a_time=1024)
                for prompt in (seen, blind)
            )
        )

    nodes = len(TokenTree.of(candidates).tokens)
    detail = {"shape": shape.name, "candidates": pool.count, "tokens": pool.tokens, "nodes": nodes}
    return peer, ours, {**detail, "mode": Mode.TREE.value}


def scores(seen: Sequence[Sequence[float]], blind: Sequence[Sequence[float]]) -> Scores:
    """log-probability, i2c and pmi of every candidate."""
    pairs = zip(seen, blind, strict=True)
    return [(sum(one) / len(one), i2c(one, other), pmi(one, other)) for one, other in pairs]


def against_plain_rows(shape: shapes.Shape, setting: Setting, pool: Pool | None = None) -> Figure:
    """P3, as it is written: the peer's time over ours.

    `largest_difference` in its detail is that of the mean log-probability per token, in nats.
    """
    peer, ours, detail = works(setting.sized(shape), setting.dtype, setting.device, pool or Pool())
    with torch.inference_mode():
        gap = max(abs(a[0] - b[0]) for a, b in zip(peer(), ours(), strict=True))
        peers, own = in_turns(clocked(peer), clocked(ours), setting.repeats)
    return ratio(peers, own, goal=GOAL, detail={**detail, "largest_difference": gap})


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(device: str, dtype: str, repeats: int) -> None:
    """Measure and print: candidates with beginnings in common, and with nothing in common."""
    setting = Setting(device, getattr(torch, dtype), repeats, None, SamplingPlan.paper())
    for name, own in (("beginnings in common", OWN_SHARE), ("nothing in common", 1.0)):
        for shape in (shapes.MEDIUM, shapes.MEDIUM_LONG):
            found = against_plain_rows(shape, setting, Pool(own=own))
            click.echo(f"{shape.name:12} {name:21} {line('P3', found)}")


if __name__ == "__main__":
    main()
