"""What is kept out of every mixture, and together: one rule for training, exports and cards.

Ids do not tell which trajectories are the same task: of the real sources' validation requests, chosen by id, 227 of 399
(InterCode, AgentTraj-L, FireAct) stood word for word in training, as other runs. So a hash of the task's words, the
group, decides: it is the same for all runs of a task, from whatever file, and for all samples made of them.
"""

from __future__ import annotations

import itertools
import re

from agentflan_ray.randomness import stable_hash, stable_share
from agentflan_ray.trajectory import Trajectory

VALIDATION_SHARE = 0.05
"""Share of groups kept for validation, so that all trials are measured on the same unseen text."""

GREETING_WORDS = 6
"""A first message with fewer words ("Hi there", "I need a doctor") may open any conversation."""

_WORD = re.compile(r"\w+")


def group_of(trajectory: Trajectory) -> str:
    """The name of the trajectory's task: 16 hexadecimal digits from the lower-case words of its first user message,
    and of the second where the first has fewer than :data:`GREETING_WORDS`.

    The system message is not looked at: the same task is asked under different ones. Openings that all conversations
    of a source share make one group, which is as a whole in training or in validation. Of 69,000 real trajectories
    only the 996 games of Wordle, whose task is hidden, are that many; the next largest group has 75.
    """
    asked = (message.content for message in trajectory.messages if message.role == "user")
    first, second = [_WORD.findall(text.lower()) for text in (*itertools.islice(asked, 2), "", "")][:2]
    words = [*first, "", *second] if len(first) < GREETING_WORDS else first
    return f"{stable_hash('group', *words):016x}"


def unit_of(group: str, parent: str) -> str:
    """What a sample is kept together with: its group, or the samples of its trajectory where it was given no group."""
    return group or parent


def is_validation(unit: str) -> bool:
    """Whether the samples of this unit are validation text: a stable hash decides, on every machine."""
    return stable_share("validation", unit) < VALIDATION_SHARE
