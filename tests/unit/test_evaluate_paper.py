"""What a comparison with the paper's numbers demands of a run can be met, and is not met by other runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Settings
from agentflan_ray.evaluate.benchmarks.hotpotqa import hotpotqa
from agentflan_ray.evaluate.benchmarks.mmlu import mmlu
from agentflan_ray.evaluate.benchmarks.sciworld import Sciworld, SciworldProtocol
from agentflan_ray.evaluate.benchmarks.teval import Teval
from agentflan_ray.evaluate.compare import paper_table
from agentflan_ray.evaluate.embedding import PUBLISHED_SHA256, CharacterNgrams, SentenceModel
from tests.unit.test_evaluate_general import write_mmlu
from tests.unit.test_evaluate_hotpotqa import ROWS
from tests.unit.test_evaluate_limits import BUILD

COLUMNS: list[dict[str, Any]] = paper_table()["columns"]


def requires(benchmark: str) -> dict[str, Any]:
    """What its column demands of a run."""
    found: dict[str, Any] = next(column["requires"] for column in COLUMNS if column["benchmark"] == benchmark)
    return found


def meets(identity: Any, benchmark: str) -> bool:
    return all(identity[name] == value for name, value in requires(benchmark).items())


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column["name"]))
def test_what_is_required_is_in_the_benchmarks_identity(column: dict[str, Any], tmp_path: Path) -> None:
    if column["requires"]:
        assert column["requires"].keys() <= BUILD[column["benchmark"]](tmp_path).identity.keys()
    assert {"name", "benchmark", "metric", "comparable", "requires", "why"} == column.keys()


def test_only_what_was_asked_in_the_papers_way_is_comparable() -> None:
    assert {column["benchmark"] for column in COLUMNS if column["comparable"]} == {"sciworld", "teval", "mmlu"}
    assert all(column["requires"] for column in COLUMNS if column["comparable"])


def test_sciworld_takes_the_published_examples() -> None:
    assert meets(Sciworld(SciworldProtocol(examples="published"), (), {}).identity, "sciworld")
    assert not meets(Sciworld(SciworldProtocol(), (), {}).identity, "sciworld")


def test_mmlu_takes_five_shots(tmp_path: Path) -> None:
    for with_dev in (True, False):
        folder = tmp_path / str(with_dev)
        folder.mkdir()
        write_mmlu(folder, with_dev)
        assert meets(mmlu(Settings(str(folder))).identity, "mmlu") == with_dev


def test_teval_takes_the_published_embedder() -> None:
    published, other = SentenceModel.__new__(SentenceModel), SentenceModel.__new__(SentenceModel)
    published._digest, other._digest = PUBLISHED_SHA256, "0" * 64
    assert "the published embedder" in published.description
    assert meets(Teval("teval", "own", published, ()).identity, "teval")
    for embedder in (other, CharacterNgrams()):
        assert not meets(Teval("teval", "own", embedder, ()).identity, "teval")


def test_hotpotqa_searches_wikipedia_in_turns_of_thought_and_action(tmp_path: Path) -> None:
    pytest.importorskip("bm25s", reason="needs the package bm25s")
    folder = tmp_path / "hotpotqa/with-paragraphs"
    folder.mkdir(parents=True)
    for row in ROWS:
        (folder / f"{row['level']}.jsonl").write_text(json.dumps(row) + "\n")
    live = {"wikipedia": "live"}
    assert meets(hotpotqa(Settings(str(tmp_path), options=live)).identity, "hotpotqa")
    assert not meets(hotpotqa(Settings(str(tmp_path), prompt="json", options=live)).identity, "hotpotqa")
    assert not meets(hotpotqa(Settings(str(tmp_path))).identity, "hotpotqa")
