"""Candidates of one prompt as a tree of tokens: what several of them begin with stands there once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tokens = tuple[int, ...]

#: The prompt, as the parent of what follows it.
PROMPT = -1


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Tokens that follow one prompt, parents before children.

    A candidate's last token is no node: nothing follows it, so it need not be read to be predicted.

    Attributes:
        tokens: token id of each node.
        parents: node before each node, or PROMPT.
        depths: nodes between each node and the prompt.
        paths: for each candidate, the node that predicts each of its tokens: the one before it.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    paths: list[list[int]]

    @classmethod
    def of(cls, candidates: Sequence[Tokens]) -> TokenTree:
        """Build the tree of `candidates`, each at least one token long."""
        tree = cls([], [], [], [])
        known: dict[tuple[int, int], int] = {}
        for candidate in candidates:
            node = PROMPT
            path = [node]
            for token in candidate[:-1]:
                node = known.setdefault((node, token), len(tree.tokens))
                if node == len(tree.tokens):
                    tree.tokens.append(token)
                    tree.parents.append(path[-1])
                    tree.depths.append(len(path) - 1)
                path.append(node)
            tree.paths.append(path)
        return tree

    @property
    def chain(self) -> bool:
        """Whether it does not branch, so that plain causal attention is right for it."""
        return self.parents == list(range(-1, len(self.tokens) - 1))

    def ancestors(self) -> npt.NDArray[np.bool_]:
        """Whether node i may see node j (j is i or comes before it); shape (nodes, nodes)."""
        seen = np.zeros((len(self.tokens), len(self.tokens)), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent != PROMPT:
                seen[node] = seen[parent]
            seen[node, node] = True
        return seen


def groups(candidates: Sequence[Tokens], at_most: int) -> Iterator[list[int]]:
    """Split candidates into groups whose trees have at most so many nodes; yields their indices.

    Neighbours in token order share most, so they stay together. One long candidate may exceed the limit.
    """
    group: list[int] = []
    nodes = 0
    last: Tokens = ()
    for index in sorted(range(len(candidates)), key=lambda i: candidates[i]):
        tokens = candidates[index][:-1]
        new = len(tokens) - common_prefix(last, tokens)
        if group and nodes + new > at_most:
            yield group
            group, nodes, new = [], 0, len(tokens)
        group.append(index)
        nodes += new
        last = tokens
    if group:
        yield group


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))
