"""A trajectory and its samples on the terminal, coloured by what each piece teaches."""

from __future__ import annotations

import pyarrow.dataset as pads
from rich.console import Console
from rich.text import Text

from agentflan_ray.corpus.store import Corpus, read_table
from agentflan_ray.sample import SAMPLE_SCHEMA, Sample
from agentflan_ray.trajectory import TRAJECTORY_SCHEMA, Trajectory

COLOURS = {
    "reasoning": "blue",
    "retrieval": "yellow",
    "understanding": "green",
    "instruction": "magenta",
    "general": "cyan",
}


def show(corpus: Corpus, trajectory_id: str | None, console: Console) -> None:
    """Print one trajectory and every sample made of it. Raises ``ValueError`` for an id that is not there."""
    kept = pads.field("status") == "kept"
    wanted = kept if trajectory_id is None else kept & (pads.field("id") == trajectory_id)
    rows = read_table(corpus.records_uri, TRAJECTORY_SCHEMA.names, wanted).slice(0, 1).to_pylist()
    if not rows:
        raise ValueError(f"No kept trajectory {trajectory_id!r} in {corpus.uri}; ids stand in its records/status=kept.")
    trajectory = Trajectory.from_row(rows[0])
    console.rule(f"trajectory {trajectory.id} · {trajectory.source}")
    for message in trajectory.messages:
        console.print(Text(f"{message.role}{'' if message.loss else ' (not learnt)'}: ", "bold"), end="")
        console.print(Text(" ".join(piece for piece in (message.thought, message.content) if piece)))
        for call in message.calls:
            console.print(Text(f"    {call.name}({call.arguments})"))
    samples = read_table(
        corpus.samples_uri, [*SAMPLE_SCHEMA.names, "omitted"], pads.field("parent") == trajectory.id
    ).sort_by("id")
    for row in samples.to_pylist():
        if row["omitted"]:
            console.print(f"No {row['case']} sample: {row['omitted']}")
            continue
        sample = Sample.from_row(row)
        console.rule(f"{sample.id} · {sample.form} · {sample.case}")
        for turn in sample.turns:
            console.print(Text(f"{turn.role}: ", "bold"), end="")
            console.print(
                Text.assemble(*((part.text, COLOURS.get(part.capability or "", "dim")) for part in turn.parts))
            )
    console.print(
        Text.assemble("learnt: ", *((f"{name} ", colour) for name, colour in COLOURS.items()), ("not learnt", "dim"))
    )
