"""How quickly a small model is trained on a CPU, against a bare loop and TRL: ratios within one run.

    python benchmarks/train.py                      # about five minutes on two free cores
    python benchmarks/train.py --blocks 20          # more steps

Model: SmolLM2-135M-Instruct from its package, float32, exact products, AdamW, clipping at 1, two threads. Data: samples
of the embedded world in the forms of Agent-FLAN, drawn, derived and tokenised once; every contestant learns the same
samples and the same tokens of them, in as many steps. A contestant and ours run in a process each, and take steps in
turn, so that whatever else the machine does meets both. The first step is not counted.

- ours: ``train.loop.train`` on packed blocks, metrics of every component included.
- bare: the model of transformers with its mask for packed samples (SDPA), all logits of a block, ``cross_entropy``,
  fused AdamW, on the same blocks.
- TRL: ``SFTTrainer`` on the same samples, as many to a batch as lie in a block on average, padded to the longest of the
  batch as is its default, and with its default loss (the head on supervised tokens only); float32 and no activation
  checkpointing, because the others have none.
- TRL packed: the same with ``packing=True``, for information.

``cpu_vs_…`` is the median over the steps of how many times longer theirs took: as all steps of a contestant see all
samples once, that is seconds per supervised token. ``metering_overhead`` is the time that the sums by component take,
as a share of our steps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from samples import PackedBlocks, Samples, draw_samples

CORES = 2
NUM_BLOCKS = 7
BLOCK_LENGTH = 1024
MODEL = "smollm2-135m-instruct"
LEARNING_RATE = 1e-5
NUM_DRAWS = 400
STEP = "step: "


def main() -> None:
    """Run the contests and print a table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=NUM_BLOCKS, help=f"of {BLOCK_LENGTH} tokens, one to a step")
    parser.add_argument("--contestant", nargs=2, metavar=("NAME", "SAMPLES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        name, path = arguments.contestant
        CONTESTANTS[name](Samples.read(Path(path)))
        return
    with tempfile.TemporaryDirectory(prefix="agentflan-bench-") as folder:
        results = contests(Path(folder, "samples.npz"), arguments.blocks)
    print(json.dumps(results))  # noqa: T201  # the line that programs read


def contests(path: Path, num_blocks: int) -> dict[str, float]:
    """All ratios, larger is better unless the name says overhead."""
    console = Console()
    samples = draw_samples(num_blocks, BLOCK_LENGTH, NUM_DRAWS)
    samples.write(path)
    pairs = {name: _contest(("ours", name), path) for name in CONTESTANTS if name != "ours"}
    ours = [step for pair in pairs.values() for step in pair["ours"][1:]]
    names = {"bare": "cpu_vs_bare_torch", "TRL": "cpu_vs_trl", "TRL packed": "cpu_vs_trl_packed"}
    ratios = {names[name]: _ratio(pair[name][1:], pair["ours"][1:]) for name, pair in pairs.items()}
    ratios["metering_overhead"] = statistics.median(step["metering"] / step["seconds"] for step in ours)
    lengths = samples.lengths
    title = (
        f"{num_blocks} steps, {len(lengths)} samples of {lengths.min()} to {lengths.max()} tokens, "
        f"{lengths.sum():,} in all, {(samples.tags >= 0).sum():,} learnt · {_machine()}"
    )
    table = Table(title=title, title_justify="left")
    columns = ("what", "seconds of each step", "median", "of ours beside it", "CPU seconds", "first loss", "peak GiB")
    for column in columns:
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, pair in {"ours": {"ours": [*pairs["bare"]["ours"]]}, **pairs}.items():
        steps = pair[name]
        table.add_row(
            name,
            ", ".join(f"{step['seconds']:.1f}" for step in steps[1:]),
            f"{_median(steps[1:], 'seconds'):.2f}",
            f"{_median(pair['ours'][1:], 'seconds'):.2f}",
            f"{_median(steps[1:], 'cpu_seconds'):.2f}",
            f"{steps[0]['loss']:.4f}" if math.isfinite(steps[0]["loss"]) else "other batch",
            f"{steps[-1]['gib']:.2f}",
        )
    console.print(table)
    for name, value in ratios.items():
        console.print(f"{name}: {value:.6f}" if "overhead" in name else f"{name}: {value:.3f}")
    return {name: round(value, 6) for name, value in ratios.items()}


class _Clock:
    """Begins a step when the contest says so, tells it how long the step took, and ends the process when it is over."""

    metering = 0.0
    """Seconds of the step that went into sums by component."""

    def begin(self) -> None:
        if not sys.stdin.readline():
            sys.exit()  # the contest is over
        self.metering = 0.0
        self._began = time.perf_counter(), time.process_time()

    def end(self, loss: float) -> None:
        result = {
            "seconds": time.perf_counter() - self._began[0],
            "cpu_seconds": time.process_time() - self._began[1],
            "metering": self.metering,
            "loss": loss,
            "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        print(STEP + json.dumps(result), flush=True)  # noqa: T201  # read by the contest


def train_ours(samples: Samples) -> None:
    """Our loop, with a watch around the sums by component."""
    from agentflan_ray.train import losses
    from agentflan_ray.train.loop import train
    from agentflan_ray.train.recipe import Placement, TrainRecipe

    recipe = TrainRecipe(
        model=MODEL,
        block_length=BLOCK_LENGTH,
        blocks_per_step=1,
        learning_rate=LEARNING_RATE,
        warmup_fraction=0.0,
        minimum_ratio=1.0,
    )
    clock, sums = _Clock(), losses.group_sums

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = sums(*arguments)
        clock.metering += time.perf_counter() - began
        return result

    def report(metrics: dict[str, Any], _folder: Path | None) -> None:
        clock.end(metrics["loss"])
        clock.begin()

    losses.group_sums = timed
    clock.begin()
    train(recipe, Placement(cpus_per_worker=CORES), PackedBlocks(samples, BLOCK_LENGTH), report=report)


def train_barely(samples: Samples) -> None:
    """The same steps written as plainly as they can be."""
    import torch
    from peers import plain_model

    from agentflan_ray.train.blocks import targets

    torch.set_num_threads(CORES)
    model = plain_model(MODEL, torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    blocks, clock = PackedBlocks(samples, BLOCK_LENGTH), _Clock()
    for number in range(len(blocks)):
        clock.begin()
        block = blocks[number]
        ids, positions = (torch.from_numpy(each).long()[None] for each in (block.input_ids, block.position_ids))
        learnt = torch.from_numpy(targets(block.position_ids, block.tags))[:-1] >= 0
        labels = torch.where(learnt, ids[0, 1:], -100)
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.end(loss.item())


def train_with_trl(samples: Samples, packing: bool = False) -> None:
    """SFTTrainer with its defaults, but for what the module's docstring says."""
    import torch
    import transformers
    from peers import plain_model, sft_trainer

    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory(prefix="agentflan-bench-trl-") as folder:
        trainer = sft_trainer(
            plain_model(MODEL, torch.float32),
            MODEL,
            samples,
            folder,
            per_device_train_batch_size=1 if packing else round(len(samples.lengths) / samples.num_blocks),
            max_length=BLOCK_LENGTH,
            packing=packing,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            logging_steps=1,
        )
        clock = _Clock()

        class Watch(transformers.TrainerCallback):
            def on_step_begin(self, *_arguments: Any, **_rest: Any) -> None:
                clock.begin()

            def on_step_end(self, *_arguments: Any, **_rest: Any) -> None:
                clock.end(float("nan"))

        trainer.add_callback(Watch())
        trainer.train()


CONTESTANTS: dict[str, Callable[[Samples], None]] = {
    "ours": train_ours,
    "bare": train_barely,
    "TRL": train_with_trl,
    "TRL packed": lambda samples: train_with_trl(samples, packing=True),
}


def _contest(names: tuple[str, str], path: Path) -> dict[str, list[dict[str, float]]]:
    """The steps of two contestants, each in a process of its own, one step in turn, until one of them is done."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(CORES), "TOKENIZERS_PARALLELISM": "false"}
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--contestant", name, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for name in names
    }
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    running = True
    while running:
        for name, process in processes.items():
            step = _one_step(process)
            running = running and step is not None
            if step is not None:
                steps[name].append(step)
    for name, process in processes.items():
        process.communicate()  # the end of its input lets it go on to its own end
        if process.returncode:
            raise RuntimeError(f"{name} ended with status {process.returncode}; run it with --contestant to see why.")
    return steps


def _one_step(process: subprocess.Popen[str]) -> dict[str, float] | None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it is done
        process.stdin.write("go\n")
        process.stdin.flush()
    for line in process.stdout:
        if line.startswith(STEP):
            step: dict[str, float] = json.loads(line.removeprefix(STEP))
            return step
    return None


def _median(steps: list[dict[str, float]], name: str) -> float:
    return statistics.median(step[name] for step in steps)


def _ratio(theirs: list[dict[str, float]], ours: list[dict[str, float]]) -> float:
    """Median over the steps of how many times longer they took than ours just before."""
    return statistics.median(their["seconds"] / our["seconds"] for their, our in zip(theirs, ours, strict=False))


def _machine() -> str:
    import importlib.metadata

    names = ("torch", "transformers", "deepspeed", "trl")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
