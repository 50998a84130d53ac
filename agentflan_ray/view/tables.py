"""What a build, a tokenisation and a plan say on the terminal."""

from __future__ import annotations

from rich.table import Table

from agentflan_ray.corpus.store import Corpus
from agentflan_ray.mixture import Plan
from agentflan_ray.tokens.tokenise import TokenStore


def records_table(corpus: Corpus) -> Table:
    """What became of the records of each source."""
    counts = corpus.manifest["records"]
    table = Table(title=f"Records · corpus@{corpus.fingerprint}", title_justify="left")
    for column in ("source", "status", "reason", "records"):
        table.add_column(column, justify="right" if column == "records" else "left")
    for row in sorted(counts["by_source"], key=lambda row: row["origin"]):
        table.add_row(row["origin"], row["status"], row["reason"] or "", f"{row['count_all']:,}")
    table.caption = (
        f"{counts['records']:,} records: {counts['kept']:,} trajectories kept, {counts['dropped']:,} dropped, "
        f"{counts['quarantined']:,} quarantined"
    )
    return table


def omitted_table(corpus: Corpus) -> Table:
    """Which samples could not be made of kept trajectories, and why."""
    table = Table(title="Samples that could not be made", title_justify="left")
    for column in ("sample", "reason", "number"):
        table.add_column(column, justify="right" if column == "number" else "left")
    for row in corpus.manifest["omitted"]:
        table.add_row(row["case"], row["omitted"], f"{row['count_all']:,}")
    return table


def overlaps_table(corpus: Corpus) -> Table:
    """What of each evaluation set was looked for, and how many records held an item of it."""
    table = Table(title="Evaluation sets", title_justify="left")
    for column in ("set", "items", "not looked for", "records removed"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in corpus.manifest["overlaps"]:
        table.add_row(row["name"], *(f"{row[key]:,}" for key in ("items", "unmatched", "records")))
    return table


def tokens_table(tokens: TokenStore) -> Table:
    """Samples and supervised tokens by mixture component, form and case."""
    table = Table(title=f"Samples · tokens@{tokens.fingerprint}", title_justify="left")
    for column in ("component", "form", "case"):
        table.add_column(column)
    for column in ("samples", "tokens", "supervised"):
        table.add_column(column, justify="right")
    for row in tokens.manifest["table"]:
        numbers = (row["samples"], row["tokens"], row["supervised_tokens"])
        table.add_row(row["component"], row["form"], row["case"], *(f"{number:,}" for number in numbers))
    cut = tokens.manifest["windows_of_long_samples"]
    lost = tokens.manifest["learnt_turns_longer_than_a_window"]
    table.caption = f"{cut:,} windows of longer conversations; {lost:,} learnt turns were longer than a window"
    if unusable := sum(tokens.manifest["unusable"].values()):
        table.caption += f"; {unusable:,} samples that the chat template can't render"
    return table


def plan_table(plan: Plan) -> Table:
    """Asked against realised shares of supervised tokens, how often each component's text is read, what is not."""
    table = Table(title=f"{plan.num_tokens:,} tokens, {plan.num_supervised:,} supervised", title_justify="left")
    table.add_column("component")
    for column in ("asked", "realised", "repeats", "not learnt"):
        table.add_column(column, justify="right")
    for name, asked in plan.asked.items():
        numbers = (f"{asked:.1%}", f"{plan.realised[name]:.1%}", f"{plan.repeats[name]:.2f}")
        table.add_row(name, *numbers, f"{plan.unread[name]:,}")
        # Forms and cases only where the mixture asks for shares of them.
        for part in (part for part in plan.asked_parts if part.startswith(f"{name}/")):
            table.add_row(f"  {part}", f"{plan.asked_parts[part]:.1%}", f"{plan.realised_parts[part]:.1%}", "", "")
    return table


def phases_table(plan: Plan) -> Table:
    """Of each phase its tokens, and the shares of the components that it asks for."""
    table = Table(title="Phases", title_justify="left")
    for column in ("phase", "tokens", "component", "asked", "realised"):
        table.add_column(column, justify="left" if column == "component" else "right")
    for number, phase in enumerate(plan.by_phase, start=1):
        head = (f"{number}", f"{phase.num_tokens:,}")
        for name in (name for name, asked in phase.asked.items() if asked):
            table.add_row(*head, name, f"{phase.asked[name]:.1%}", f"{phase.realised[name]:.1%}")
            head = ("", "")
    return table
