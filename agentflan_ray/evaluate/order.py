"""Orders of items in which every prefix is a fair sample of the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from agentflan_ray.evaluate.benchmark import Item
from agentflan_ray.randomness import stable_hash


def in_fair_order(items: Iterable[Item], stratum: Callable[[Item], str] = lambda item: item.case) -> tuple[Item, ...]:
    """Items so that a prefix holds about the same share of every stratum (a case), whose items stand in the order of a
    hash of ids.

    The k-th of a stratum's n items stands at (k + ½)/n of the whole.
    """
    cases: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        cases[stratum(item)].append(item)
    placed = [
        ((place + 0.5) / len(members), stable_hash(case), item)
        for case, members in cases.items()
        for place, item in enumerate(sorted(members, key=lambda item: (stable_hash(item.id), item.id)))
    ]
    return tuple(item for _, _, item in sorted(placed, key=lambda entry: entry[:2]))
