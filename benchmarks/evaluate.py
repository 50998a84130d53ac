"""How fast replies come: the engine against plain loops of ``generate``, and how full multi-turn episodes keep it.

    python benchmarks/evaluate.py             # about 6 minutes on two free cores
    python benchmarks/evaluate.py --rounds 5
    python benchmarks/evaluate.py --cpu-time  # on a machine that does other work: one thread, its processor's seconds

SmolLM2-135M-Instruct from its package on a CPU. Prompts of the embedded toolbox, 30 to 550 tokens, at most 72 new
tokens; the model ends most replies earlier. In each round the engine with its default settings, ``generate`` in static
batches of 8 (prompts of like length together) and ``generate`` prompt by prompt (on every fourth prompt) come in turn,
and the ratios are taken within the round; medians of the rounds. All decode greedily, and the share of replies that
are the same text is printed. The engine starts each round without anything computed before.

Episodes ask three times each, with an observation of a simulated environment that takes 50 ms between the turns;
occupancy is the share of the engine's slots that had work, over all forward passes from first to last.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from agentflan_ray.evaluate.benchmark import Item, Metric, Reply, Request
from agentflan_ray.evaluate.engines.prompts import Prompter
from agentflan_ray.evaluate.engines.transformers import TransformersEngine, TransformersSettings
from agentflan_ray.evaluate.items import select_items
from agentflan_ray.evaluate.runner import evaluate
from agentflan_ray.evaluate.toolbox import REPLY_TOKENS, start
from agentflan_ray.toolbox import ITEM_CASES
from agentflan_ray.train.models import SMOLLM2, load_tokenizer, resolve

Clock = Callable[[], float]

SAMPLED = 4
"""Every so manieth prompt is answered alone: it takes four times as long as in batches."""


def main() -> None:
    """Print a table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=48, help="a multiple of 12")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread, and processor seconds in place of a clock's"
    )
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    if arguments.cpu_time:
        torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(resolve(SMOLLM2), dtype=torch.float32).eval()
    tokenizer = load_tokenizer(SMOLLM2)
    requests = prompts_of(arguments.prompts)
    rounds = [contest(model, tokenizer, requests, clock) for _ in range(arguments.rounds)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    occupancy, turns_per_second = episodes(model, tokenizer, arguments.episodes, clock)

    table = Table("", "replies/s", title=f"{arguments.prompts} prompts, {os.cpu_count()} cores", title_justify="left")
    for name in ("engine", "static batch 8", "batch 1"):
        table.add_row(name, f"{medians[name]:.2f}")
    table.add_row(f"{arguments.episodes} episodes of 3 turns", f"{turns_per_second:.2f}")
    console = Console()
    console.print(table)
    console.print(f"the same text as static batch 8: {medians['same']:.1%}; slots with work: {occupancy:.1%}")
    ratios = {
        "vs_batch1": statistics.median(each["engine"] / each["batch 1"] for each in rounds),
        "vs_batch8": statistics.median(each["engine"] / each["static batch 8"] for each in rounds),
        "episode_occupancy": occupancy,
    }
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))  # noqa: T201  # programs read it


def prompts_of(number: int) -> list[Request]:
    """First turns of toolbox items, cases in turn."""
    each = number // (2 * len(ITEM_CASES))
    items = select_items("choose", dict.fromkeys(ITEM_CASES, 2 * each))
    episodes = [start(item, place) for place, item in enumerate(items)]
    mixed = [episodes[case * 2 * each + place] for place in range(2 * each) for case in range(len(ITEM_CASES))]
    return [Request(tuple(episode.conversation), REPLY_TOKENS) for episode in mixed]


def contest(model: Any, tokenizer: Any, requests: Sequence[Request], clock: Clock) -> dict[str, float]:
    """Replies in a second of each kind, and the share of equal texts."""
    began = clock()
    with closing(TransformersEngine(model, tokenizer, SMOLLM2)) as engine:
        ours = [future.result() for future in [engine.submit(request) for request in requests]]
    ours_seconds = clock() - began
    batches, batches_seconds = static(model, tokenizer, requests, 8, clock)
    alone = requests[::SAMPLED]
    _, alone_seconds = static(model, tokenizer, alone, 1, clock)
    return {
        "engine": len(requests) / ours_seconds,
        "static batch 8": len(requests) / batches_seconds,
        "batch 1": len(alone) / alone_seconds,
        "same": sum(a.text == b for a, b in zip(ours, batches, strict=True)) / len(requests),
    }


def static(
    model: Any, tokenizer: Any, requests: Sequence[Request], batch_size: int, clock: Clock
) -> tuple[list[str], float]:
    """The replies of ``generate`` in batches, and their seconds."""
    began = clock()
    prompter = Prompter(tokenizer)
    prompts = [prompter.encode(prompter.text(request)) for request in requests]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    replies = [""] * len(prompts)
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        batch = tokenizer.pad(
            {"input_ids": [prompts[number].tolist() for number in chosen]},
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = model.generate(
                **batch, max_new_tokens=REPLY_TOKENS, do_sample=False, temperature=None, top_p=None, top_k=None
            )
        new = output[:, batch["input_ids"].shape[1] :]
        for number, text in zip(chosen, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            replies[number] = text.strip()
    return replies, clock() - began


def episodes(model: Any, tokenizer: Any, number: int, clock: Clock) -> tuple[float, float]:
    """Occupancy, and turns in a second."""
    settings = TransformersSettings(num_slots=8)
    began = clock()
    with closing(TransformersEngine(model, tokenizer, SMOLLM2, settings)) as engine:
        samples = evaluate(Turns(number), engine, Turns(number).items())
    seconds = clock() - began
    return engine.work.occupancy(engine.num_slots), sum(len(sample.turns) for sample in samples) / seconds


class Turns:
    """A benchmark whose environment takes its time and answers whatever is said."""

    name = "turns"
    protocol = "Three requests each."
    metrics: Sequence[Metric] = ()
    identity: Mapping[str, Any] = {}

    def __init__(self, number: int) -> None:
        self._number = number

    def items(self) -> list[Item]:
        """Toolbox questions with their tools."""
        requests = prompts_of(12 * ((self._number + 11) // 12))[: self._number]
        return [
            Item(str(place), "", "", {"messages": [dict(message) for message in request.messages]})
            for place, request in enumerate(requests)
        ]

    def open(self, item: Item) -> ThreeTurns:
        """Begin a conversation."""
        return ThreeTurns(item)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:  # noqa: ARG002
        """Nothing is scored."""
        return {}


class ThreeTurns:
    """A conversation of three turns with an observation between them."""

    def __init__(self, item: Item) -> None:
        self._messages = list(item.data["messages"])
        self._turns = 0

    def ask(self) -> Request | None:
        """The conversation so far."""
        return None if self._turns == 3 else Request(tuple(self._messages), 32)

    def take(self, reply: Reply) -> None:
        """What the environment says to it, after a while."""
        time.sleep(0.05)
        self._turns += 1
        self._messages += [
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": f"Observation: step {self._turns} is done. Go on."},
        ]

    def outcome(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Nothing to free."""


if __name__ == "__main__":
    main()
