"""Scores of rationales by the model itself: log-probability, and how much they owe to the picture."""

from illume_plugin.scoring.model_facts import Mode, ModelFacts, known_facts
from illume_plugin.scoring.score import ScoreRequest, facts_of, logprob_mean, score

__all__ = ["Mode", "ModelFacts", "ScoreRequest", "facts_of", "known_facts", "logprob_mean", "score"]
