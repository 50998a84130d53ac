"""The command ``evaluate``: a model through benchmarks, with every reply kept."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from agentflan_ray import storage
from agentflan_ray.cli.flags import check_writable
from agentflan_ray.evaluate.benchmark import Benchmark, Missing, Settings, Unavailable, Weighing
from agentflan_ray.evaluate.registry import BENCHMARKS, SUITES, check_options, names_of, open_benchmark

if TYPE_CHECKING:
    from agentflan_ray.evaluate.engine import Engine, Plan
    from agentflan_ray.evaluate.results import Model

PROMPTS = ("react", "json", "string", "native", "plain")
ENGINES = ("transformers", "vllm", "openai")


def add_evaluate_command(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser("evaluate", help="score a model on benchmarks, each number with its interval")
    add_evaluate_flags(parser)
    parser.set_defaults(run_command=run)


def add_evaluate_flags(parser: argparse.ArgumentParser) -> None:
    """Everything that an evaluation can be told."""
    parser.add_argument("model", nargs="?", help="a folder, a hub id, smollm2-135m-instruct, or an endpoint's model")
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a suite ({', '.join(SUITES)}) or one benchmark (repeatable; see --list)",
    )
    parser.add_argument("--list", action="store_true", help="print suites, benchmarks, and what each lacks here")
    parser.add_argument("--out", default=".", help="folder of the results; the same one goes on (default: here)")
    parser.add_argument("--limit", type=int, help="items of each benchmark: the first ones of its fixed order")
    parser.add_argument("--data", help="folder of published evaluation data (default: AGENTFLAN_DATA)")
    parser.add_argument("--prompt", choices=PROMPTS, help="for benchmarks that have several (default: their own)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an address or path (repeatable)"
    )
    parser.add_argument("--engine", choices=ENGINES, default="transformers")
    parser.add_argument("--url", help="of an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    parser.add_argument("--template", help="a named chat template, for models that have none of their own")
    parser.add_argument("--batch", type=int, help="replies generated at once (default: by engine and device)")
    parser.add_argument("--max-length", type=int, help="tokens of prompt and reply together (default: the model's)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="number format (default: float32 on a CPU, bfloat16 on a GPU, vLLM's own choice)",
    )
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that share the model (vllm)")
    parser.add_argument(
        "--item-seconds", type=float, default=7200.0, help="an item that takes longer is kept as an error"
    )
    parser.add_argument("--replicas", type=int, default=0, help="copies of the model on a Ray cluster (default: here)")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, or list what could be evaluated."""
    if arguments.data is not None and not Path(arguments.data).is_dir():
        raise ValueError(f"--data is {arguments.data}, but there is no such folder.")
    settings = settings_of(arguments)
    console = Console()
    if arguments.list:
        _list(settings, console)
        return
    if arguments.model is None or not arguments.suite:
        raise ValueError("Name a model and at least one --suite; `agentflan evaluate --list` shows the suites.")
    for flag, least in {"limit": 1, "batch": 1, "max-length": 2, "gpus": 1, "replicas": 0}.items():
        asked = getattr(arguments, flag.replace("-", "_"))
        if asked is not None and asked < least:
            raise ValueError(f"--{flag} is {asked}, but must be at least {least}.")
    if not arguments.item_seconds > 0:
        raise ValueError(f"--item-seconds is {arguments.item_seconds:g}, but an item takes some time.")
    if "://" in arguments.out:
        raise ValueError(f"--out is {arguments.out}, but episodes are appended to files; give a local folder.")
    benchmarks = open_all(arguments.suite, settings, console, arguments.engine)
    check_writable(arguments.out, "--out")
    plan, model = plan_of(arguments)
    evaluate_all(benchmarks, plan, model, arguments, console)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Where data lies, which prompt, and the options. Raises ``ValueError`` for an option without ``=``."""
    options = {}
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--option {text} is not NAME=VALUE.")
        options[name] = value
    return Settings(arguments.data or os.environ.get("AGENTFLAN_DATA"), arguments.prompt, options)


def open_all(
    asked: Sequence[str], settings: Settings, console: Console, engine: str = "transformers"
) -> list[Benchmark]:
    """The benchmarks that run here with this engine; what a suite's others lack is printed.

    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` for a benchmark that is named itself, and
    ``ValueError`` where none is left, or for an option that none of them reads.
    """
    names = {name: suite != name for suite in asked for name in names_of(suite)}
    names |= {suite: False for suite in asked if suite in names}
    check_options(settings.options, names)
    found: list[Benchmark] = []
    for name, of_suite in names.items():
        try:
            benchmark = open_benchmark(name, settings)
            if engine == "openai" and isinstance(benchmark, Weighing) and benchmark.weighs_choices:
                what = "It weighs given answers, and a chat endpoint does not tell how likely they are."
                raise Unavailable(name, [Missing(what, "Use --engine transformers or vllm for it.")])
            found.append(benchmark)
        except Unavailable as error:
            if not of_suite:
                raise
            _say_missing(error, name, console)
    if not found:
        raise ValueError(f"None of the benchmarks of {', '.join(asked)} can run here; see what each lacks above.")
    return found


def plan_of(arguments: argparse.Namespace) -> tuple[Plan, Model]:
    """The engine to open, and whose model it runs.

    Raises ``ValueError`` for flags that contradict each other, and for a model whose files lack something: before a
    cluster is joined and a benchmark begun.
    """
    from agentflan_ray.evaluate.results import Model

    name, length, template = arguments.model, arguments.max_length, arguments.template
    if arguments.engine == "openai":
        from agentflan_ray.evaluate.engines.openai import OpenAIPlan

        if arguments.url is None:
            raise ValueError("--engine openai needs the endpoint's --url, such as http://localhost:8000/v1.")
        if length is not None or template is not None or arguments.replicas or arguments.dtype:
            raise ValueError(
                "--max-length, --template, --dtype and --replicas are for a model that is run here; an endpoint has "
                "its own."
            )
        endpoint = OpenAIPlan(arguments.url, name, arguments.batch or OpenAIPlan.concurrency)
        return endpoint, Model(name, storage.fingerprint([arguments.url, name]))
    if arguments.url is not None:
        raise ValueError(f"--url is given, but --engine is {arguments.engine}; an endpoint takes --engine openai.")
    if arguments.gpus != 1 and arguments.engine != "vllm":
        raise ValueError(f"--gpus is {arguments.gpus}, but only --engine vllm spreads a model over several GPUs.")
    from agentflan_ray.tokens.tokenizer import load_tokenizer
    from agentflan_ray.train.models import check_weights, fingerprint, resolve

    check_weights(name)
    path, model = resolve(name), Model(name, fingerprint(name))
    load_tokenizer(path, template)
    if arguments.engine == "vllm":
        from agentflan_ray.evaluate.engines.vllm import VllmPlan

        plan: Plan = VllmPlan(
            path,
            model.fingerprint,
            length,
            template,
            arguments.batch or VllmPlan.concurrency,
            arguments.gpus,
            dtype=arguments.dtype,
        )
    else:
        from agentflan_ray.evaluate.engines.transformers import TransformersPlan, TransformersSettings

        settings = TransformersSettings(max_length=length, template=template, num_slots=arguments.batch)
        plan = TransformersPlan(path, model.fingerprint, settings, arguments.dtype)
    if arguments.replicas:
        from agentflan_ray import cluster
        from agentflan_ray.evaluate.engines.replicas import spread

        cluster.connect()
        plan = spread(plan, arguments.replicas)
    return plan, model


def evaluate_all(
    benchmarks: Sequence[Benchmark],
    plan: Plan,
    model: Model,
    arguments: argparse.Namespace,
    console: Console,
) -> None:
    """Run what is not there yet, write the results, and print them."""
    from agentflan_ray.evaluate.cache import Episodes
    from agentflan_ray.evaluate.engine import LazyEngine
    from agentflan_ray.evaluate.results import ResultFolder
    from agentflan_ray.evaluate.runner import Limits, evaluate

    folder = ResultFolder(Path(arguments.out), model)
    engine = LazyEngine(_Told(plan, model.name))
    identity = dict(plan.identity)
    work = [(benchmark, benchmark.items()) for benchmark in benchmarks]
    for benchmark, items in work:
        num_items = len(items[: arguments.limit])
        if (sentence := folder.replaced(benchmark, identity, num_items)) is not None:
            console.print(Text(sentence, style="yellow"), soft_wrap=True)
    with contextlib.closing(engine), _progress(console) as progress:
        for benchmark, items in work:
            bar = progress.add_task(benchmark.name, total=len(items[: arguments.limit]))
            samples = evaluate(
                benchmark,
                engine,
                items[: arguments.limit],
                limits=Limits(seconds=arguments.item_seconds),
                episodes=Episodes(folder.episodes_path(identity, benchmark)),
                on_sample=lambda _, bar=bar: progress.advance(bar),  # type: ignore[misc]
            )
            summary = folder.write(benchmark, identity, samples, arguments.limit, len(items))
            progress.console.print(result_table(summary))
            if (sentence := cut_replies(summary)) is not None:
                progress.console.print(Text(sentence, style="yellow"), soft_wrap=True)
            progress.console.print(f"{benchmark.protocol}\n", soft_wrap=True, markup=False, highlight=False)
    console.print(f"Results: {folder.place}", soft_wrap=True, markup=False, highlight=False)


def result_table(summary: Mapping[str, Any]) -> Table:
    """The metrics of one benchmark, scaled as they are published, with n and 95 % interval."""
    errors = summary["errors"]["items"]
    title = f"{summary['benchmark']}: {summary['items']} items of {summary['asked']['of']}"
    if errors:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in summary["errors"]["reasons"].items())
        title += f", {errors} errors in no mean ({reasons})"
    # As text, never as markup: a reason may be another program's message, such as "no file [/games/1]".
    table = Table(title=Text(title, style="table.title"), title_justify="left")
    for name in ("metric", "value", "95 % interval", "n", "better"):
        table.add_column(name, justify="left" if name in ("metric", "better") else "right")
    for name, row in summary["metrics"].items():
        low, high = (_number(row[side], row["scale"]) for side in ("low", "high"))
        interval = "-" if row["low"] is None else f"{low} to {high}"
        table.add_row(name, _number(row["value"], row["scale"]), interval, str(row["n"]), row["better"])
    return table


def cut_replies(summary: Mapping[str, Any]) -> str | None:
    """How many replies a limit took from the model, in a sentence; None where none."""
    finishes = summary["replies"]["finish"]
    engine = summary["engine"]
    flag = f" (--max-length {engine['max_length']})" if engine.get("max_length") else ""
    why = {"context": f"the prompt did not fit{flag}", "time": "their time was up"}
    how = {"context": "empty", "time": "cut off"}
    said = [
        f"{finishes[name]} of {sum(finishes.values())} replies {'is' if finishes[name] == 1 else 'are'} {how[name]} "
        f"because {why[name]}"
        for name in why
        if finishes.get(name)
    ]
    return f"{'; '.join(said)}." if said else None


@dataclass(frozen=True)
class _Told:
    """A plan whose model may turn out not to load, such as one of the hub without safetensors: told in a sentence."""

    plan: Plan
    model: str

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.plan.identity

    def open(self) -> Engine:
        from safetensors import SafetensorError

        from agentflan_ray.tokens.tokenizer import first_line

        try:
            return self.plan.open()
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"The model {self.model} can't be loaded: {first_line(error)}. It takes weights in safetensors files, "
                "whole and readable."
            ) from error


def _number(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.{1 if scale >= 100 else 3}f}"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _list(settings: Settings, console: Console) -> None:
    for suite, names in SUITES.items():
        console.print(f"suite {suite}: {', '.join(names)}", soft_wrap=True, markup=False, highlight=False)
    for name in BENCHMARKS:
        try:
            benchmark = open_benchmark(name, settings)
        except Unavailable as error:
            _say_missing(error, name, console)
        else:
            text = f"{name}: {len(benchmark.items())} items. {benchmark.protocol}"
            console.print(text, soft_wrap=True, markup=False, highlight=False)


def _say_missing(error: Unavailable, name: str, console: Console) -> None:
    console.print(f"{name} can't run here:", style="yellow", highlight=False)
    for each in error.missing:
        console.print(f"  {each.what} {each.how}", soft_wrap=True, markup=False, highlight=False)
