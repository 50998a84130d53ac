"""IFEval's 25 instructions: a reply that follows and one that doesn't for each, and for every real prompt."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.ifeval import ifeval
from agentflan_ray.evaluate.ifeval_rules import RULES, count_sentences, follows, loosened

DATA = Path(os.environ.get("AGENTFLAN_DATA", Path(__file__).parents[3] / "shared/data"))
GARBAGE = [
    "x" * 100_000,
    "{[(<" * 25_000,
    "*" * 100_000,
    "<<" * 50_000,
    "\n" * 99_999 + "x",
    ". " * 50_000,
    "\x00\udcff,",
]

TABLE: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "NASA, USA",
        "NASA",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "less than", "capital_frequency": 2},
        "a-B NASA",
        "IT IS",
    ),
    ("change_case:english_capital", {}, "THE WEATHER IS NICE TODAY.", "The weather is NICE."),
    ("change_case:english_capital", {}, "THIS IS AN ENGLISH TEXT.", "DAS WETTER IST HEUTE SEHR SCHÖN UND WARM."),
    ("change_case:english_lowercase", {}, "the weather is nice today.", "The weather is nice."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, " say it. Done.", "I say it."),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:two_responses", {}, "******one******two", "one ****** ****** two"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b c]", "[a] and [b"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Well.\np. s. more", "PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S more", "P.S. more"),
    ("detectable_format:constrained_response", {}, "Well: My answer is maybe. So.", "my answer is maybe"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', '{"a": '),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 x SECTION2",
        "SECTION A",
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b\n**bold**", "* a\n* b\n* c"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and *two*", "*one* and * *"),
    ("detectable_format:title", {}, "<<a title>>\ntext", "<<>> <a title>"),
    ("keywords:existence", {"keywords": ["Cat", "dog"]}, "dogs and CATS", "dogs"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "a CAT."),
    ("keywords:frequency", {"keyword": "cat ", "frequency": 2, "relation": "at least"}, "cats, Cat", "cat"),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "less than"}, "see", "seer E"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "# #", "#"),
    (
        "language:response_language",
        {"language": "de"},
        "Das Wetter ist heute sehr schön.",
        "The weather is nice today.",
    ),
    ("language:response_language", {"language": "hi"}, "आज मौसम बहुत अच्छा है।", "The weather is nice today."),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "it"},
        "a\n\n'It's b",
        "It a\n\nb",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a\n\nb"),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        "One. Two! Three?",
        "Dr. J. Doe has 3.5. Yes.",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "well-known", "a b-c"),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
    ("startend:end_checker", {"end_phrase": "That is all."}, '"Well, that is all."', "That is all. Bye"),
    ("startend:quotation", {}, ' "all of it" ', '"'),
]


def test_the_table_has_every_instruction() -> None:
    assert {name for name, *_ in TABLE} == set(RULES)
    assert len(RULES) == 25


@pytest.mark.parametrize(("name", "given", "good", "bad"), TABLE, ids=lambda value: value if type(value) is str else "")
def test_each_rule(name: str, given: dict[str, Any], good: str, bad: str) -> None:
    assert follows(name, given, good)
    assert not follows(name, given, bad)
    assert not follows(name, given, " \n")


def test_unknown_instructions_and_relations_are_errors() -> None:
    with pytest.raises(ValueError, match="no instruction 'keywords:rhyme'"):
        follows("keywords:rhyme", {}, "x")
    with pytest.raises(ValueError, match="relation is 'about'"):
        follows("length_constraints:number_words", {"num_words": 3, "relation": "about"}, "x")


def test_sentences() -> None:
    assert count_sentences("Mr. Smith came at 3.30 p.m. today. He left! Why? No idea") == 4
    assert count_sentences('"Stop!" he said... Then nothing.') == 3
    assert count_sentences("") == 0


def test_loose_variants_take_away_first_and_last_line_and_asterisks() -> None:
    assert loosened("Sure:\n*a*\nBye") == ["Sure:\n*a*\nBye", "Sure:\na\nBye", "*a*\nBye", "a\nBye", "Sure:\n*a*",
                                           "Sure:\na", "*a*", "a"]  # fmt: skip


def write(folder: Path, rows: list[dict[str, Any]]) -> Settings:
    (folder / "ifeval").mkdir()
    (folder / "ifeval/input_data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Settings(str(folder))


def test_strict_and_loose_by_prompt_and_instruction(tmp_path: Path) -> None:
    row = {
        "key": 7, "prompt": "Write without commas, quoted.",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {"num_words": None}],
    }  # fmt: skip
    benchmark = ifeval(write(tmp_path, [row]))
    [item] = benchmark.items()
    assert (item.id, item.case) == ("ifeval/7", "2 instructions")
    episode = benchmark.open(item)
    request = episode.ask()
    assert request is not None
    assert request.messages == ({"role": "user", "content": "Write without commas, quoted."},)
    episode.take(Reply('Sure, here:\n"a text"'))
    assert benchmark.score(item, episode.outcome()) == {
        "prompt_strict": 0.0, "instruction_strict": 0.0, "prompt_loose": 1.0, "instruction_loose": 1.0,
        "instructions": 2.0, "punctuation": 0.0, "startend": 0.0,
    }  # fmt: skip
    assert benchmark.score(item, {"reply": ""})["prompt_loose"] == 0.0
    half = benchmark.score(item, {"reply": "a text"})
    assert (half["prompt_strict"], half["instruction_strict"]) == (0.0, 0.5)


def test_unknown_instructions_in_the_file_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="prompts are not there"):
        ifeval(Settings(str(tmp_path)))
    row = {"key": 7, "prompt": "x", "instruction_id_list": ["keywords:rhyme"], "kwargs": [{}]}
    with pytest.raises(ValueError, match=r"Prompt 7 of input_data\.jsonl has the unknown instruction"):
        ifeval(write(tmp_path, [row]))


@pytest.mark.parametrize("reply", GARBAGE, ids=["long", "nested", "stars", "angles", "lines", "points", "binary"])
def test_garbage_is_scored_in_linear_time(tmp_path: Path, reply: str) -> None:
    row = {"key": 1, "prompt": "x", "instruction_id_list": [t[0] for t in TABLE], "kwargs": [t[1] for t in TABLE]}
    benchmark = ifeval(write(tmp_path, [row]))
    began = time.perf_counter()
    assert benchmark.score(benchmark.items()[0], {"reply": reply})["prompt_strict"] == 0.0
    assert time.perf_counter() - began < 8


WORDS: Mapping[str, str] = {
    "ar": "الطقس جميل جدا اليوم",
    "bg": "Времето днес е много хубаво и топло",
    "bn": "আজ আবহাওয়া খুব সুন্দর",
    "de": "Das Wetter ist heute sehr schön",
    "fa": "امروز هوا بسیار خوب است و ما خوشحال هستیم",
    "fi": "Sää on tänään erittäin kaunis",
    "gu": "આજે હવામાન ખૂબ સરસ છે",
    "hi": "आज मौसम बहुत अच्छा है",
    "it": "Il tempo oggi è molto bello",
    "kn": "ಇಂದು ಹವಾಮಾನ ತುಂಬಾ ಚೆನ್ನಾಗಿದೆ",
    "ko": "오늘 날씨가 매우 좋습니다",
    "mr": "आज हवामान खूप छान आहे आणि आम्ही आनंदी आहोत",
    "ne": "आज मौसम धेरै राम्रो छ र हामी खुसी छौं",
    "pa": "ਅੱਜ ਮੌਸਮ ਬਹੁਤ ਵਧੀਆ ਹੈ",
    "pt": "O tempo hoje está muito bonito",
    "ru": "Сегодня очень хорошая погода",
    "sw": "Hali ya hewa leo ni nzuri sana",
    "ta": "இன்று வானிலை மிகவும் நன்றாக உள்ளது",
    "te": "ఈ రోజు వాతావరణం చాలా బాగుంది",
    "th": "วันนี้อากาศดีมาก",
    "ur": "آج موسم بہت اچھا ہے اور ہم خوش ہیں",
    "vi": "Hôm nay thời tiết rất đẹp",
}


def _less(given: Mapping[str, Any], key: str = "relation") -> bool:
    return bool(given[key] == "less than")


FOLLOWING: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "change_case:capital_word_frequency": lambda g: (
        "none" if _less(g, "capital_relation") else "UP " * g["capital_frequency"]
    ),
    "change_case:english_capital": lambda g: "THE WEATHER IS NICE TODAY.",
    "change_case:english_lowercase": lambda g: "the weather is nice today.",
    "combination:repeat_prompt": lambda g: g["prompt_to_repeat"] + "\nYes.",
    "combination:two_responses": lambda g: "one\n******\ntwo",
    "detectable_content:number_placeholders": lambda g: "[x] " * g["num_placeholders"],
    "detectable_content:postscript": lambda g: f"Well.\n{g['postscript_marker']} more",
    "detectable_format:constrained_response": lambda g: "My answer is yes.",
    "detectable_format:json_format": lambda g: "{}",
    "detectable_format:multiple_sections": lambda g: "".join(
        f"{g['section_spliter']} {n + 1}\ntext\n" for n in range(g["num_sections"])
    ),
    "detectable_format:number_bullet_lists": lambda g: "* point\n" * g["num_bullets"],
    "detectable_format:number_highlighted_sections": lambda g: "*part*\n" * g["num_highlights"],
    "detectable_format:title": lambda g: "<<title>>",
    "keywords:existence": lambda g: " ".join(g["keywords"]),
    "keywords:forbidden_words": lambda g: "zzz",
    "keywords:frequency": lambda g: "zzz" if _less(g) else (g["keyword"] + " ") * g["frequency"],
    "keywords:letter_frequency": lambda g: "-" if _less(g, "let_relation") else g["letter"] * g["let_frequency"],
    "language:response_language": lambda g: WORDS[g["language"]],
    "length_constraints:nth_paragraph_first_word": lambda g: "\n\n".join(
        [f"{g['first_word']} x"] * g["num_paragraphs"]
    ),
    "length_constraints:number_paragraphs": lambda g: "\n***\n".join(["text"] * g["num_paragraphs"]),
    "length_constraints:number_sentences": lambda g: (
        "" if g["num_sentences"] == 0 else ("no end" if _less(g) else "Yes it is. " * g["num_sentences"])
    ),
    "length_constraints:number_words": lambda g: "word" if _less(g) else "word " * g["num_words"],
    "punctuation:no_comma": lambda g: "none",
    "startend:end_checker": lambda g: "Well. " + g["end_phrase"],
    "startend:quotation": lambda g: '"all"',
}


def test_real_prompts_can_be_followed_and_an_empty_agent_follows_none() -> None:
    if not (DATA / "eval/ifeval").exists():
        pytest.skip(f"IFEval is not at {DATA}; set AGENTFLAN_DATA")
    benchmark = ifeval(Settings(str(DATA)))
    items = benchmark.items()
    assert len(items) == 541
    assert sum(len(item.data["instructions"]) for item in items) == 834
    failed = [
        (name, given)
        for item in items
        for name, given in item.data["instructions"]
        if not follows(name, given, FOLLOWING[name](given))
    ]
    # "Less than one sentence" can't be followed by a reply that is not empty, in the published checker neither.
    assert all(given.get("num_sentences") == 1 and given["relation"] == "less than" for _, given in failed)
    alone = [item for item in items if len(item.data["instructions"]) == 1]
    for item in alone:
        [(name, given)] = item.data["instructions"]
        if (name, given) not in failed:
            assert benchmark.score(item, {"reply": FOLLOWING[name](given)})["prompt_strict"] == 1.0
    assert all(benchmark.score(item, {"reply": ""})["instruction_loose"] == 0.0 for item in items)
