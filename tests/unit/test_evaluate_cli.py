"""The command: what it refuses, what it leaves behind, and that a second call costs nothing."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentflan_ray import cluster
from agentflan_ray.cli.evaluate import (
    add_evaluate_flags,
    cut_replies,
    open_all,
    plan_of,
    result_table,
    run,
    settings_of,
)
from agentflan_ray.evaluate import registry
from agentflan_ray.evaluate.benchmark import (
    Benchmark,
    Item,
    Metric,
    Missing,
    OneRequest,
    Request,
    Settings,
    Unavailable,
    Weighing,
)
from agentflan_ray.evaluate.benchmarks.mmlu import Mmlu, MmluProtocol
from agentflan_ray.evaluate.benchmarks.toolbox import toolbox
from agentflan_ray.evaluate.benchmarks.when2call import When2Call, When2CallProtocol
from agentflan_ray.evaluate.engines.transformers import TransformersPlan
from agentflan_ray.evaluate.engines.vllm import VllmPlan, server_command
from agentflan_ray.train import models


class Letters:
    """Two items answered, two weighed."""

    name = "letters"
    protocol = "Say a letter."
    metrics: Sequence[Metric] = (Metric("said", scale=100), Metric("first"))
    identity: Mapping[str, Any] = {}

    def items(self) -> list[Item]:
        return [Item(letter, letter, "case", {"letter": letter}) for letter in "abcd"]

    def open(self, item: Item) -> OneRequest:
        choices = ("a", "b") if item.id in "cd" else ()
        return OneRequest(Request(({"role": "user", "content": f"Say {item.id}."},), 5, choices=choices))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        return {"first": float(outcome["reply"] == "a")} if item.id in "cd" else {"said": float(bool(outcome["reply"]))}


@pytest.fixture(autouse=True)
def few_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of one that runs and one that can't, in the suite ``small``."""
    missing = [
        Missing("There is no Java.", "Install a JRE."),
        Missing("There is no data.", "Put it into --data."),
    ]

    def open_benchmark(name: str, settings: Settings) -> Benchmark:
        if name == "letters":
            return Letters()
        raise Unavailable(name, missing)

    monkeypatch.setattr(registry, "BENCHMARKS", {"letters": "", "heavy": ""})
    monkeypatch.setattr(registry, "SUITES", {"small": ("letters", "heavy"), "large": ("heavy",)})
    for name in ("BENCHMARKS", "SUITES"):
        monkeypatch.setattr(f"agentflan_ray.cli.evaluate.{name}", getattr(registry, name))
    monkeypatch.setattr("agentflan_ray.cli.evaluate.open_benchmark", open_benchmark)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_evaluate_flags(parser)
    return parser.parse_args(words)


def test_a_suite_runs_what_it_can_and_a_second_call_loads_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("tiny-llama", "--suite", "small", "--out", str(tmp_path), "--max-length", "256")
    run(parse(*words, "--limit", "3"))
    printed = capsys.readouterr().out
    assert "There is no Java. Install a JRE." in printed
    assert "letters: 3 items of 4" in printed
    assert "Say a letter." in printed
    (folder,) = (tmp_path / "evaluation").iterdir()
    assert folder.name.startswith("tiny-llama-")
    result = json.loads((folder / "letters.json").read_text())
    assert result["metrics"]["said"]["n"] == 2
    assert result["metrics"]["first"]["n"] == 1
    assert result["engine"]["max_length"] == 256
    run(parse(*words))
    monkeypatch.setattr(TransformersPlan, "open", lambda _: pytest.fail("a model is loaded"))
    before = (folder / "letters.json").read_bytes()
    run(parse(*words))
    assert (folder / "letters.json").read_bytes() == before
    assert json.loads(before)["asked"] == {"items": 4, "of": 4, "limit": None}


def test_the_list_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    run(parse("--list"))
    printed = capsys.readouterr().out
    assert "suite small: letters, heavy" in printed
    assert "letters: 4 items. Say a letter." in printed
    assert printed.index("heavy can't run here:") < printed.index("There is no data. Put it into --data.")


def test_a_benchmark_that_is_named_itself_must_run() -> None:
    console = Console(quiet=True)
    with pytest.raises(Unavailable, match=r"heavy can't run here: There is no Java\. .*--data"):
        open_all(["small", "heavy"], Settings(), console)
    with pytest.raises(ValueError, match="None of the benchmarks of large can run here"):
        open_all(["large"], Settings(), console)
    assert [each.name for each in open_all(["small", "letters"], Settings(), console)] == ["letters"]
    with pytest.raises(ValueError, match="no benchmark or suite 'what'"):
        open_all(["what"], Settings(), console)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Name a model"),
        (("tiny-llama",), "at least one --suite"),
        (("tiny-llama", "--suite", "small", "--limit", "0"), "--limit is 0"),
        (("tiny-llama", "--suite", "small", "--batch", "0"), "--batch is 0, but must be at least 1"),
        (("tiny-llama", "--suite", "small", "--engine", "vllm", "--gpus", "0"), "--gpus is 0"),
        (("tiny-llama", "--suite", "small", "--max-length", "0"), "--max-length is 0, but must be at least 2"),
        (
            ("m", "--suite", "small", "--engine", "openai", "--url", "http://x", "--max-length", "0"),
            "--max-length is 0",
        ),
        (("tiny-llama", "--suite", "small", "--replicas", "-1"), "--replicas is -1"),
        (("tiny-llama", "--suite", "small", "--item-seconds", "0"), "--item-seconds is 0"),
        (("tiny-llama", "--suite", "small", "--out", "s3://bucket/x"), "give a local folder"),
        (("tiny-llama", "--suite", "small", "--option", "url"), "--option url is not NAME=VALUE"),
        (("tiny-llama", "--suite", "small", "--option", "seedz=5"), "There is no option 'seedz'; there are "),
        (
            ("tiny-llama", "--suite", "small", "--option", "seeds=5"),
            "The option seeds is for miniwob, but letters, heavy",
        ),
        (("tiny-llama", "--suite", "small", "--data", "/not/there"), "--data is /not/there, but there is no such"),
        (("tiny-llama", "--suite", "small", "--url", "http://x"), "takes --engine openai"),
        (("m", "--suite", "small", "--engine", "openai"), "needs the endpoint's --url"),
        (("m", "--suite", "small", "--engine", "openai", "--url", "x"), "give one such as"),
        (("m", "--suite", "small", "--engine", "openai", "--url", "http://x", "--max-length", "9"), "has its own"),
        (("m", "--suite", "small", "--engine", "openai", "--url", "http://x", "--dtype", "float32"), "has its own"),
        (("tiny-llama", "--suite", "small", "--gpus", "4"), "only --engine vllm spreads"),
        (("no-such-model", "--suite", "small"), "is no model"),
        (("tiny-llama", "--suite", "small", "--max-length", "99999"), "takes from 2 to 2048 tokens"),
        (("tiny-llama", "--suite", "small", "--template", "what"), "no chat template 'what'"),
    ],
)
def test_what_is_refused(words: Sequence[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        run(parse(*words))


def test_a_model_is_looked_at_before_a_cluster_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "connect", lambda: pytest.fail("a cluster is joined"))
    with pytest.raises(ValueError, match="no chat template 'nope'"):
        plan_of(parse("tiny-llama", "--replicas", "1", "--template", "nope"))
    folder = tmp_path / "model"
    shutil.copytree(models.resolve("tiny-llama"), folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors are damaged"):
        plan_of(parse(str(folder), "--replicas", "1"))
    (folder / "model.safetensors").unlink()
    for engine in ("transformers", "vllm"):
        with pytest.raises(ValueError, match="only safetensors weights are read"):
            plan_of(parse(str(folder), "--engine", engine))


def test_a_model_that_does_not_load_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError("owner/name has no file named model.safetensors.\nMore.")

    monkeypatch.setattr(TransformersPlan, "open", fail)
    with pytest.raises(ValueError, match=r"tiny-llama can't be loaded: owner/name has no .*safetensors\. It takes"):
        run(parse("tiny-llama", "--suite", "letters", "--out", str(tmp_path)))


class WeighedLetters(Letters):
    weighs_choices = True


def test_a_suite_leaves_out_what_an_endpoint_can_not_weigh(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, type[Letters]] = {"letters": Letters, "heavy": WeighedLetters}
    monkeypatch.setattr("agentflan_ray.cli.evaluate.open_benchmark", lambda name, _: made[name]())
    found = open_all(["small"], Settings(), Console(), "openai")
    assert [type(each) for each in found] == [Letters]
    printed = capsys.readouterr().out
    assert "heavy can't run here:" in printed
    assert "a chat endpoint does not tell how likely they are. Use --engine transformers or vllm for it." in printed
    with pytest.raises(Unavailable, match="heavy can't run here: It weighs given answers"):
        open_all(["small", "heavy"], Settings(), Console(quiet=True), "openai")
    for engine in ("transformers", "vllm"):
        assert len(open_all(["small"], Settings(), Console(quiet=True), engine)) == 2


def test_benchmarks_say_whether_they_weigh_choices() -> None:
    weighing = [Mmlu(MmluProtocol(), (), {}), When2Call(When2CallProtocol(weigh=True), [], "")]
    assert all(isinstance(each, Weighing) and each.weighs_choices for each in weighing)
    assert not When2Call(When2CallProtocol(weigh=False), [], "").weighs_choices


def test_a_suite_leaves_out_the_toolbox_where_another_prompt_is_asked_for() -> None:
    with pytest.raises(Unavailable, match=r"toolbox can't run here: It has its own prompts .*, not 'json'\. Leave"):
        toolbox(Settings(prompt="json"))
    assert toolbox(Settings(prompt="react")).name == "toolbox"


def test_what_is_replaced_is_said_before_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tiny-llama", "--suite", "letters", "--out", str(tmp_path))

    def printed(*more: str) -> str:
        run(parse(*words, *more))
        return capsys.readouterr().out

    assert "replaces" not in printed("--limit", "3")
    assert "replaces" not in printed("--limit", "3")
    assert "replaces" not in printed()
    (path,) = tmp_path.glob("evaluation/*/letters.json")
    whole = path.read_bytes()
    said = printed("--limit", "2")
    sentence = (
        "letters: this replaces the result of 4 items (now 2); its episodes stay, and the command without --limit "
        "writes it again from them."
    )
    assert said.index(sentence) < said.index("letters: 2 items of 4")
    assert "replaces" not in printed()
    assert path.read_bytes() == whole
    said = printed("--max-length", "256", "--limit", "1")
    assert "replaces the result of 4 items (now 1; max_length was 2048 and is 256)" in said
    assert "and the earlier command writes it again" in said
    path.write_text("{")
    assert "letters.json, which is no JSON." in printed()


def test_replies_that_a_limit_took_are_counted() -> None:
    def said(engine: dict[str, Any], **finish: int) -> str | None:
        return cut_replies({"replies": {"finish": finish}, "engine": engine})

    ours = {"engine": "transformers", "max_length": 40}
    assert said(ours, stop=30, length=3, choice=7) is None
    assert said(ours, stop=30, context=3, choice=7) == (
        "3 of 40 replies are empty because the prompt did not fit (--max-length 40)."
    )
    assert said({"engine": "openai"}, stop=5, context=1, time=2) == (
        "1 of 8 replies is empty because the prompt did not fit; 2 of 8 replies are cut off because their time was up."
    )


def test_prompts_that_do_not_fit_are_told_after_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(parse("tiny-llama", "--suite", "letters", "--out", str(tmp_path), "--max-length", "8"))
    printed = capsys.readouterr().out
    sentence = "4 of 4 replies are empty because the prompt did not fit (--max-length 8)."
    assert printed.index("4 items of 4") < printed.index(sentence) < printed.index("Say a letter.")


def test_settings_come_from_flags_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLAN_DATA", "folder")
    settings = settings_of(parse("--option", "a=b=c", "--option", "url=http://x", "--prompt", "json"))
    assert settings == Settings("folder", "json", {"a": "b=c", "url": "http://x"})
    assert settings_of(parse("--data", "other")).data == "other"


def test_an_endpoint_is_identified_by_its_address() -> None:
    plans = [plan_of(parse("m", "--engine", "openai", "--url", url)) for url in ("http://a", "http://b")]
    assert plans[0][0].identity != plans[1][0].identity
    assert plans[0][1].label != plans[1][1].label


def test_the_number_format_is_part_of_what_decides_replies() -> None:
    for engine in ("transformers", "vllm"):
        asked = [(), ("--dtype", "float32"), ("--dtype", "bfloat16")]
        plans = [plan_of(parse("tiny-llama", "--engine", engine, *more))[0] for more in asked]
        assert [plan.identity["dtype"] for plan in plans[1:]] == ["float32", "bfloat16"]
    plan, _ = plan_of(parse("tiny-llama", "--engine", "vllm", "--gpus", "4"))
    assert isinstance(plan, VllmPlan)
    assert server_command(plan, 1)[-1] == "4"


def test_the_table_counts_errors_and_shows_unknown_numbers() -> None:
    row = {"value": 0.5, "n": 3, "low": 0.25, "high": 0.75, "better": "high", "scale": 100}
    summary = {
        "benchmark": "x",
        "items": 5,
        "asked": {"of": 9},
        "errors": {"items": 2, "reasons": {"environment: gone": 2}},
        "metrics": {"a": row, "b": {**row, "value": None, "low": None, "high": None, "n": 0, "scale": 1}},
    }
    console = Console(width=120)
    with console.capture() as capture:
        console.print(result_table(summary))
    text = capture.get()
    assert "5 items of 9, 2 errors in no mean (2 x environment: gone)" in " ".join(text.split())
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert cells == [["a", "50.0", "25.0 to 75.0", "3", "high"], ["b", "-", "-", "0", "high"]]


@pytest.mark.parametrize("reason", ["no file [/tmp/game.z8]", "[error] the server died", "[Errno 2] x", "ends in \\"])
def test_a_reason_is_printed_as_it_is(reason: str) -> None:
    errors = {"items": 1, "reasons": {f"environment: {reason}": 1}}
    summary = {"benchmark": "b", "items": 3, "asked": {"of": 3}, "errors": errors, "metrics": {}}
    console = Console(width=200)
    with console.capture() as capture:
        console.print(result_table(summary))
    assert f"b: 3 items of 3, 1 errors in no mean (1 x environment: {reason})" in " ".join(capture.get().split())
