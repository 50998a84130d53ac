"""The card of a corpus: what a person must know before training on it, as Markdown.

The sections follow the data cards of the Hugging Face hub (what it is, where it comes from, how it was made, what is
in it, what was left out, limits), filled from the manifest alone, so that every number is one that a build counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentflan_ray.sample import Sample

MAX_FILES = 20
"""Files listed per source; the manifest holds all of them."""

MAX_CHARACTERS = 600
"""An example's turn is cut here: a card is read on one screen."""


_FOLDERS = re.compile(r"(?:\b[a-z0-9+.-]+://|(?<![\w.]))/?(?:[^\s/:'\"]+/)+(?=[^\s/:'\"]+:\d)")
"""Folders before a position ``file:row``: a card travels, and the builder's disk is nobody's business."""


def card(manifest: Mapping[str, Any], examples: Sequence[Sample] = (), tokens: Sequence[Mapping[str, Any]] = ()) -> str:
    """The card of the corpus with this manifest.

    ``examples`` are shown in full but for long turns. ``tokens`` is the table of a token store's manifest (samples,
    tokens and supervised tokens by component, form and case). Of the manifest, ``teacher_recipe`` and
    ``teacher`` are absent where it had none; all else that is read must be there.
    """
    records = manifest["records"]
    sections = [
        f"# Corpus {manifest['fingerprint']}",
        _what_it_is(manifest),
        "## Sources",
        *(_source(source) for source in manifest["sources"]),
        _licence(),
        "## How it was made",
        _made(manifest),
        "## Records",
        f"{records['records']:,} records gave {records['kept']:,} trajectories that were kept, {records['dropped']:,} "
        f"that were dropped and {records['quarantined']:,} rows that are not what their format promises.",
        _table(
            ("source", "status", "reason", "rows"),
            ((r["origin"], r["status"], r["reason"] or "", r["count_all"]) for r in records["by_source"]),
        ),
        _reasons(records),
        "## Samples",
        _table(("form", "case", "samples"), ((r["form"], r["case"], r["count_all"]) for r in manifest["samples"])),
        _omitted(manifest["omitted"]),
        _taught(manifest["teacher"]) if "teacher" in manifest else "",
        _tokens(tokens),
        "## Overlap with evaluation sets",
        _overlaps(manifest["overlaps"]),
        _examples(examples),
        "## Limits",
        _limits(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _what_it_is(manifest: Mapping[str, Any]) -> str:
    num_samples = sum(row["count_all"] for row in manifest["samples"])
    return (
        f"{num_samples:,} training conversations made from {manifest['records']['kept']:,} trajectories, after the "
        "method of Agent-FLAN (Chen et al. 2024, arXiv 2403.12881): agent trajectories aligned to chat, "
        "instruction-following pairs in explicit formats, and conversations in which the right reply calls no tool. "
        "Each piece of an assistant turn is tagged with the capability that it teaches; untagged text is context."
    )


def _source(source: Mapping[str, Any]) -> str:
    if "toolbox" in source:
        draws = ", ".join(f"{name} {value}" for name, value in source["toolbox"].items())
        return f"**toolbox**: conversations drawn from this package's own world ({draws}), code {source['code']}."
    files = source["files"]
    shown = _table(("file", "SHA-256"), ((name, f"`{digest}`") for name, digest in files[:MAX_FILES]))
    more = f"\n\nand {len(files) - MAX_FILES:,} more files, listed in manifest.json" if len(files) > MAX_FILES else ""
    counted = "1 file" if len(files) == 1 else f"{len(files):,} files"
    return f"**{source['source']}**: {counted}, read with code {source['code']}.\n\n{shown}{more}"


def _licence() -> str:
    return (
        "This corpus is derived from the sources above and bound by their licences and terms, which the build can't "
        "read: check each of them before you share the corpus or a model trained on it. What the toolbox draws is "
        "under this package's own licence, Apache-2.0."
    )


def _made(manifest: Mapping[str, Any]) -> str:
    lines = []
    for title, key in (("Samples", "deriving"), ("Cleaning", "cleaning")):
        part = manifest[key]
        literals = ", ".join(f"{name} = {value}" for name, value in _flat(part["recipe"]))
        lines.append(f"{title}: {literals}; code {part['code']}.")
    if "teacher_recipe" in manifest:
        literals = ", ".join(f"{name} = {value}" for name, value in _flat(manifest["teacher_recipe"]))
        lines.append(f"Teacher: {literals}.")
    return "\n\n".join(lines)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{prefix}{name}", _cell("none" if shown is None or shown == "" else shown)


def _reasons(records: Mapping[str, Any]) -> str:
    lines = [
        f"- {reason}: {_cell(_clipped(_FOLDERS.sub('', sentence), 200))}"
        for reason, sentences in records["examples"].items()
        for sentence in sentences[:1]
    ]
    return "One of each reason:\n\n" + "\n".join(lines) if lines else ""


def _omitted(omitted: Sequence[Mapping[str, Any]]) -> str:
    if not omitted:
        return "Every sample that the recipe asks for could be made."
    rows = ((row["case"], row["omitted"], row["count_all"]) for row in omitted)
    return "Samples that could not be made:\n\n" + _table(("kind", "reason", "number"), rows)


def _taught(totals: Mapping[str, Any]) -> str:
    """What became of the replies that a teacher wrote (``TeacherReport.totals``)."""
    cost = "at a cost that is not known" if totals["cost"] is None else f"for {totals['cost']:.2f} US dollars"
    text = (
        f"A teacher was to word the replies of {totals['chosen']:,} samples: {totals['accepted']:,} of its replies "
        f"were accepted, the other samples keep theirs from patterns. It read {totals['tokens_in']:,} tokens and wrote "
        f"{totals['tokens_out']:,}, {cost}."
    )
    if not totals["rejected"]:
        return text
    rows = ((row["case"], row["reason"], row["count_all"]) for row in totals["rejected"])
    return f"{text}\n\n{_table(('case', 'why not accepted', 'replies'), rows)}"


def _tokens(tokens: Sequence[Mapping[str, Any]]) -> str:
    if not tokens:
        return ""
    names = ("component", "form", "case", "samples", "tokens", "supervised_tokens")
    return "## Tokens\n\n" + _table(names, ([row[name] for name in names] for row in tokens))


def _overlaps(overlaps: Sequence[Mapping[str, Any]]) -> str:
    if not overlaps:
        return "No evaluation set was named, so overlaps were not looked for: scores on public sets may be too good."
    rows = ((row["name"], row["items"], row["unmatched"], row["records"]) for row in overlaps)
    return "Records that share their words with an item were removed.\n\n" + _table(
        ("set", "items", "not looked for", "records removed"), rows
    )


def _examples(examples: Sequence[Sample]) -> str:
    if not examples:
        return ""
    shown = []
    for sample in examples:
        text = "\n\n".join(
            f"[{turn.role}{'' if any(part.capability for part in turn.parts) else ', not learnt'}]\n"
            f"{_clipped(turn.text, MAX_CHARACTERS)}"
            for turn in sample.turns
        )
        # A fence longer than any in the text can't be closed by it.
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
        shown.append(f"{sample.form}, {sample.case} (from {_cell(sample.source)}):\n\n{fence}text\n{text}\n{fence}")
    return "## Examples\n\n" + "\n\n".join(shown)


def _limits() -> str:
    return (
        "- Tools, results and answers stand as the sources have them; nobody checked that an answer is true.\n"
        "- Negatives state that a request can't be met with what is listed. Irrelevance is decided by how alike "
        "descriptions are, so a few listed tools may help after all.\n"
        "- Personal data and offensive text are as in the sources unless the cleaning recipe above names a filter.\n"
        "- The shares of a mixture are set when training, not here: a corpus holds what a mixture may draw from."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    body = [
        "| " + " | ".join(f"{value:,}" if isinstance(value, int) else _cell(value) for value in row) + " |"
        for row in rows
    ]
    rule = "|" + "---|" * len(header)
    return "\n".join(["| " + " | ".join(header) + " |", rule, *body])


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _clipped(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]} … ({len(text):,} characters)"
