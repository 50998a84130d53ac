"""KnowAgent: ALFWorld successes with thoughts (Zhu et al. 2024, arXiv 2403.03101), as messages.

Data sheet
    Fields: ``id``, ``messages`` (list of ``{role: user|assistant, content, loss?}``), ``source``
    (``knowagent_alfworld``; the source ``openai_messages`` knows them by it).
    Seen: 316 records, 315 kept.
    Read: ``Think: ..`` lines as the thought, the last line of a reply as the action, in ALFWorld's words.
    Taken out: ``ActionPath: ..`` lines, a record of the actions so far; the observation after the last action.
    Dropped: ``unreadable_action``, 1 seen (``rest on bed 1``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflan_ray.sources.actions import Task
from agentflan_ray.sources.agentinstruct import ALFWORLD, ALFWORLD_VERBS
from agentflan_ray.sources.base import Dropped, Source, Where, record_id
from agentflan_ray.sources.text_actions import read_messages
from agentflan_ray.trajectory import Trajectory

TASK = Task(
    name="alfworld",
    marker="",
    system=ALFWORLD.system,
    verbs=ALFWORLD_VERBS,
    action=r"^(?=[^\n]*\Z)",
    label=r"^actionpath:[^\n]*\n?|^think:[ \t]*",
)


def parse(row: dict[str, Any], where: Where) -> Iterator[Trajectory | Dropped]:
    """One KnowAgent record."""
    yield from read_messages(row, record_id(row, where), TASK, "knowagent_alfworld")


SOURCE = Source("knowagent", parse, "KnowAgent: ALFWorld successes with thoughts, as messages")
