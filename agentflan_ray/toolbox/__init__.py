"""The embedded world: executable tools, tasks with gold trajectories made by running them, and held-out items.

Pure Python and SQLite: it needs no download, no network and no accelerator.
"""

from agentflan_ray.toolbox.asking import draw_missing_argument
from agentflan_ray.toolbox.catalogue import TOOLS, domain_of, execute, irrelevant_tools
from agentflan_ray.toolbox.chat import draw_chat
from agentflan_ray.toolbox.items import ITEM_CASES, EvaluationItem, answer_is_right, held_out_items
from agentflan_ray.toolbox.tasks import Split, draw_trajectories, draw_trajectory
from agentflan_ray.toolbox.tool import EmbeddedTool, Observation
from agentflan_ray.toolbox.world import World

__all__ = [
    "ITEM_CASES",
    "TOOLS",
    "EmbeddedTool",
    "EvaluationItem",
    "Observation",
    "Split",
    "World",
    "answer_is_right",
    "domain_of",
    "draw_chat",
    "draw_missing_argument",
    "draw_trajectories",
    "draw_trajectory",
    "execute",
    "held_out_items",
    "irrelevant_tools",
]
