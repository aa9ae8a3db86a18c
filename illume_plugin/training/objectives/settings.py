"""Which objectives a run has, how much each weighs, and their knobs. No torch here.

L = illume L_illume + dress L_dress + dpo L_dpo + kto L_kto + contrast L_contrast
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from illume_plugin.errors import SettingsError
from illume_plugin.examples import LabelledRationale, ObjectiveName
from illume_plugin.types import TrainingSet

#: Weight of DRESS's loss where it is on because there is feedback.
_DRESS = 1.0
#: Weight of DPO where it is on because there are enough pairs. With 1, at the learning rate that ILLUME's
#: loss wants, the third round made the adapter worse on the picture world; ours.
_DPO = 0.1
#: Share of pairs that may be made to be wrong: they may fit by chance.
MOST_NEGATIVES = 0.25
#: KTO's lambda makes up for an uneven training set up to this factor.
_MOST_BALANCING = 10.0


@dataclass(frozen=True)
class ObjectiveSettings:
    """The weighted sum that a run minimises.

    Attributes:
        illume: weight of ILLUME's mixed loss; 0: off, here and below.
        dress: weight of DRESS's conditional loss; None: 1 where people gave feedback (stars, a critique, a
            wish for a change), else 0.
        dpo: weight of DPO on preference pairs; None: 0.1 from `pairs_needed` pairs on, else 0. Off unless it
            is asked for: it learns faster at first and less in the end (docs/lab-notes.md; ours).
        kto: weight of KTO on labelled rationales: all of them, or those in no pair where DPO is on as well.
        contrast: weight of C3L's contrast; 0.1 where it is wanted (ours).
        pairs_needed: pairs from which DPO comes on where `dpo` is None (ours).
        beta: how strongly DPO and KTO hold on to the reference; CSR's value.
        desirable_weight, undesirable_weight: KTO's lambda of rationales that fit and that do not; None: 1
            for the side with more weight in the training set, and as much more for the other as makes both
            sides weigh the same (KTO's equation 8), at most 10.
        tau: temperature of the contrast; C3L's range is 0.1 to 0.2.
        drop_critique: share of epochs in which an example's critique is left out.
        drop_condition: share of epochs in which the whole condition of a rationale that fits is left out, so
            that the plain prompt keeps working.
        negative_share: share of DPO's pairs, at most, whose rejected side is made to be wrong for tasks in no
            other pair: what the model says under the picture of another task (after POVID); 0: none, up to
            0.25.
        self_reward: tasks that nobody has judged give DPO a pair each by their calibrated ranks (CSR), while
            these agree with people on the tasks that they have judged.
        weigh_content: an accepted rationale counts in ILLUME's loss by what it owes to the picture, its i2c
            over the median, from 0.5 to 2 times (ours; see `content_weights`).
    """

    illume: float = 1.0
    dress: float | None = None
    dpo: float | None = 0.0
    kto: float = 0.0
    contrast: float = 0.0
    pairs_needed: int = 200
    beta: float = 0.1
    desirable_weight: float | None = None
    undesirable_weight: float | None = None
    tau: float = 0.1
    drop_critique: float = 0.2
    drop_condition: float = 0.1
    negative_share: float = 0.0
    self_reward: bool = True
    weigh_content: bool = False

    def __post_init__(self) -> None:
        problems = [*self._weight_problems(), *self._knob_problems()]
        if problems:
            raise SettingsError("The objectives' settings are wrong: " + " ".join(problems))

    @property
    def possible(self) -> frozenset[ObjectiveName]:
        """Those that are on, or come on where the training set has enough: what it must hold records for."""
        return frozenset(name for name in ObjectiveName if getattr(self, name) != 0)

    def weights(self, training_set: TrainingSet) -> dict[ObjectiveName, float]:
        """The weight of each objective that is on for this training set and has records in it."""
        given = {
            ObjectiveName.ILLUME: self.illume if training_set.rows else 0.0,
            ObjectiveName.DRESS: self._dress(training_set),
            ObjectiveName.DPO: self._dpo(training_set),
            ObjectiveName.KTO: self.kto if self.labels(training_set) else 0.0,
            ObjectiveName.CONTRAST: self.contrast if training_set.contrast else 0.0,
        }
        return {name: weight for name, weight in given.items() if weight}

    def labels(self, training_set: TrainingSet) -> tuple[LabelledRationale, ...]:
        """What KTO learns from: all labels, or those in no pair where DPO learns from the pairs."""
        if not self._dpo(training_set):
            return training_set.labels
        return tuple(label for label in training_set.labels if not label.paired)

    def kto_lambdas(self, labels: Iterable[LabelledRationale]) -> tuple[float, float]:
        """(lambda_D, lambda_U) for these labels."""
        sides = {True: 0.0, False: 0.0}
        for label in labels:
            sides[label.desirable] += label.weight
        desirable, undesirable = sides[True], sides[False]
        return (
            _balancing(desirable, undesirable) if self.desirable_weight is None else self.desirable_weight,
            _balancing(undesirable, desirable)
            if self.undesirable_weight is None
            else self.undesirable_weight,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ObjectiveSettings:
        """The settings from JSON values; what is left out has its default.

        Raises:
            SettingsError: not an object, an unknown name or a wrong value.
        """
        if not isinstance(values, Mapping):
            raise SettingsError(f"objectives must be an object with names and values, not {values!r}.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SettingsError(
                f"Unknown settings of objectives: {', '.join(unknown)}.",
                todo=f"Known are: {', '.join(sorted(known))}.",
            )
        return cls(**values)

    def _dress(self, training_set: TrainingSet) -> float:
        if not training_set.feedback:
            return 0.0
        said = any(
            not each.implied or each.condition.critique or each.refinement for each in training_set.feedback
        )
        return self.dress if self.dress is not None else _DRESS * said

    def _dpo(self, training_set: TrainingSet) -> float:
        if not training_set.pairs:
            return 0.0
        return self.dpo if self.dpo is not None else _DPO * (len(training_set.pairs) >= self.pairs_needed)

    def _weight_problems(self) -> Iterator[str]:
        automatic = ("dress", "dpo", "desirable_weight", "undesirable_weight")
        for name in ("illume", "kto", "contrast", *automatic):
            value = getattr(self, name)
            if not (value is None and name in automatic) and not (_is_number(value) and value >= 0):
                left_out = " or left out" if name in automatic else ""
                yield f"{name} must be a number of at least 0{left_out}, not {value!r}."
        if not self.possible:
            yield "every objective is off (all weights are 0)."

    def _knob_problems(self) -> Iterator[str]:
        for name in ("beta", "tau"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) > 0):
                yield f"{name} must be a number above 0, not {getattr(self, name)!r}."
        for name in ("drop_critique", "drop_condition"):
            if not (_is_number(getattr(self, name)) and 0 <= getattr(self, name) <= 1):
                yield f"{name} must be from 0 to 1, not {getattr(self, name)!r}."
        if not (_is_number(self.negative_share) and 0 <= self.negative_share <= MOST_NEGATIVES):
            yield f"negative_share must be from 0 to {MOST_NEGATIVES}, not {self.negative_share!r}."
        for name in ("self_reward", "weigh_content"):
            if getattr(self, name) not in (True, False):
                yield f"{name} must be true or false, not {getattr(self, name)!r}."
        whole = isinstance(self.pairs_needed, int) and not isinstance(self.pairs_needed, bool)
        if not (whole and self.pairs_needed > 0):
            yield f"pairs_needed must be a whole number above 0, not {self.pairs_needed!r}."


def _balancing(own: float, other: float) -> float:
    return min(max(other / own, 1.0), _MOST_BALANCING) if own and other else 1.0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
