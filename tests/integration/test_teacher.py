"""A teacher on Ray: a model in a worker, batch by batch, its replies kept as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from agentflan_ray.corpus.teacher.local import Generate, LocalModel
from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
from agentflan_ray.corpus.teacher.rewrite import rewrite
from agentflan_ray.sample import SAMPLE_SCHEMA, Part, Sample, Turn

QUIET = Console(quiet=True)
RECIPE = TeacherRecipe(model="toy")


def samples(num: int) -> pa.Table:
    made = [
        Sample(
            f"t{i}/no_tool_request",
            f"t{i}",
            "unit",
            "chat",
            "no_tool_request",
            (
                Turn("user", (Part(f"Where is comet {i}?"),)),
                Turn("assistant", (Part("I have no tools for that here.", "general"),)),
            ),
        )
        for i in range(num)
    ]
    return pa.Table.from_pylist([each.to_row() for each in made], SAMPLE_SCHEMA)


def toy(loaded: Path) -> Callable[[TeacherRecipe], Generate]:
    """A model that declines in words that name the comet, or calls a tool for each third one."""

    def load(recipe: TeacherRecipe) -> Generate:
        with loaded.open("a") as log:
            log.write(f"{recipe.model}\n")

        def generate(conversations: list[list[dict[str, str]]]) -> list[str]:
            numbers = [int(c[1]["content"].split("comet ")[1].split("?")[0]) for c in conversations]
            return [
                f"I will use a telescope for comet {n}."
                if n % 3 == 0
                else f"Comet {n} is beyond my means, I can't see it."
                for n in numbers
            ]

        return generate

    return load


def test_a_local_model_writes_and_its_replies_are_kept(local_ray: None, tmp_path: Path) -> None:
    loaded = tmp_path / "loaded.txt"
    teacher = LocalModel(toy(loaded), batch_size=4)
    table, report = rewrite(samples(9), RECIPE, teacher, str(tmp_path / "replies"), QUIET)
    last = [Sample.from_row(row).turns[-1].text for row in table.to_pylist()]
    assert last == [
        "I have no tools for that here." if i % 3 == 0 else f"Comet {i} is beyond my means, I can't see it."
        for i in range(9)
    ]
    totals = report.totals()
    assert (totals["asked"], totals["accepted"], totals["cost"]) == (9, 6, 0)
    assert totals["rejected"] == [{"case": "no_tool_request", "reason": "announces_an_action", "count_all": 3}]
    assert loaded.read_text() == "toy\n", "one worker loads one model"
    again, free = rewrite(samples(9), RECIPE, teacher, str(tmp_path / "replies"), QUIET)
    assert again == table
    assert free.totals()["asked"] == 0
    assert loaded.read_text() == "toy\n"


def test_workers_that_leave_no_cpu_are_refused(local_ray: None, tmp_path: Path) -> None:
    teacher = LocalModel(toy(tmp_path / "loaded.txt"), workers=2)
    with pytest.raises(ValueError, match="2 workers take 2 CPUs, but of the cluster's 2 one must be left"):
        rewrite(samples(1), RECIPE, teacher, str(tmp_path / "replies"), QUIET)
