"""Tasks with gold trajectories, made by really calling the tools of a seeded world."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from agentflan_ray.toolbox.catalogue import TOOLS, domain_of, irrelevant_tools
from agentflan_ray.toolbox.scene import Scene, Template
from agentflan_ray.toolbox.templates import leisure, office, reckoning, records, shop, town
from agentflan_ray.toolbox.world import World
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory

Split = Literal["train", "held_out"]
SPLITS: tuple[str, ...] = get_args(Split)

SOURCE = "toolbox"

TEMPLATES: dict[str, Template] = {
    template.name: template
    for module in (office, shop, town, records, reckoning, leisure)
    for template in module.TEMPLATES
}
"""Every task template by its name."""

DRAWS_PER_WORLD = 16
"""Neighbouring indices share a world: building one costs about 2 ms, copying it 0.1 ms."""

SIBLING_SHARE = 0.4
"""Share of tasks whose tool list holds another tool of a needed domain, so that the choice is not always obvious."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task, played: ``answer`` is what a right final answer must contain (see ``answers``)."""

    template: str
    world_seed: int
    tools: tuple[Tool, ...]
    messages: tuple[Message, ...]
    answer: tuple[str, ...]

    @property
    def query(self) -> str:
        """What the user asks."""
        return self.messages[0].content

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The gold calls in order, failed ones included."""
        return tuple(call for message in self.messages for call in message.calls)


def draw_trajectory(index: int, seed: int = 0, split: Split = "train") -> Trajectory:
    """The trajectory at ``index``: it depends on nothing but the arguments, so any part can be drawn anywhere.

    ``train`` needs only tools that are not held out and lists no held-out ones; ``held_out`` needs only held-out tools.

    Raises:
        ValueError: an index below zero or an unknown split.
    """
    world_seed, rng = drawing(index, seed, split)
    templates = [template for template in TEMPLATES.values() if template.held_out == (split == "held_out")]
    chosen = rng.choices(templates, [template.weight for template in templates])[0]
    task = play(chosen, world_seed, rng)
    return Trajectory(
        id=f"{SOURCE}/tool/{split}/{seed}/{index}",
        source=SOURCE,
        tools=task.tools,
        messages=task.messages,
        meta={
            "case": "tool",
            "template": task.template,
            "group": task.template,
            "num_calls": str(len(task.calls)),
            "world_seed": str(world_seed),
            "split": split,
        },
    )


def draw_trajectories(num: int, seed: int = 0, split: Split = "train", first: int = 0) -> Iterator[Trajectory]:
    """``draw_trajectory`` for ``num`` indices from ``first`` on."""
    return (draw_trajectory(index, seed, split) for index in range(first, first + num))


def drawing(index: int, seed: int, split: str, case: str = "tool") -> tuple[int, random.Random]:
    """The seed of the world for this index, and the random stream for what happens in it.

    Raises:
        ValueError: an index below zero or an unknown split.
    """
    if index < 0:
        raise ValueError(f"The index of a drawn record is 0 or more, but {index} was asked for.")
    if split not in SPLITS:
        raise ValueError(f"The split {split!r} is not known; use one of {', '.join(SPLITS)}.")
    world_seed = random.Random(f"{SOURCE}/{split}/{seed}/{index // DRAWS_PER_WORLD}").getrandbits(32)
    return world_seed, random.Random(f"{SOURCE}/{case}/{split}/{seed}/{index}")


def play(template: Template, world_seed: int, rng: random.Random) -> Task:
    """Play a template in a fresh copy of its world, and list its tools among others."""
    scene = Scene(built_world(world_seed).copy(), rng)
    template.play(scene)
    messages = tuple(scene.messages)
    needed = list(dict.fromkeys(call.name for message in messages for call in message.calls))
    tools = _with_distractors(needed, rng, template.held_out)
    return Task(template.name, world_seed, tools, messages, scene.values)


@lru_cache(maxsize=8)
def built_world(seed: int) -> World:
    """The world of a seed, to be copied before anything is changed in it."""
    return World(seed)


def _with_distractors(needed: list[str], rng: random.Random, held_out: bool) -> tuple[Tool, ...]:
    num = max(len(needed) + 1, rng.choice((3, 3, 4, 4, 5)))
    tools = [TOOLS[name].spec for name in needed]
    if rng.random() < SIBLING_SHARE:
        domains = {domain_of(name) for name in needed}
        siblings = [
            tool.spec
            for tool in TOOLS.values()
            if tool.domain in domains and tool.spec.name not in needed and (held_out or not tool.held_out)
        ]
        if siblings:
            tools.append(rng.choice(siblings))
    tools += irrelevant_tools(set(needed), rng, num - len(tools), held_out=held_out)
    rng.shuffle(tools)
    return tuple(tools)
