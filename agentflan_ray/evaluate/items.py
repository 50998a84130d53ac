"""Which held-out items choose and which ones judge: no template or topic is in both."""

from __future__ import annotations

from typing import Literal

from agentflan_ray.randomness import stable_share
from agentflan_ray.sample import CASES
from agentflan_ray.toolbox import EvaluationItem, held_out_items
