"""Drives one BrowserGym environment for another process: a line of JSON in, a line of JSON out.

BrowserGym pins an old Playwright, whose objects belong to one thread, and a browser may die: so it runs in a process
of its own, in any Python that has it. This file therefore imports nothing of the project.

    {"reset": {"task": "miniwob.click-test", "seed": 0}}  ->  {"goal": …, "page": …, "url": …, "error": ""}
    {"step": "click('12')"}                               ->  the same and "reward", "done"
    {"close": true}                                       ->  the process ends
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def page_of(observation: dict[str, Any]) -> dict[str, Any]:
    """What a model is shown of an observation."""
    from browsergym.utils.obs import flatten_axtree_to_str

    tree = flatten_axtree_to_str(
        observation["axtree_object"], observation.get("extra_element_properties"), filter_visible_only=False
    )
    goal = observation.get("goal") or "\n".join(part.get("text", "") for part in observation.get("goal_object", ()))
    return {"goal": goal, "page": tree, "url": observation["url"], "error": observation["last_action_error"]}


def main() -> None:
    """Serve until the input ends."""
    # Chatter of libraries must not get between the answers.
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    import gymnasium

    environment: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "reset" in asked:
            if environment is not None:
                environment.close()
            task = asked["reset"]["task"]
            importlib.import_module(f"browsergym.{task.split('.')[0]}")
            environment = gymnasium.make(f"browsergym/{task}", headless=True)
            observation, _ = environment.reset(seed=asked["reset"]["seed"])
            answer = {**page_of(observation), "reward": 0.0, "done": False}
        elif "step" in asked:
            observation, reward, terminated, truncated, _ = environment.step(asked["step"])
            answer = {**page_of(observation), "reward": float(reward), "done": bool(terminated or truncated)}
        else:
            break
        print(json.dumps(answer), file=answers, flush=True)
    if environment is not None:
        environment.close()


if __name__ == "__main__":
    main()
