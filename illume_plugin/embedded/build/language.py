"""Stages 2 and 3: the language model learns to answer and to explain, from symbolic picture tokens.

What a picture token will be once the tower and the projector work is a sum: what stands there, and where.
Training on such sums (with noise, as the projector will not hit them exactly) needs no pictures, so nearly
all of the time goes into what is hard for a small transformer: to find things by what they look like.
Two more things make the search learnable in minutes:

* the sums start as the sums of the embeddings of the words ("red", "circle", "top", "left"), and keys start
  equal to queries, so that from the first step a word attends to the picture tokens that it names;
* a linear probe half-way up must tell from each picture token whether the question speaks of it (the first
  or the second thing mentioned). It is dropped after training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from illume_plugin.embedded.build.corpus import ANSWER, RATIONALE, Corpus
from illume_plugin.embedded.questions import KINDS
from illume_plugin.embedded.scene import PLACES, VALUES, Attribute
from illume_plugin.errors import RunError

#: Layer after which the probe must see what the question speaks of.
PROBED_LAYER = 2


@dataclass(frozen=True, slots=True)
class Course:
    """One stretch of training.

    Attributes:
        steps: optimizer steps; a cosine takes the learning rates to a twentieth of their start.
        rate: learning rate.
        explain: whether the rationales are trained, or the answers alone.
        noise: standard deviation of what is added to each picture token, relative to its own.
        probe: weight of the probe's loss.
    """

    name: str
    steps: int
    batch: int
    rate: float
    explain: bool
    noise: float = 0.1
    probe: float = 1.0


class Symbols(nn.Module):
    """Embeds what `corpus.describe` says of a picture: (n, 9, 3) indices -> (n, 9, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = nn.Embedding(len(PLACES), width)
        self.attributes = nn.ModuleList(nn.Embedding(1 + len(VALUES[a]), width) for a in Attribute)

    def forward(self, cells: Tensor) -> Tensor:
        """Sum of the embeddings of each place and of what stands there."""
        total: Tensor = self.place.weight + sum(
            table(cells[..., i]) for i, table in enumerate(self.attributes)
        )
        return total

    @torch.no_grad()
    def start_from_words(self, embed: Callable[[str], Tensor]) -> None:
        """Set every embedding to the sum of those of the words that say it; an empty cell says nothing."""
        for i, place in enumerate(PLACES):
            self.place.weight[i] = embed(place)
        for attribute, table in zip(Attribute, self.attributes, strict=True):
            assert isinstance(table, nn.Embedding)  # noqa: S101
            table.weight[0] = 0.0
            for i, value in enumerate(VALUES[attribute]):
                table.weight[1 + i] = embed(value)


class Learner(nn.Module):
    """The language model of a LLaVA, with symbolic eyes and a probe."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        width = model.config.text_config.hidden_size
        self.image_token = model.config.image_token_id
        self.symbols = Symbols(width)
        self.probe = nn.Linear(width, 2)
        table = model.get_input_embeddings().weight

        def embed(words: str) -> Tensor:
            ids = tokenizer(f" {words}", add_special_tokens=False)["input_ids"]
            total: Tensor = table.detach()[ids].sum(0)
            return total

        self.symbols.start_from_words(embed)
        with torch.no_grad():
            for layer in model.model.language_model.layers:
                layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)

    def forward(self, ids: Tensor, cells: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """Last hidden states (n, length, width) and the probe's logits (n, 9, 2)."""
        return self.read(ids, self.symbols(cells), noise)

    def read(self, ids: Tensor, picture: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """The same from picture tokens (n, 9, width) instead of symbols."""
        if noise:
            picture = picture + noise * picture.detach().std() * torch.randn_like(picture)
        shown = ids == self.image_token
        embedded = self.model.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter(shown[..., None], picture)
        states = self.model.model.language_model(
            inputs_embeds=embedded, output_hidden_states=True, use_cache=False
        ).hidden_states
        half_way = states[PROBED_LAYER][shown].view(len(ids), len(PLACES), -1)
        return states[-1], self.probe(half_way)


def batches(corpus: Corpus, size: int, explain: bool, seed: int) -> Iterator[NDArray[np.int64]]:
    """Row indices, batch by batch and epoch by epoch without end; rows of a batch are about as long."""
    rng = np.random.default_rng(seed)
    lengths = corpus.ends if explain else corpus.answer_ends
    together = min(16, len(corpus) // size)  # batches whose rows are sorted by length together
    if together == 0:
        raise RunError(f"A batch of {size} rows cannot be drawn from {len(corpus)}.")
    while True:
        order = rng.permutation(len(corpus))
        for start in range(0, len(order) - together * size + 1, together * size):
            chunk = order[start : start + together * size]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            yield from chunk.reshape(together, size)[rng.permutation(together)]


def losses(
    learner: Learner, corpus: Corpus, rows: NDArray[np.int64], course: Course
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss of answer tokens, of rationale tokens, and of the probe."""
    ends = corpus.ends if course.explain else corpus.answer_ends
    length = int(ends[rows].max())
    ids = torch.from_numpy(corpus.ids[rows, :length].astype(np.int64))
    parts = torch.from_numpy(corpus.parts[rows, :length])[:, 1:]
    cells = torch.from_numpy(corpus.cells[rows].astype(np.int64))
    roles = torch.from_numpy(corpus.roles[rows]).float()
    states, probed = learner(ids, cells, course.noise)
    trained = parts != 0
    logits = learner.model.lm_head(states[:, :-1][trained])
    each = functional.cross_entropy(logits, ids[:, 1:][trained], reduction="none")
    sort = parts[trained]
    answer = each[sort == ANSWER].mean()
    rationale = each[sort == RATIONALE].mean() if course.explain else torch.zeros(())
    return answer, rationale, functional.binary_cross_entropy_with_logits(probed, roles)


class Optimizer:
    """Muon for the matrices of the layers (Jordan et al. 2024), AdamW for everything else."""

    def __init__(self, module: nn.Module) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
        rest = [p for name, p in named if not (p.ndim == 2 and ".layers." in name)]
        self._parts: Sequence[torch.optim.Optimizer] = (
            torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, weight_decay=0.0, betas=(0.9, 0.98)),
        )
        self._parameters = [p for _, p in named]

    def step(self, loss: Tensor, rate: float) -> None:
        """One step against `loss` at this learning rate."""
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)


def train(
    learner: Learner,
    corpus: Corpus,
    held_out: Corpus,
    course: Course,
    seed: int,
    report: Callable[[str], None],
) -> None:
    """Train on a corpus; tells what happens, with accuracy on held-out tasks, now and then."""
    torch.manual_seed(seed)
    learner.train()
    optimizer = Optimizer(learner)
    started, shown = time.perf_counter(), torch.zeros(3)
    source = batches(corpus, course.batch, course.explain, seed)
    for step in range(course.steps):
        answer, rationale, probe = losses(learner, corpus, next(source), course)
        rate = course.rate * schedule(step, course.steps)
        optimizer.step(answer + rationale + course.probe * probe, rate)
        shown.lerp_(torch.stack((answer, rationale, probe)).detach(), 0.05 if step else 1.0)
        if (step + 1) % 50 == 0:
            said = " ".join(f"{value:.3f}" for value in shown.tolist())
            report(f"{course.name} {step + 1}/{course.steps} {time.perf_counter() - started:.0f} s  {said}")
        if (step + 1) % 200 == 0 or step + 1 == course.steps:
            found = accuracy(learner, held_out)
            report("  " + " ".join(f"{kind} {value:.2f}" for kind, value in found.items()))


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: 50 steps up, then a cosine down to a twentieth."""
    up = min(1.0, (step + 1) / 50)
    return up * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


@torch.inference_mode()
def accuracy(learner: Learner, corpus: Corpus, size: int = 150) -> dict[str, float]:
    """Share of right answers, over all tasks and by kind, from symbolic picture tokens."""
    learner.eval()
    right = np.zeros(len(corpus), bool)
    for start in range(0, len(corpus), size):
        rows = np.arange(start, min(start + size, len(corpus)))
        ids = torch.from_numpy(corpus.ids[rows, : corpus.answer_ends[rows].max()].astype(np.int64))
        states, _ = learner(ids, torch.from_numpy(corpus.cells[rows].astype(np.int64)))
        at = torch.from_numpy(corpus.answer_ends[rows].astype(np.int64)) - 3  # the token before the answer
        each = torch.arange(len(rows))
        said = learner.model.lm_head(states[each, at]).argmax(-1)
        right[rows] = (said == ids[each, at + 1]).numpy()
    learner.train()
    found = {"all": float(right.mean())}
    return found | {
        kind: float(right[corpus.kinds == i].mean())
        for i, kind in enumerate(KINDS)
        if (corpus.kinds == i).any()
    }
