"""In how few bits the language blocks of a base model are kept. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from illume_plugin.types import Json


class Quantization(StrEnum):
    """How the linear layers of the language blocks are kept in memory; all else is as `dtype` says."""

    NONE = "none"  # as `dtype` says, too
    NF4 = "nf4"  # 4 bits, computed in `dtype` (QLoRA, arXiv 2305.14314)
    INT8 = "int8"  # 8 bits, computed in 8 bits but for outliers (LLM.int8(), arXiv 2208.07339)

    def weight_bytes(self, width: int) -> float:
        """Bytes that one weight of a language block takes, its share of the scales included.

        Args:
            width: bytes of a number that is not quantised.
        """
        match self:
            case Quantization.NF4:  # a scale of one byte for 64 weights, and one of four for 256 scales
                return 0.5 + 1 / 64 + 4 / (64 * 256)
            case Quantization.INT8:  # and a scale for each output, which is next to nothing
                return 1.0
            case Quantization.NONE:
                return float(width)


def in_other_bits(version: str, config: Mapping[str, Json], served: Quantization) -> str:
    """What is wrong with serving an adapter on a base model in other bits; "" where it has as many.

    An adapter corrects the model that it was trained on, rounding included (docs/adr/0016).

    Args:
        config: of the version's meta.json; one that names no bits was trained on a model without rounding.
        served: the base model's.
    """
    trained = str(config.get("quantization", Quantization.NONE))
    if trained == served:
        return ""
    return (
        f"{version} was trained on the base model with quantization {trained} and serves on one with "
        f"{served}: it corrects other roundings than there are. Set ILLUME_QUANTIZATION={trained}, or train "
        "again."
    )
