"""Commands about corpora: sources, build, view, plan, export."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from agentflan_ray import storage
from agentflan_ray.cli import training_plan
from agentflan_ray.cli.flags import (
    DEFAULT_MODEL,
    add_source_flags,
    add_token_flags,
    check_writable,
    sources_of,
    tokenizer_of,
)
from agentflan_ray.cli.mixture import add_mixture_flags, planner

if TYPE_CHECKING:
    from agentflan_ray.corpus.build import Order
    from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
    from agentflan_ray.corpus.teacher.replies import Teacher


def add_commands(commands: Any) -> None:
    """Add the commands to the parser's subparsers."""
    sources = commands.add_parser("sources", help="list the formats that can be read, or print one's data sheet")
    sources.add_argument("name", nargs="?", help="a format")
    sources.set_defaults(run_command=_sources)

    build = commands.add_parser("build", help="build corpora from raw files and print what became of them")
    add_source_flags(build)
    build.add_argument("--out", required=True, help="folder or URI of the corpus store")
    build.add_argument(
        "--recipe", default="laptop", help="laptop (all kinds, for a mixture to weigh), agent-flan or react-baseline"
    )
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--max-quarantined", type=float, default=0.05, help="share of bad records that stops the build")
    add_token_flags(build)
    _add_cleaning_flags(build)
    _add_teacher_flags(build)
    build.set_defaults(run_command=_build)

    view = commands.add_parser("view", help="show trajectories of a corpus, their samples, and what each token teaches")
    view.add_argument("corpus", help="a corpus@... folder")
    view.add_argument("--id", action="append", default=[], help="id or file:row of a record (repeatable)")
    view.add_argument("--source", help="only records read as this source")
    view.add_argument("--case", help="only records with a sample of this case")
    view.add_argument("--reason", help="only records that were left out for this reason")
    view.add_argument("--sample", help="which sample stands beside the record: chat, cot, react, near_miss ...")
    view.add_argument("--limit", type=int, help="records to show (default: 1 on the terminal, 300 on a page)")
    view.add_argument("--html", type=Path, metavar="FILE", help="write a page with filters instead")
    view.add_argument("--tokens", action="store_true", help="show the tokens of --model and their mask")
    view.add_argument("--model", default=DEFAULT_MODEL, help="whose tokenizer and chat template are used")
    view.add_argument("--template", help="a named chat template, for models that have none of their own")
    view.set_defaults(run_command=_view)

    plan = commands.add_parser(
        "plan",
        help="say which rows of a corpus a mixture would read; or, with --gpus, what a training takes on a cluster",
        description=training_plan.USES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan.add_argument("corpus", nargs="?", help="a corpus@... folder")
    add_mixture_flags(plan, required=False)
    add_token_flags(plan)
    training_plan.add_gpu_flags(plan)
    # Where no flag names a model and a length, the first use has these defaults and the second those of its recipe.
    corpus_defaults = {name: plan.get_default(name) for name in ("model", "block_length")}
    plan.set_defaults(run_command=_plan, corpus_defaults=corpus_defaults, model=None, block_length=None)

    export = commands.add_parser("export", help="write a corpus in a format that other trainers read")
    export.add_argument("corpus", help="a corpus@... folder")
    export.add_argument("--format", required=True, choices=("agentflan", "sharegpt", "openai", "datasets"))
    export.add_argument("--what", default="samples", choices=("samples", "trajectories"))
    export.add_argument("--out", required=True, help="folder or URI")
    export.set_defaults(run_command=_export)


def _add_cleaning_flags(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME=URI",
        help="an evaluation set whose items no record may contain, such as hotpotqa=dev.json#question (repeatable)",
    )
    build.add_argument(
        "--near-duplicates", default="0.9", help="similarity above which a repeat is removed, or off (default: 0.9)"
    )
    build.add_argument("--language", action="append", default=[], help="keep only this language, such as en")
    build.add_argument("--min-characters", type=int, help="remove records with less text to learn from")
    build.add_argument("--max-characters", type=int, help="remove records with more text")
    build.add_argument("--max-turns", type=int, help="remove records with more messages")
    build.add_argument(
        "--personal-data", action="append", default=[], help="remove records with: email, phone, card, iban, ip"
    )


def _add_teacher_flags(build: argparse.ArgumentParser) -> None:
    build.add_argument("--teacher", metavar="MODEL", help="a model that words the replies of negatives")
    build.add_argument("--teacher-url", help="its OpenAI-compatible endpoint; without it MODEL runs on this cluster")
    build.add_argument("--teacher-key", default="OPENAI_API_KEY", help="environment variable that holds the key")
    build.add_argument("--teacher-share", type=float, help="share of the negatives that it words (default: 1)")
    build.add_argument(
        "--teacher-prices", metavar="IN,OUT", help="US dollars for a million tokens of requests and of replies"
    )


def _sources(arguments: argparse.Namespace) -> None:
    from agentflan_ray.sources.listing import listing

    console = Console()
    listed = {source.name: source for source in listing()}
    if arguments.name is not None:
        if arguments.name not in listed:
            raise ValueError(f"There is no source {arguments.name!r}; known sources are {', '.join(listed)}.")
        console.print(listed[arguments.name].data_sheet, markup=False, highlight=False)
        return
    table = Table(box=None)
    table.add_column("source", style="bold")
    table.add_column("what it reads")
    for source in listed.values():
        table.add_row(source.name, source.summary)
    console.print(table)
    console.print("`agentflan sources NAME` prints a data sheet: fields, counts, what is left out and why.")


def _order(arguments: argparse.Namespace) -> Order:
    from agentflan_ray.corpus.build import Order
    from agentflan_ray.corpus.clean.evaluation_sets import EvaluationSet
    from agentflan_ray.corpus.clean.recipe import CleanRecipe
    from agentflan_ray.corpus.recipe import RECIPES

    cleaning = CleanRecipe(
        near_duplicates=_threshold(arguments.near_duplicates),
        languages=tuple(arguments.language),
        min_characters=arguments.min_characters,
        max_characters=arguments.max_characters,
        max_turns=arguments.max_turns,
        personal_data=tuple(arguments.personal_data),
    )
    if arguments.recipe not in RECIPES:
        raise ValueError(f"There is no recipe {arguments.recipe!r}; choose {', '.join(RECIPES)}.")
    recipe = replace(RECIPES[arguments.recipe](), seed=arguments.seed, max_quarantined=arguments.max_quarantined)
    against = tuple(EvaluationSet.parse(text) for text in arguments.against)
    return Order(tuple(sources_of(arguments)), recipe, cleaning, against)


def _threshold(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--near-duplicates {text!r} is neither a number such as 0.9 nor off.") from None


def _teacher(arguments: argparse.Namespace) -> tuple[TeacherRecipe | None, Teacher | None]:
    from agentflan_ray.cli.local_teacher import open_generator
    from agentflan_ray.corpus.teacher.endpoint import Endpoint
    from agentflan_ray.corpus.teacher.local import LocalModel
    from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
    from agentflan_ray.corpus.teacher.replies import Prices

    if arguments.teacher is None:
        for name in ("url", "share", "prices"):
            if getattr(arguments, f"teacher_{name}") is not None:
                raise ValueError(f"--teacher-{name} is given, but no teacher; name its model with --teacher MODEL.")
        return None, None
    share = 1.0 if arguments.teacher_share is None else arguments.teacher_share
    recipe = TeacherRecipe(arguments.teacher, share=share, seed=arguments.seed)
    if arguments.teacher_url is None:
        if arguments.teacher_prices is not None:
            raise ValueError("--teacher-prices is given, but a model of this cluster has none; leave it out.")
        # What generates on the cluster takes the likeliest token always.
        return replace(recipe, temperature=0.0), LocalModel(open_generator)
    prices = None
    if arguments.teacher_prices is not None:
        try:
            prices = Prices(*(float(price) for price in arguments.teacher_prices.split(",")))
        except (TypeError, ValueError):
            raise ValueError(
                f"--teacher-prices {arguments.teacher_prices!r} is not of the form IN,OUT, such as 0.15,0.60."
            ) from None
    endpoint = Endpoint(arguments.teacher_url, arguments.teacher_key, prices=prices)
    if not os.environ.get(endpoint.key_variable):
        raise ValueError(
            f"The environment variable {endpoint.key_variable} holds no key for the teacher; set it (to any text where "
            "the endpoint asks for none), or name another with --teacher-key."
        )
    return recipe, endpoint


def _build(arguments: argparse.Namespace) -> None:
    from agentflan_ray import cluster
    from agentflan_ray.corpus.build import Build
    from agentflan_ray.tokens.tokenise import find_tokens, tokenise
    from agentflan_ray.view.tables import omitted_table, overlaps_table, records_table, tokens_table

    console = Console()
    recipe, teacher = _teacher(arguments)
    build = Build(replace(_order(arguments), teacher=recipe), arguments.out, teacher)
    place = tokenizer_of(arguments)
    corpus = build.find()
    if corpus is None:
        check_writable(build.store, "--out")
        cluster.connect()
        corpus = build.run(console)
    console.print(records_table(corpus))
    if corpus.manifest["omitted"]:
        console.print(omitted_table(corpus))
    if corpus.manifest["overlaps"]:
        console.print(overlaps_table(corpus))
    tokens = find_tokens(corpus, *place)
    if tokens is None:
        check_writable(build.store, "--out")
        cluster.connect()
        tokens = tokenise(corpus, *place, console=console)
    console.print(tokens_table(tokens))
    console.print(f"Corpus: {corpus.uri} (its README.md says what it is)", soft_wrap=True, markup=False)


def _view(arguments: argparse.Namespace) -> None:
    from agentflan_ray.corpus.store import open_corpus
    from agentflan_ray.view.load import DEFAULT_LIMIT, load_cards
    from agentflan_ray.view.page import write_page
    from agentflan_ray.view.terminal import show

    console = Console()
    corpus = open_corpus(arguments.corpus)
    limit = arguments.limit if arguments.limit is not None else DEFAULT_LIMIT if arguments.html else 1
    selection = load_cards(corpus, arguments.id, limit, arguments.source, arguments.case, arguments.reason)
    cards = selection.cards
    if arguments.tokens:
        from agentflan_ray.tokens.tokenizer import load_tokenizer
        from agentflan_ray.train.models import resolve
        from agentflan_ray.view.pieces import with_tokens

        tokenizer = load_tokenizer(resolve(arguments.model), arguments.template)
        cards = tuple(with_tokens(card, tokenizer) for card in cards)
    if arguments.html is None:
        for card in cards:
            show(card, console, arguments.sample or (None if arguments.reason else arguments.case))
        return
    check_writable(str(arguments.html.absolute().parent), "--html")
    if arguments.html.is_dir():
        raise ValueError(f"--html {arguments.html} is a folder; name the file to write, such as records.html.")
    write_page(cards, arguments.html, f"Records of corpus@{corpus.fingerprint}", selection.totals)
    console.print(f"Page: {arguments.html.absolute()}", soft_wrap=True, markup=False)


def _plan(arguments: argparse.Namespace) -> None:
    if arguments.gpus is not None or arguments.gpu is not None:
        training_plan.run(arguments)
        return
    if arguments.corpus is None or arguments.weights is None:
        raise ValueError(
            "Give a corpus and the shares of a mixture (agentflan plan corpus@... --weights drop), or a model and GPUs "
            "(agentflan plan --model llama2-7b --gpus 8 --gpu h100-80g)."
        )
    from agentflan_ray import cluster
    from agentflan_ray.corpus.store import open_corpus
    from agentflan_ray.tokens.tokenise import find_tokens, to_index, tokenise
    from agentflan_ray.view.tables import phases_table, plan_table

    for name, value in arguments.corpus_defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    make = planner(arguments)
    corpus = open_corpus(arguments.corpus)
    place = tokenizer_of(arguments)
    tokens = find_tokens(corpus, *place)
    if tokens is None:
        check_writable(corpus.store_uri, "the store")
        cluster.connect()
        tokens = tokenise(corpus, *place, console=Console())
    made = make(to_index(tokens.index_table(validation=False)))
    console = Console()
    console.print(plan_table(made))
    if len(made.by_phase) > 1:
        console.print(phases_table(made))


def _export(arguments: argparse.Namespace) -> None:
    from agentflan_ray.corpus.export import export
    from agentflan_ray.corpus.store import open_corpus

    corpus = open_corpus(arguments.corpus)
    check_writable(storage.parent(storage.absolute(arguments.out)), "--out")
    report = export(corpus, arguments.out, arguments.format, arguments.what)
    console = Console()
    table = Table(box=None)
    table.add_column("file", overflow="fold")
    table.add_column("records", justify="right")
    for file, number in report.files.items():
        table.add_row(file, f"{number:,}")
    console.print(table)
    for note, number in report.notes.items():
        console.print(f"{number:,} × {note}", markup=False, soft_wrap=True)
