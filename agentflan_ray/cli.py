"""The command ``agentflan``: build, view, plan, report. The sweep is ``experiments/sweep.py``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from agentflan_ray.corpus.build import ToolboxDraw
    from agentflan_ray.sources.files import SourceSpec


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="agentflan", description="Tune chat models into agents, and measure it.")
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="build corpora from raw files and print what became of them")
    add_source_flags(build)
    build.add_argument("--out", required=True, help="folder or URI of the corpus store")
    build.add_argument("--model", default="smollm2-135m-instruct", help="whose tokenizer counts the tokens")
    build.add_argument("--block-length", type=int, default=2048, help="longer conversations are cut to windows")
    build.add_argument("--max-quarantined", type=float, default=0.05, help="share of bad records that stops the build")
    build.add_argument("--seed", type=int, default=0)

    view = commands.add_parser("view", help="show a trajectory of a corpus, its samples, and what each piece teaches")
    view.add_argument("corpus", help="a corpus@... folder")
    view.add_argument("--id", help="trajectory to show (default: the first)")

    plan = commands.add_parser("plan", help="say which rows of a corpus a mixture would read, and what share comes out")
    plan.add_argument("corpus", help="a corpus@... folder")
    plan.add_argument("--weights", required=True, help="shares of supervised tokens: reasoning=0.4,general=0.6")
    plan.add_argument("--budget", type=int, required=True, help="tokens to read at fraction 1")
    plan.add_argument("--fraction", type=float, default=1.0, help="part of the data and of the budget")
    plan.add_argument("--max-repeats", type=int, default=4, help="how often a sample is read at most")
    plan.add_argument("--model", default="smollm2-135m-instruct", help="whose tokenizer counts the tokens")
    plan.add_argument("--block-length", type=int, default=2048)

    report = commands.add_parser("report", help="write the report of a run folder again")
    report.add_argument("run", type=Path)

    arguments = parser.parse_args()
    with exit_on_user_error():
        {"build": _build, "view": _view, "plan": _plan, "report": _report}[arguments.command](arguments)


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """``--source name=URI``, repeatable; ``toolbox=NUMBER`` draws from the embedded world."""
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=URI",
        help="raw files of a format, such as toolbench=s3://bucket/data (repeatable); toolbox=2400 draws embedded ones",
    )


def sources_of(arguments: argparse.Namespace) -> list[SourceSpec | ToolboxDraw]:
    """The sources that the flags name."""
    from agentflan_ray.corpus.build import ToolboxDraw
    from agentflan_ray.sources.files import SourceSpec

    found: list[SourceSpec | ToolboxDraw] = []
    for text in arguments.source:
        name, _, value = text.partition("=")
        if name == "toolbox":
            if not value.isdigit() or int(value) < 8:
                raise ValueError(f"--source {text}: toolbox takes the number of conversations to draw, at least 8.")
            found.append(ToolboxDraw.of_size(int(value)))
        else:
            found.append(SourceSpec.parse(text))
    return found


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """End with status 1 and one sentence where the user can mend what is wrong; other errors keep their traceback."""
    try:
        yield
    except ValueError as error:
        Console(stderr=True).print(Text.assemble(("Error: ", "red"), str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        Console(stderr=True).print(str(interrupt) or "Interrupted; run the same command again to go on.", markup=False)
        sys.exit(130)


def _build(arguments: argparse.Namespace) -> None:
    from agentflan_ray import cluster
    from agentflan_ray.corpus.build import build
    from agentflan_ray.corpus.recipe import CorpusRecipe
    from agentflan_ray.sweep import records_table, tokens_table
    from agentflan_ray.tokens.tokenise import tokenise
    from agentflan_ray.train.models import resolve

    console = Console()
    sources = sources_of(arguments)
    cluster.connect()
    recipe = CorpusRecipe(seed=arguments.seed, max_quarantined=arguments.max_quarantined)
    corpus = build(sources, recipe, arguments.out)
    console.print(records_table(corpus))
    console.print(tokens_table(tokenise(corpus, resolve(arguments.model), arguments.block_length)))
    console.print(f"Corpus: {corpus.uri}", soft_wrap=True)


def _view(arguments: argparse.Namespace) -> None:
    from agentflan_ray.corpus.store import open_corpus
    from agentflan_ray.corpus.view import show

    show(open_corpus(arguments.corpus), arguments.id, Console())


def _plan(arguments: argparse.Namespace) -> None:
    from agentflan_ray import cluster
    from agentflan_ray.corpus.store import open_corpus
    from agentflan_ray.mixture import Mixture, make_plan
    from agentflan_ray.sweep import plan_table
    from agentflan_ray.tokens.tokenise import to_index, tokenise
    from agentflan_ray.train.models import resolve

    mixture = Mixture(
        _weights(arguments.weights), arguments.budget, arguments.fraction, max_repeats=arguments.max_repeats
    )
    corpus = open_corpus(arguments.corpus)
    cluster.connect()
    tokens = tokenise(corpus, resolve(arguments.model), arguments.block_length)
    Console().print(plan_table(make_plan(to_index(tokens.index_table(validation=False)), mixture)))


def _weights(text: str) -> dict[str, float]:
    try:
        return {name.strip(): float(value) for name, _, value in (each.partition("=") for each in text.split(","))}
    except ValueError:
        raise ValueError(f"--weights {text!r} is not of the form reasoning=0.4,general=0.6.") from None


def _report(arguments: argparse.Namespace) -> None:
    from agentflan_ray.analyse import report

    Console().print(f"Report: {report.write(arguments.run)}", soft_wrap=True)
