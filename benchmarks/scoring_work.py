"""P3: scoring 25 candidates with and without the picture, against one forward pass for each candidate.

The figure belongs to `benchmarks/sampling.py`; alone, for a look: python benchmarks/scoring_work.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin cost others their time

import click
import shapes
import torch

from illume_plugin.scoring import Mode
from illume_plugin.scoring.content import i2c, pmi
from illume_plugin.scoring.passes import plain_logprobs, read_prompt, tree_logprobs
from illume_plugin.scoring.tree import Tokens, TokenTree

Figures = list[tuple[float, float, float]]
Work = Callable[[], Figures]

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

    def peer() -> Figures:
        return figures(*(plain_logprobs(model, prompt, candidates) for prompt in (seen, blind)))

    def ours() -> Figures:
        return figures(
            *(
                tree_logprobs(model, read_prompt(model, prompt), candidates, tokens_at_a_time=1024)
                for prompt in (seen, blind)
            )
        )

    nodes = len(TokenTree.of(candidates).tokens)
    detail = {"shape": shape.name, "candidates": pool.count, "tokens": pool.tokens, "nodes": nodes}
    return peer, ours, {**detail, "mode": Mode.TREE.value}


def figures(seen: Sequence[Sequence[float]], blind: Sequence[Sequence[float]]) -> Figures:
    """log-probability, i2c and pmi of every candidate."""
    pairs = zip(seen, blind, strict=True)
    return [(sum(one) / len(one), i2c(one, other), pmi(one, other)) for one, other in pairs]


def paired(peer: Work, ours: Work, repeats: int) -> tuple[list[float], list[float], float]:
    """Seconds of the peer and ours in every repeat, after one that is not counted; and how far they differ.

    The difference is the largest one in mean log-probability per token, in nats.
    """
    times: dict[Work, list[float]] = {peer: [], ours: []}
    found: dict[Work, Figures] = {}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for work in (peer, ours) if repeat % 2 else (ours, peer):
                start = time.perf_counter()
                found[work] = work()
                times[work].append(time.perf_counter() - start)
    gap = max(abs(a[0] - b[0]) for a, b in zip(found[peer], found[ours], strict=True))
    return times[peer][1:], times[ours][1:], gap


def scoring(
    shape: shapes.Shape, *, dtype: torch.dtype, device: str, repeats: int, pool: Pool | None = None
) -> dict[str, Any]:
    """P3, as it is written: the peer's time over ours."""
    peer, ours, detail = works(shape, dtype, device, pool or Pool())
    peers, own, gap = paired(peer, ours, repeats)
    ratios = [a / b for a, b in zip(peers, own, strict=True)]
    return {
        "median": median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "n": len(ratios),
        "goal": 10,
        "higher_is_better": True,
        "detail": {**detail, "peer_seconds": peers, "our_seconds": own, "largest_difference": gap},
    }


@click.command(help=(__doc__ or "").split("\n")[0])
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(device: str, dtype: str, repeats: int) -> None:
    """Measure and print: candidates with beginnings in common, and with nothing in common."""
    for name, own in (("beginnings in common", OWN_SHARE), ("nothing in common", 1.0)):
        for shape in (shapes.MEDIUM, shapes.MEDIUM_LONG):
            found = scoring(
                shape, dtype=getattr(torch, dtype), device=device, repeats=repeats, pool=Pool(own=own)
            )
            detail = found["detail"]
            click.echo(
                f"{shape.name:12} {name:21} {found['median']:6.2f}x ({found['min']:.2f}-{found['max']:.2f}, "
                f"n = {found['n']}) {median(detail['peer_seconds']):.2f} s / "
                f"{median(detail['our_seconds']):.2f} s, {detail['nodes']} nodes, "
                f"difference {detail['largest_difference']:.1g}"
            )


if __name__ == "__main__":
    main()
