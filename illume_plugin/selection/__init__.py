"""From raw draws to the candidates that a person sees: cleaned, ranked, chosen. No torch, no I/O."""

from illume_plugin.selection.choosing import TRADE_OFF, choose
from illume_plugin.selection.cleaning import NEAR, Cleaned, Drop, Reason, clean, counts
from illume_plugin.selection.ranking import RELEVANCE_WEIGHT, calibrated_ranks, normalised_ranks, path_rank

__all__ = [
    "NEAR",
    "RELEVANCE_WEIGHT",
    "TRADE_OFF",
    "Cleaned",
    "Drop",
    "Reason",
    "calibrated_ranks",
    "choose",
    "clean",
    "counts",
    "normalised_ranks",
    "path_rank",
]
