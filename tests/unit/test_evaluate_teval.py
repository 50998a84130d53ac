"""T-Eval's scores on made-up replies, files in its layout, and the open items with oracle and random agents."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentflan_ray import storage
from agentflan_ray.evaluate import teval_scores as scores
from agentflan_ray.evaluate.benchmark import Item, Reply, Sample, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.teval import CASES, FILES, Teval, teval, teval_open
from agentflan_ray.evaluate.embedding import CharacterNgrams, SentenceModel, embedder_of
from agentflan_ray.evaluate.summary import summarise
from agentflan_ray.randomness import stable_random

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[3] / "shared/data"))
NGRAMS = CharacterNgrams()
GARBAGE = {
    "empty": "", "long": "a" * 100_000, "nested": "[{" * 50_000, "closed": "[" * 5000 + "]" * 5000,
    "quotes": "'\"" * 50_000, "binary": "\x00\udcff\\x", "broken": '{"name": "x", "args": {', "dots": "a.b" * 30_000,
    "marks": "<t><a><i>" * 10_000, "digits": "[" + "9" * 10_000 + "]",
}  # fmt: skip
TEMPLATE = {"thought": "why", "action": "tool", "args": "input"}
MARKS = {"thought_start": "<t>", "thought_end": "</t>", "action_start": "<a>", "action_end": "</a>",
         "args_start": "<i>", "args_end": "</i>"}  # fmt: skip
GOLD = {"action": "Weather.today", "args": {"place": "Solm", "days": 2}}


def test_instruct_json() -> None:
    full = '{"why": "w", "tool": "Weather.today", "input": {"place": "Solm", "days": 2}}'
    assert scores.instruct_json(full, TEMPLATE, GOLD) == {"instruct": 1.0, "parsed": 1.0}
    fenced = f"```json\n{full}\n```"
    assert scores.instruct_json(scores.cut(fenced), TEMPLATE, GOLD)["instruct"] == 1.0
    wrong_type = full.replace("2}", '"2"}')
    assert scores.instruct_json(wrong_type, TEMPLATE, GOLD)["instruct"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    no_arguments = '{"why": 1, "tool": "Other", "input": "Solm"}'
    assert scores.instruct_json(no_arguments, TEMPLATE, GOLD)["instruct"] == 0.5
    assert scores.instruct_json(full.replace("why", "thought"), TEMPLATE, GOLD) == {"instruct": 0.0, "parsed": 0.0}


def test_instruct_string() -> None:
    full = "So <t>w</t><a> Weather.today </a><i>{'place': 'Solm', 'days': 2}</i> done"
    assert scores.instruct_string(full, MARKS, GOLD)["instruct"] == 1.0
    assert scores.instruct_string(full.replace("{'", "{{'"), MARKS, GOLD)["instruct"] == pytest.approx(0.5 + 0.5 / 3)
    assert scores.instruct_string(full.replace("</t><a>", "</t> <a>"), MARKS, GOLD)["parsed"] == 0.0


def test_between_finds_what_the_greedy_pattern_finds() -> None:
    import re

    random = stable_random("between")
    for _ in range(300):
        text = "".join(random.choice(["A", "B", "C", "D", "x"]) for _ in range(24))
        match = re.search("A(.*)B(.*)C(.*)D", text)
        assert scores.between(text, "A", "B", "C", "D") == (match.groups() if match else None)


STEPS: list[dict[str, Any]] = [
    {"name": "find_city", "id": 0, "args": "{'name': 'Solm'}"},
    {"name": "list_hotels", "id": 1, "args": "{'city': '$var1$'}"},
    {"name": "book_room", "id": 2, "args": "{'hotel': '$var2$'}"},
]


def test_plans_are_matched_in_order() -> None:
    assert scores.plan(STEPS, STEPS, NGRAMS)["plan"] == 1.0
    finished = [*STEPS, {"name": "FinishAction", "id": 9, "args": "{}"}]
    assert scores.plan(finished, STEPS, NGRAMS)["plan"] == 1.0
    swapped = [{**STEPS[1], "id": 0}, {**STEPS[0], "id": 1}, STEPS[2]]
    assert scores.plan(swapped, STEPS, NGRAMS)["plan"] == pytest.approx(2 / 3)
    half = scores.plan(STEPS[:1], STEPS, NGRAMS)
    assert (half["plan_precision"], half["plan"]) == (1.0, 0.5)
    assert half["plan_recall"] == pytest.approx(1 / 3)
    assert scores.plan([], STEPS, NGRAMS) == {"plan": 0.0, "plan_precision": 0.0, "plan_recall": 0.0, "parsed": 0.0}
    # As published: a run has one step even where nothing matched.
    strange = [{"name": "zzz", "id": 0, "args": "qqq"}]
    assert scores.plan(strange, STEPS, NGRAMS)["plan"] == 0.5
    assert scores.plan(strange, STEPS, NGRAMS, least_matched=0) == {
        "plan": 0.0, "plan_precision": 0.0, "plan_recall": 0.0, "parsed": 1.0,
    }  # fmt: skip
    assert scores.plan(swapped, STEPS, NGRAMS, least_matched=0)["plan"] == pytest.approx(2 / 3)
    # Only FinishAction is no plan; the published evaluator divides by zero here.
    assert scores.plan(finished[3:], STEPS, NGRAMS)["plan"] == 0.0


def test_plans_are_read() -> None:
    text = 'Plan: [{"name": "a", "id": "1", "args": {"x": 1}}] done'
    assert scores.plan_of_json(text) == [{"name": "a", "id": 1, "args": "{'x': 1}"}]
    assert scores.plan_of_json('[{"name": "a", "id": 1}]') == []
    assert scores.plan_of_json('{"name": "a"}') == []
    steps = scores.plan_of_text("1. Use b then a\n2. Go on. Call a now\nnothing", ["a.x", "b", "a"])
    assert [(step["name"], step["id"], step["args"]) for step in steps] == [
        ("b", 0, "Use b then a"), ("a", 1, "Call a now"),
    ]  # fmt: skip


def test_retrieve_understand_review() -> None:
    assert scores.retrieve("I take Weather.today", "Weather.today")["retrieve"] == 1.0
    assert scores.retrieve("Weather.today or City.find", "Weather.today")["retrieve"] == 0.0
    assert scores.retrieve("Weather.today, FinishAction", "Weather.today")["retrieve"] == 0.0
    assert scores.retrieve("shop and pay", "shop", ["pay"])["retrieve"] == 0.0
    assert scores.retrieve("shop", "shop", ["sho"])["retrieve"] == 1.0
    assert scores.understand("'Solm'", "Solm")["understand"] == 1.0
    assert scores.understand("in Solm", "Solm")["understand"] == 0.0
    assert scores.review("Answer: B because", "B") == {"review": 1.0, "parsed": 1.0}
    assert scores.review("B", "B")["review"] == 1.0
    assert scores.review("It is: fine. B", "B") == {"review": 0.0, "parsed": 0.0}


def test_reason_retrieve_understand() -> None:
    gold = {"thought": "look for the weather", "name": "Weather.today", "args": {"place": "Solm", "days": 2}}
    made = json.dumps({**gold, "args": {"place": "Solm", "days": "2"}})
    found = scores.reason_retrieve_understand(f"Well: {made}.", gold, NGRAMS)
    assert found == {"reason": 1.0, "retrieve": 1.0, "understand": pytest.approx(1.0, abs=1e-5), "parsed": 1.0}
    none = scores.reason_retrieve_understand('{"name": "x", "args": 3}', {**gold, "args": {}}, NGRAMS)
    assert none == {"reason": 0.0, "retrieve": 0.0, "understand": 1.0, "parsed": 1.0}
    many = scores.reason_retrieve_understand('{"args": {"a": 1}}', {**gold, "args": {}}, NGRAMS)
    assert many["understand"] == 0.0


def test_cut_ends_where_the_model_goes_on() -> None:
    assert scores.cut("  yes<|im_end|>\nno") == "yes"
    assert scores.cut('```json\n{"a": 1}\n```\nuser: more').strip() == '{"a": 1}'


def test_unknown_escapes_are_kept_as_python_keeps_them() -> None:
    assert scores.load(r"{'pattern': '\d+\n'}") == {"pattern": "\\d+\n"}


def test_ngrams() -> None:
    names = ["getUserById", "get_user_by_id", "list_hotels", ""]
    table = NGRAMS.cosines(names, names)
    assert np.allclose(np.diag(table), 1.0)
    assert table[0, 1] == pytest.approx(1.0)
    assert table[0, 2] < 0.2
    assert table[0, 3] == 0.0
    assert np.allclose(table, table.T)
    assert NGRAMS.cosines(["get property reviews"], ["get property details"])[0, 0] < 0.8
    assert NGRAMS.cosines([], ["a"]).shape == (0, 1)


FILE_ROWS: dict[str, dict[str, Any]] = {
    "instruct": {"template": TEMPLATE, "meta_data": {"response_format": "json"}, "ground_truth": GOLD},
    "plan_json": {"meta": {"prompt_type": "json"}, "ground_truth": STEPS},
    "plan_str": {
        "meta": {"prompt_type": "str", "API_list": [step["name"] for step in STEPS]}, "ground_truth": json.dumps(STEPS),
    },
    "reason_str": {"ground_truth": {"thought": "look it up", "name": "n", "args": {}}},
    "retrieve_str": {"ground_truth": '{"thought": "t", "name": "Weather.today", "args": {}}'},
    "understand_str": {"ground_truth": {"thought": "t", "name": "n", "args": {"place": "Solm"}}},
    "reason_retrieve_understand_json": {"ground_truth": {"thought": "t", "name": "n", "args": {"a": 1}}},
    "review_str": {
        "template": "", "meta_data": {"response_format": "str"}, "ground_truth": {"answer": "C", "thought": "t"},
    },
}  # fmt: skip


def write(folder: Path, rows: dict[str, dict[str, Any]]) -> Settings:
    (folder / "teval").mkdir(exist_ok=True)
    prompt = [
        {"role": "system", "content": "be exact"},
        {"role": "user", "content": "task"},
        {"role": "function", "content": "result"},
    ]
    for name, row in rows.items():
        (folder / f"teval/{name}_v2.json").write_text(json.dumps({"0": {"origin_prompt": prompt, **row}}))
    return Settings(str(folder))


def oracle(item: Item) -> str:
    """A reply made from the truth."""
    gold = item.data["gold"]
    match item.case:
        case "instruct_json":
            named = item.data["template"]
            return json.dumps({named["thought"]: "t", named["action"]: gold["action"], named["args"]: gold["args"]})
        case "instruct_string":
            marks = item.data["template"]
            return (
                f"{marks['thought_start']}t{marks['thought_end']}{marks['action_start']}{gold['action']}"
                f"{marks['action_end']}{marks['args_start']}{json.dumps(gold['args'])}{marks['args_end']}"
            )
        case "plan_json":
            return json.dumps(gold)
        case "plan_str":
            return "\n".join(f"{n + 1}) {step['name']} {step['args']}" for n, step in enumerate(gold))
        case "reason_str":
            return str(gold["thought"])
        case "retrieve_str":
            return str(gold["name"])
        case "understand_str":
            return str(gold["args"])
        case "review_str":
            return f"Answer: {gold['answer']}"
    return json.dumps(gold)


def summary_of(benchmark: Teval, replies: dict[str, str]) -> dict[str, float]:
    samples = []
    for item in benchmark.items():
        episode = benchmark.open(item)
        request = episode.ask()
        assert request is not None
        reply = Reply(replies[item.id])
        episode.take(reply)
        found = benchmark.score(item, episode.outcome())
        assert all(0.0 <= value <= 1.0 for value in found.values()), (item.id, found)
        samples.append(Sample(item, ((request, reply),), episode.outcome(), found, 0.0))
    metrics = summarise(samples, benchmark.metrics)["metrics"]
    return {name: row["value"] for name, row in metrics.items()}


def test_files_in_the_published_layout(tmp_path: Path) -> None:
    benchmark = teval(write(tmp_path, FILE_ROWS))
    items = {item.id: item for item in benchmark.items()}
    assert set(items) == {f"{name}/0" for name in FILES}
    request = benchmark.open(items["review_str/0"]).ask()
    assert request is not None
    assert [dict(message) for message in request.messages] == [
        {"role": "system", "content": "be exact"}, {"role": "user", "content": "task\nresult"},
    ]  # fmt: skip
    assert items["understand_str/0"].data["gold"]["args"] == "{'place': 'Solm'}"
    found = summary_of(benchmark, {name: oracle(item) for name, item in items.items()})
    assert all(found[name] == pytest.approx(1.0, abs=1e-5) for name in ("overall", "plan", "review", "parsed"))
    assert "character n-grams in place of the published sentence embedder" in benchmark.protocol


def test_files_that_are_missing_or_odd(tmp_path: Path) -> None:
    write(tmp_path, {name: row for name, row in FILE_ROWS.items() if name != "instruct"})
    with pytest.raises(Unavailable, match=r"files instruct_v2\.json are not there"):
        teval(Settings(str(tmp_path)))
    write(tmp_path, {"instruct": {"ground_truth": GOLD, "template": TEMPLATE}})
    with pytest.raises(ValueError, match=r"Item '0' of instruct_v2\.json is not laid out as T-Eval's are"):
        teval(Settings(str(tmp_path)))
    with pytest.raises(Unavailable, match=r"nestful/executable-data\.json, .*big_tool_des\.json are not there"):
        teval_open(Settings(str(tmp_path)))


def listed(name: str, *arguments: str) -> dict[str, Any]:
    return {"name": name, "description": name, "parameters": {each: {"type": "str"} for each in arguments}}


def dialogue(tool: dict[str, Any], value: str, response: str, *beside: dict[str, Any]) -> dict[str, Any]:
    call = {"name": tool["name"], "arguments": dict.fromkeys(tool["parameters"], value)}
    turns = [("user", f"Do it for {value}."), ("assistant", json.dumps([call])), ("tool", response)]
    query = [{"role": role, "content": content} for role, content in turns]
    return {"query": query, "tools": [tool, *beside], "answers": [call]}


@pytest.fixture
def open_folder(tmp_path: Path) -> Settings:
    """Nothing but calls with responses, 24 of each tool."""
    stock, cancel, login = listed("QueryStock", "stock_code"), listed("CancelRoom", "room"), listed("Login", "user")
    sky, rain, help_ = listed("SkyNow", "place"), listed("RainLater", "hour"), listed("AskPage", "question")
    river = listed("RiverLevels", "river")
    rows = []
    for number in range(24):
        rows += [
            dialogue(stock, f"S{number}", f"1{number}.5"),
            dialogue(cancel, f"R{number}", "success", river),
            dialogue(login, f"U{number}", f"{{'token': 't{number}'}}\nGenerate API Request:"),
            dialogue(sky, f"P{number}", f"{{'sky': 'grey', 'wind': {number}}}"),
            dialogue(rain, f"H{number}", f"[{{'sky': 'dark', 'mm': {number}}}]"),
            dialogue(river, f"W{number}", f"{{'level': {number}, 'trend': 'falling'}}"),
            dialogue(help_, f"Q{number}", "The question is too difficult to answer."),
        ]
    for part in ("executable", "non-executable-glaive", "non-executable-sgd"):
        for kind in ("data", "spec"):
            storage.write_bytes(tmp_path / f"nestful/{part}-{kind}.json", b"[]")
    storage.write_bytes(tmp_path / "single-call/apibank_l1.json", json.dumps(rows).encode())
    storage.write_bytes(tmp_path / "single-call/sealtool.json", b"[]")
    storage.write_bytes(tmp_path / "metatool/all_clean_data.csv", b"Query,Tool\n")
    for file in ("plugin_des.json", "big_tool_des.json"):
        storage.write_bytes(tmp_path / "metatool" / file, b"{}")
    return Settings(str(tmp_path))


def test_what_a_tool_returned_is_right_or_nothing_it_could_return(open_folder: Settings) -> None:
    found = defaultdict(set)
    for item in teval_open(open_folder).items():
        if item.case == "review_str":
            shown = str(item.data["messages"][-1]["content"])
            found[item.group, item.data["gold"]["answer"]].add(shown.partition("\nReturned: ")[2])
    told = {"sky": "'sky': 'grey'", "rain": "'sky': 'dark'", "river": "'level'"}
    allowed = {
        "QueryStock": {"sky", "rain", "river"},
        "CancelRoom": {"sky", "rain"},  # a dialogue lists it with RiverLevels
        "Login": {"sky", "rain", "river"},
        "SkyNow": {"river"},  # SkyNow and RainLater tell of the sky both
        "RainLater": {"river"},
        "RiverLevels": {"sky", "rain"},
    }
    # Tokens, success and numbers could come from any tool, and what could not be done is no success.
    assert {name for name, _ in found} == allowed.keys()
    for name, kinds in allowed.items():
        assert found[name, "D"], name
        for response in found[name, "D"]:
            assert any(told[kind] in response for kind in kinds), (name, response)
    assert found["CancelRoom", "A"] == {"success"}
    assert found["Login", "A"] <= {f"{{'token': 't{number}'}}" for number in range(24)} != set()


def test_open_items_count_no_step_of_a_plan_without_a_match(open_folder: Settings, tmp_path: Path) -> None:
    ours, theirs = teval_open(open_folder), teval(write(tmp_path, FILE_ROWS))
    assert (ours.identity["least_matched"], theirs.identity["least_matched"]) == (0, 1)
    item = next(item for item in theirs.items() if item.case == "plan_json")
    reply = {"reply": '[{"name": "x", "id": 0, "args": ""}]'}
    assert theirs.score(item, reply)["plan"] == 0.5
    assert ours.score(item, reply) == {"plan": 0.0, "plan_precision": 0.0, "plan_recall": 0.0, "parsed": 1.0}


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_scored_in_linear_time(tmp_path: Path, reply: str) -> None:
    benchmark = teval(write(tmp_path, FILE_ROWS))
    began = time.perf_counter()
    found = summary_of(benchmark, {item.id: reply for item in benchmark.items()})
    assert scores.instruct_string(reply, MARKS, GOLD) == {"instruct": 0.0, "parsed": 0.0}
    assert found["overall"] <= 0.1
    assert time.perf_counter() - began < 8


def test_a_plan_of_many_steps_is_scored_in_bounded_time() -> None:
    many = json.dumps([{"name": "a", "id": 0, "args": {}}] * 4000)
    began = time.perf_counter()
    assert scores.plan(scores.plan_of_json(scores.cut(many)), STEPS, NGRAMS)["plan"] < 0.5
    assert time.perf_counter() - began < 8


def test_open_items_oracle_random_and_silent_agents() -> None:
    if not (DATA / "eval/nestful").exists():
        pytest.skip(f"NESTFUL is not at {DATA}; set AGENTFLAN_DATA")
    benchmark = teval_open(Settings(str(DATA)))
    items = benchmark.items()
    assert len({item.id for item in items}) == len(items) > 1200
    assert {item.case for item in items} == set(CASES)
    assert {item.case for item in items[:60]} == set(CASES)
    gold = summary_of(benchmark, {item.id: oracle(item) for item in items})
    assert {
        name: round(gold[name], 4) for name in ("instruct", "reason", "retrieve", "understand", "review")
    } == dict.fromkeys(("instruct", "reason", "retrieve", "understand", "review"), 1.0)
    assert gold["plan"] > 0.98
    silent = summary_of(benchmark, {item.id: "" for item in items})
    assert silent["overall"] == pytest.approx(0.0, abs=0.01)
    made_up = summary_of(benchmark, {item.id: '[{"name": "x", "id": 0, "args": ""}]' for item in items})
    assert made_up["plan"] == 0.0
    assert made_up["overall"] < 0.01
    first = summary_of(benchmark, {item.id: min(item.data.get("apis", [""])) for item in items})
    assert 0.01 < first["plan"] < 0.03  # 4.3 of 100 in plan_str
    replies, gold_of = {}, defaultdict(list)
    for item in items:
        gold_of[item.case].append(oracle(item))
    for item in items:
        random = stable_random("random agent", item.id)
        if item.case == "retrieve_str":
            replies[item.id] = random.choice([item.data["gold"]["name"], *item.data["names"]])
        elif item.case == "review_str":
            replies[item.id] = random.choice("ABCDE")
        else:
            replies[item.id] = random.choice(gold_of[item.case])
    chance = summary_of(benchmark, replies)
    retrieved = [benchmark.score(i, {"reply": replies[i.id]})["retrieve"] for i in items if i.case == "retrieve_str"]
    assert sum(retrieved) / len(retrieved) < 0.2  # 0.1 by chance
    assert 0.05 < chance["review"] < 0.35  # 0.2 by chance, 81 items
    assert chance["overall"] < 0.35


def test_the_option_embedder_names_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the folder of a sentence-transformers model"):
        embedder_of(str(tmp_path))
    assert isinstance(embedder_of(None), CharacterNgrams)
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "find", "the", "weather", "book"])}
    raw = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]")
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    embedder = embedder_of(str(tmp_path))
    assert isinstance(embedder, SentenceModel)
    texts = ["find the weather", "book", "the " * 50]
    with torch.inference_mode():
        vectors = [
            model(torch.tensor([[words[word] for word in text.split()[:8]]])).last_hidden_state[0].mean(0)
            for text in texts
        ]
    expected = torch.stack([vector / vector.norm() for vector in vectors]).double()
    assert np.allclose(embedder.cosines(texts, texts), (expected @ expected.T).numpy(), atol=1e-5)
    assert "other than the published one" in embedder.description
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(ValueError, match="pools by pooling_mode_cls_token"):
        SentenceModel(tmp_path)
