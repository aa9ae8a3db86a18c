"""What counts as the same thing, and the form in which it can be kept: hashes, wordings, storable text."""

from __future__ import annotations

import hashlib
import json
import unicodedata

from illume_plugin.types import Json


def canonical_json(value: Json) -> bytes:
    """Encode so that equal values give equal bytes: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def content_hash(value: Json) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


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
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
