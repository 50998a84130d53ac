"""One training from a corpus to an exported model, on a real Ray, as the command ``train`` runs it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agentflan_ray.corpus.build import Order as CorpusOrder
from agentflan_ray.corpus.build import ToolboxDraw, build
from agentflan_ray.finetune import Job, Order, finetune
from agentflan_ray.mixture import Index, Mixture, Plan, make_plan
from agentflan_ray.tokens.tokenise import TokenStore, tokenise
from agentflan_ray.train.models import load_model, resolve
from agentflan_ray.train.recipe import Placement, TrainRecipe

RECIPE = TrainRecipe(model="tiny-llama", block_length=2048, blocks_per_step=1, learning_rate=1e-2, validate_every=2)
PLACEMENT = Placement(cpus_per_worker=0.9)

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray"),
]


@pytest.fixture(scope="module")
def tokens(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    draw = ToolboxDraw(tool=40, chat=30, missing_argument=10)
    corpus = build(CorpusOrder((draw,)), str(tmp_path_factory.mktemp("store")))
    return tokenise(corpus, resolve("tiny-llama"), RECIPE.block_length)


def half_reasoning(index: Index) -> Plan:
    return make_plan(index, Mixture({"reasoning": 0.5, "general": 0.5}, 8_000))


def test_a_training_leaves_a_model_and_everything_that_says_what_it_is(tokens: TokenStore, tmp_path: Path) -> None:
    order = Order(recipe=RECIPE, tokens=tokens, make_plan=half_reasoning, validation_tokens=4_000)
    job = Job(out=str(tmp_path / "run"), placement=PLACEMENT, console=Console(record=True, width=200, quiet=True))
    model = finetune(order, job)
    facts = json.loads((tmp_path / "run/train.json").read_text())
    curve = [json.loads(line) for line in (tmp_path / "run/curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == list(range(1, facts["steps"] + 1))
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[1].keys() >= {"validation_loss", "loss/reasoning", "loss/general"}
    assert "loss/retrieval" not in curve[1]
    assert {"source_loss/toolbox", "validation_source_loss/toolbox"} <= curve[-1].keys()
    waited = {name.partition("/")[2]: value for name, value in curve[0].items() if name.startswith("startup_seconds/")}
    assert list(waited) == ["workers", "libraries", "DeepSpeed", "model", "engine", "first step"]
    assert all(0 < seconds < 120 for seconds in waited.values())
    assert json.loads((tmp_path / "run/metrics.json").read_text())["step"] == facts["steps"]
    assert abs(facts["realised"]["reasoning"] - 0.5) < 0.1
    assert load_model(model).config.vocab_size == load_model("tiny-llama").config.vocab_size
    assert facts["corpus"] in (tmp_path / "run/model/README.md").read_text()
    assert list((tmp_path / "run/tensorboard").iterdir())

    console = Console(record=True, width=200)
    assert finetune(order, replace(job, console=console)) == model
    assert "It is trained already" in console.export_text()

    other = replace(order, recipe=replace(RECIPE, learning_rate=1e-3))
    with pytest.raises(ValueError, match=r"another recipe's learning_rate \(0.01, now 0.001\); give another --out"):
        finetune(other, job)

    shutil.rmtree(tmp_path / "run/model")
    (tmp_path / "run/metrics.json").unlink()
    finetune(order, job)
    again = [json.loads(line) for line in (tmp_path / "run/curve.jsonl").read_text().splitlines()]
    assert again[-1]["loss"] == pytest.approx(curve[-1]["loss"], abs=1e-5)
