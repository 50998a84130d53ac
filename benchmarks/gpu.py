"""What the training engine does on a GPU: every check and every timing, one command, a table, a line of JSON.

    python benchmarks/gpu.py --out FOLDER                     # everything, on one GPU
    python benchmarks/gpu.py --only smollm2,7b --seconds 560  # some, and an end in time
    python benchmarks/gpu.py --rehearse                       # tiny shapes on a CPU: every code path but CUDA's own
    python benchmarks/gpu.py --draw samples.npz               # draw the samples, for a machine that lacks the packages
    python benchmarks/gpu.py --show A/results.json B/results.json

Each run is a process of its own with a time limit. One that crashes, takes too long or runs out of memory is a row of
the result; where a package or the GPU is missing the row says "not run". ``results.json`` is written after every run.
What a run measures stands in ``gpu_checks.py`` and ``gpu_speed.py``, how large it is in ``gpu_plan.py``; ratios, the
planner beside what was measured and whole models from two numbers of layers are counted at the end (``gpu_report.py``).

Trainings are of the models' shapes with random weights, made on the GPU (SmolLM2's own weights where its package is
installed), on samples of the embedded world packed into blocks of 4,096 tokens. Layers are as many as the planner
(``train/memory.py``) says fit; a training that runs out of memory all the same is tried once more with a quarter fewer.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gpu_checks
import gpu_speed
from gpu_plan import SECTIONS, Run, full_scale, rehearsal
from gpu_report import show
from gpu_speed import Values
from rich.console import Console
from samples import draw_samples

CALLS: dict[str, Callable[..., list[Values]]] = {
    "machine": gpu_speed.machine,
    "attention": gpu_checks.attention,
    "sameness": gpu_checks.sameness,
    "resume": gpu_checks.resume,
    "ours": gpu_speed.ours,
    "trl": gpu_speed.trl,
    "quantised_gather": gpu_checks.quantised_gather,
    "export": gpu_checks.export,
    "vllm": gpu_checks.vllm,
}

SHORTEST = 30
"""Seconds under which no run is begun: most take half of that to start."""


def main() -> None:
    """Run what is asked for; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), help="sections, with commas between them")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of results.json")
    parser.add_argument("--samples", type=Path, help="a file that --draw wrote, in place of drawing them now")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end what runs then, begin no more")
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="only draw the samples into a file")
    parser.add_argument("--show", type=Path, nargs="+", metavar="FILE", help="only print what results say together")
    parser.add_argument("--run", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        task, result = arguments.run
        call = json.loads(task.read_text())
        result.write_text(json.dumps(CALLS[call["call"]](**call["arguments"])))
    elif arguments.draw:
        _draw(arguments.draw, rehearse=False)
    else:
        read = [row for path in arguments.show or [] for row in json.loads(path.read_text())]
        rows = read if arguments.show else _run_all(arguments)
        console = Console(width=None if sys.stdout.isatty() else 200)
        print(json.dumps(show(rows, console)))  # noqa: T201  # the line that programs read


def _sections(names: str) -> list[str]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"there is no section {', '.join(unknown)}; choose {', '.join(SECTIONS)}")
    return chosen


def _draw(path: Path, *, rehearse: bool) -> None:
    """SmolLM2's tokenizer comes with its package, which a borrowed machine may lack: hence ``--samples``."""
    drawn = draw_samples(4, 128, 60) if rehearse else draw_samples(64, 4096, 1200)
    drawn.write(path)


def _run_all(arguments: argparse.Namespace) -> list[Values]:
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agentflan-gpu-") as folder:
        runner = Runner(arguments.out / "results.json", Path(folder), time.monotonic() + arguments.seconds)
        facts = {"use_gpu": not arguments.rehearse}
        first = runner.do(Run(section="machine", name="this", call="machine", arguments=facts, limit=120))
        if first["outcome"] != "done":
            sys.exit(f"No GPU that PyTorch can use: {first['reason']}; --rehearse runs on a CPU.")
        samples = arguments.samples or Path(folder, "samples.npz")
        make = rehearsal if arguments.rehearse else full_scale
        scale = make(first["values"][0], str(samples), str(Path(folder, "exported")))
        runs = [run for section in arguments.only for run in SECTIONS[section](scale)]
        if arguments.samples is None and any("samples" in run.arguments for run in runs):
            _draw(samples, rehearse=arguments.rehearse)
        for run in runs:
            runner.do_or_fewer(run)
    return runner.rows


class Runner:
    """Does one run after the other, and writes what came of them after each."""

    def __init__(self, path: Path, folder: Path, end: float) -> None:
        self.rows: list[Values] = []
        self._path, self._folder, self._end = path, folder, end

    def do_or_fewer(self, run: Run) -> None:
        row = self.do(run)
        if run.fewer is not None and "out of memory" in row.get("reason", "").lower():
            self.do(run.fewer)

    def do(self, run: Run) -> Values:
        began = time.monotonic()
        row = {"section": run.section, "name": run.name, **self._outcome(run), "seconds": time.monotonic() - began}
        self.rows.append(row)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self.rows, indent=1))
        partial.replace(self._path)
        outcome = ": ".join(filter(None, (row["outcome"], row.get("reason"))))
        said = f"{row['seconds']:6.1f} s  {run.section}: {run.name}: {outcome}"
        print(said, flush=True)  # noqa: T201  # progress
        return row

    def _outcome(self, run: Run) -> Values:
        missing = [package for package in run.needs if importlib.util.find_spec(package) is None]
        if missing:
            return {"outcome": "not run", "reason": f"package {', '.join(missing)} is missing"}
        if run.cuda_only and not run.arguments["use_gpu"]:
            return {"outcome": "not run", "reason": "needs CUDA"}
        left = self._end - time.monotonic()
        if left < SHORTEST:
            return {"outcome": "not run", "reason": f"only {left:.0f} seconds were left"}
        return self._in_a_process(run, min(run.limit, left))

    def _in_a_process(self, run: Run, limit: float) -> Values:
        task, result, said = (self._folder / name for name in ("task.json", "result.json", "said.txt"))
        task.write_text(json.dumps({"call": run.call, "arguments": run.arguments}))
        result.unlink(missing_ok=True)
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": _import_path()}
        with said.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, __file__, "--run", str(task), str(result)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                return {"outcome": "failed", "reason": f"not done after {limit:.0f} seconds", "said": _end_of(said)}
            finally:
                _end(process)
        if process.returncode:
            return {"outcome": "failed", "reason": _reason(said, process.returncode), "said": _end_of(said)}
        return {"outcome": "done", "values": json.loads(result.read_text())}


def _import_path() -> str:
    """Where this repository lies before what is set, so that it need not be installed."""
    return os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(said: Path) -> str:
    return said.read_text(errors="replace")[-3000:]


def _reason(said: Path, status: int) -> str:
    """The last line that names an error, else the last one."""
    lines = [line.strip() for line in said.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\[rank\d+\]: )?[\w.]*Error\b", line)]
    return (errors or lines or [f"status {status}"])[-1][:300]


if __name__ == "__main__":
    main()
