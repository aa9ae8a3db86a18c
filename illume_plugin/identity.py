"""What counts as the same thing, and the form in which it can be kept: hashes, wordings, storable text."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping

from illume_plugin.types import Json

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def canonical_json(value: Json) -> bytes:
    """Encode so that equal values give equal bytes: sorted keys, no spaces, ASCII only."""
    return _CANONICAL.encode(value).encode("ascii")


def content_hash(value: Json) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def content_hash_of_lists(value: Mapping[str, Iterable[Json]]) -> str:
    """The content hash of an object that holds lists alone, of which one item at a time is encoded."""
    digest = hashlib.sha256(b"{")
    for place, name in enumerate(sorted(value)):
        digest.update(b"," * (place > 0) + canonical_json(name) + b":[")
        for number, item in enumerate(value[name]):
            digest.update(b"," * (number > 0) + canonical_json(item))
        digest.update(b"]")
    digest.update(b"}")
    return digest.hexdigest()


def content_bits(value: Json, bits: int = 64) -> int:
    """The first `bits` (at most 64) bits of the content hash, as an integer in [0, 2**bits)."""
    return int(content_hash(value)[:16], 16) >> (64 - bits)


def wording(text: str) -> str:
    """What two texts have in common when a reader would call them the same sentence.

    Letter case, white space, Unicode form and closing punctuation do not count.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(" .,;!")


def storable(text: str) -> str:
    """The text with marks in place of what PostgreSQL or UTF-8 cannot hold: NUL and lone surrogates."""
    if text.isascii() and "\x00" not in text:  # nearly every text, and the others cost two copies
        return text
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
