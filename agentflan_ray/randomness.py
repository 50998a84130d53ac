"""Randomness that is a function of names: the same record gives the same choices on every machine, in every order."""

from __future__ import annotations

import hashlib
import random


def stable_hash(*names: object) -> int:
    """A 63-bit integer (it fits Arrow's int64) from the SHA-256 of the names."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stable_random(*names: object) -> random.Random:
    """A generator seeded by the names."""
    return random.Random(stable_hash(*names))


def stable_share(*names: object) -> float:
    """A number in [0, 1) from the names; ``stable_share(...) < share`` draws nested subsets."""
    return stable_hash(*names) / 2**63
