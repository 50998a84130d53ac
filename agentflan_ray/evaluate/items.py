"""Which held-out items choose and which ones judge: no template or topic is in both."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from agentflan_ray.randomness import stable_hash
from agentflan_ray.toolbox import ITEM_CASES, EvaluationItem, held_out_items

Split = Literal["choose", "judge"]

_DRAWN = 240
"""Items drawn of each case before they are split; as many can be asked for at most of one split's groups."""


def select_items(split: Split, num_per_case: dict[str, int], seed: int = 0) -> list[EvaluationItem]:
    """Items of one half of the held-out groups: ``choose`` for the trials of a search, ``judge`` for the final word.

    A case's groups are sorted by a stable hash and dealt out in turn. Groups take turns within a split, so that few
    items still see many groups.

    Raises ``ValueError`` for an unknown case, or where more items are asked for than there are.
    """
    if unknown := set(num_per_case) - set(ITEM_CASES):
        raise ValueError(f"Unknown case {sorted(unknown)[0]!r}; there are {', '.join(ITEM_CASES)}.")
    chosen: list[EvaluationItem] = []
    by_case: dict[str, dict[str, list[EvaluationItem]]] = defaultdict(lambda: defaultdict(list))
    for item in held_out_items(_DRAWN, seed):
        by_case[item.case][item.group].append(item)
    for case, num in num_per_case.items():
        groups = sorted(by_case[case], key=lambda group: stable_hash("split", group))
        mine = [by_case[case][group] for group in groups[0 if split == "choose" else 1 :: 2]]
        depth = max((len(items) for items in mine), default=0)
        dealt = [items[turn] for turn in range(depth) for items in mine if turn < len(items)]
        if len(dealt) < num:
            raise ValueError(f"{num} items of the case {case} are asked for, but the split {split!r} has {len(dealt)}.")
        chosen += dealt[:num]
    return chosen
