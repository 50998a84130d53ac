"""Chat templates: the named ones, what is found out about any, and the masks against transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentflan_ray.sample import Part, Turn
from agentflan_ray.tokens.encode import Encoder
from agentflan_ray.tokens.printing import only_prints_texts
from agentflan_ray.tokens.templates import TEMPLATES, Marks, marks_of
from agentflan_ray.tokens.tokenizer import load_tokenizer, tokenizer_fingerprint
from agentflan_ray.train import models
from tests.small_tokenizer import KINDS, Kind, bare_tokenizer, messages_of, small_tokenizer

TURNS = [
    Turn("system", (Part("Be brief."),)),
    Turn("user", (Part("What time is it?"),)),
    Turn("assistant", (Part("Thought: I look.\n", "reasoning"), Part('{"clock": "☕"}', "understanding"))),
    Turn("user", (Part("12:00"),)),
    Turn("assistant", (Part("Noon é", "general"),)),
]

RENDERED = {
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat time is it?<|im_end|>\n"
        '<|im_start|>assistant\nThought: I look.\n{"clock": "☕"}<|im_end|>\n'
        "<|im_start|>user\n12:00<|im_end|>\n<|im_start|>assistant\nNoon é<|im_end|>\n"
    ),
    "llama2": (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat time is it? [/INST] "
        'Thought: I look.\n{"clock": "☕"} </s><s>[INST] 12:00 [/INST] Noon é </s>'
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat time is it?<|eot_id|>"
        '<|start_header_id|>assistant<|end_header_id|>\n\nThought: I look.\n{"clock": "☕"}<|eot_id|>'
        "<|start_header_id|>user<|end_header_id|>\n\n12:00<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nNoon é<|eot_id|>"
    ),
    "mistral": (
        "<s>[INST] Be brief.\n\nWhat time is it? [/INST] "
        'Thought: I look.\n{"clock": "☕"}</s>[INST] 12:00 [/INST] Noon é</s>'
    ),
    "agentflan": (
        "<s><|Human|>\u0d46Be brief.\n <|Human|>\u0d46What time is it?\n "
        '<|Assistant|>\u0d46Thought: I look.\n{"clock": "☕"}\u0d3f</s>\n '
        "<|Human|>\u0d4612:00\n <|Assistant|>\u0d46Noon é\u0d3f</s>\n "
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_named_template_renders(name: str) -> None:
    tokenizer = small_tokenizer(name)
    assert tokenizer.apply_chat_template(messages_of(TURNS), tokenize=False) == RENDERED[name]
    prompt = tokenizer.apply_chat_template(messages_of(TURNS[:2]), tokenize=False, add_generation_prompt=True)
    assert RENDERED[name].startswith(prompt)
    # What a model is asked for begins right after the prompt.
    said = RENDERED[name][len(prompt) :].lstrip()
    assert said.startswith("Thought: I look.")


@pytest.mark.parametrize("name", TEMPLATES)
def test_generation_stops_at_the_end_mark(name: str) -> None:
    tokenizer = small_tokenizer(name)
    assert marks_of(tokenizer, "x").end.endswith(tokenizer.eos_token)


def assert_masks_agree(tokenizer: Any) -> None:
    encoded = Encoder(tokenizer)(TURNS)
    marked = tokenizer.apply_chat_template(messages_of(TURNS), return_assistant_tokens_mask=True, return_dict=True)
    assert encoded.input_ids.tolist() == marked["input_ids"]
    assert (encoded.tags >= 0).astype(int).tolist() == marked["assistant_masks"]
    assert sum(marked["assistant_masks"]) > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learnt_is_what_transformers_marks_as_generated(name: str, kind: Kind) -> None:
    assert_masks_agree(small_tokenizer(name, kind))


@pytest.mark.parametrize("name", ["chatml", "llama2", "mistral", "agentflan"])
def test_the_masks_agree_with_a_real_tokenizer(name: str) -> None:
    converted = list(models.cache_folder().glob(f"{models.SMOLLM2}-*/tokenizer.json"))
    if not converted:
        pytest.skip("SmolLM2 was not converted on this machine")
    assert_masks_agree(load_tokenizer(str(converted[0].parent), name))


@pytest.fixture
def base_model(tmp_path: Path) -> str:
    bare_tokenizer("metaspace").save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_base_model_needs_a_named_template(base_model: str) -> None:
    with pytest.raises(ValueError, match=r"has no chat template; .* name one of the templates chatml, llama2, llama3"):
        load_tokenizer(base_model)
    with pytest.raises(ValueError, match=r"There is no chat template 'vicuna'; choose one of chatml, llama2, llama3"):
        load_tokenizer(base_model, "vicuna")
    assert load_tokenizer(base_model, "llama2").chat_template == TEMPLATES["llama2"].text
    assert load_tokenizer(base_model, "chatml").eos_token == "<|im_end|>"
    assert load_tokenizer(base_model, "agentflan").eos_token == "</s>"


def test_a_template_needs_its_tokens(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    place = str(tmp_path)
    tokenizer.save_pretrained(place)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8").replace("<|eot_id|>", "<|other|>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"'llama3' needs the token '<\|eot_id\|>', .* choose llama2 or mistral or agentflan"
    ):
        load_tokenizer(place, "llama3")


def test_a_model_keeps_its_own_template_unless_another_is_asked_for(tmp_path: Path) -> None:
    small_tokenizer("llama2_as_published").save_pretrained(tmp_path)
    own, other = load_tokenizer(str(tmp_path)), load_tokenizer(str(tmp_path), "mistral")
    assert "Conversation roles must alternate" in own.chat_template
    assert other.chat_template == TEMPLATES["mistral"].text
    assert tokenizer_fingerprint(own) != tokenizer_fingerprint(other)


def with_template(text: str) -> Any:
    tokenizer = bare_tokenizer()
    tokenizer.chat_template = text
    return tokenizer


PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ END }}{% endfor %}"


@pytest.mark.parametrize(
    ("end", "marks"),
    [
        ("'</s>\n'", Marks("", "</s>", ("</s>",))),
        # A plain mark ends where the next turn's own words begin.
        ("'\n###\n'", Marks("", "\n###", ())),
        ("'\n' ~ eos_token ~ '\n<pad>'", Marks("", "\n</s>", ("</s>", "<pad>"))),
    ],
)
def test_the_end_mark_is_found(end: str, marks: Marks) -> None:
    assert marks_of(with_template(PLAIN.replace("END", end)), "x") == marks


def test_blanks_that_the_prompt_lacks_are_for_the_model_to_say() -> None:
    template = PLAIN.replace("END", "'</s>'") + "{% if add_generation_prompt %}assistant:{% endif %}"
    tokenizer = with_template(template)
    assert marks_of(tokenizer, "x").lead == " "
    encoded = Encoder(tokenizer)([Turn("user", (Part("Hi"),)), Turn("assistant", (Part("Yes", "general"),))])
    assert tokenizer.decode(encoded.input_ids[encoded.tags >= 0]) == " Yes</s>"
    assert np.flatnonzero(encoded.tags >= 0)[0] == len("user: Hi") + 1 + len("assistant:")


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (PLAIN.replace("END", "'\n'"), r"'x' renders no end mark after the assistant's turns \('\\nuser: ' between"),
        # An end mark between turns only: the last turn, the only one of most samples, would never end.
        ("{% for m in messages %}{{ m['content'] }}{% if not loop.last %}</s>{% endif %}{% endfor %}", "no end mark"),
        ("{{ raise_exception('No talking') }}", "chat template of 'x' refuses a plain conversation: No talking"),
        ("{{ messages[0]['content'] }}</s>", "does not render each turn once and in order"),
    ],
)
def test_a_template_that_teaches_no_stop_is_refused(template: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        marks_of(with_template(template), "x")


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_named_templates_only_print(name: str) -> None:
    assert only_prints_texts(TEMPLATES[name].text)


IN_A_LOOP = "{% for m in messages %}BODY{% endfor %}"


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.role ~ m['content'] | trim }}</s>",
        "{% set text = m.content.strip() %}{% if m.role == 'user' and not loop.last %}{{ 'U: ' + text }}{% endif %}",
        "{{ m.content if m.content is string else '' }}{{ messages | length }}",
        "{% set kept = namespace(a='') %}{% set kept.a = m.content ~ '!' %}{{ kept.a }}",
        "{% generation %}{{ m.content }}{% endgeneration %}",
        "{{ messages[0]['content'] }}{% for other in messages[1:] %}{{ other.content }}{% endfor %}",
    ],
)
def test_a_template_that_only_prints(body: str) -> None:
    assert only_prints_texts(IN_A_LOOP.replace("BODY", body))


@pytest.mark.parametrize(
    "body",
    [
        "{{ m['content'].split('</think>')[-1] }}",
        "{{ (' ' ~ m['content']) | trim }}",
        "{{ m | tojson }}",
        "{{ m.content | upper }}",
        "{{ m.content[:9] }}",
        "{{ m[m.role] }}",
        "{{ m.get('content') }}",
        "{% for key, value in m.items() %}{{ value }}{% endfor %}",
        "{% if 'x' in m.content %}{{ m.content }}{% endif %}",
        "{% if m.content %}x{% endif %}",
        "{% if loop.previtem.content == 'x' %}{{ m.content }}{% endif %}",
        "{% set text = m.content %}{% if text == 'x' %}y{% endif %}",
        "{% set kept = namespace(a='') %}{% set kept.a = m.content %}{% if kept.a == 'x' %}y{% endif %}",
        "{% set a = namespace(t='') %}{% set b = a %}{% set b.t = m.content %}{{ a.t | upper }}",
        "{% set text %}{{ m.content }}{% endset %}{{ text | upper }}",
        "{% macro say(text) %}{{ text | upper }}{% endmacro %}{{ say(m.content) }}",
        "{{ raise_exception('No ' ~ m.content) }}",
        "{% if loop.changed(m.content) %}x{% endif %}",
    ],
)
def test_a_template_that_does_more_with_texts_is_run_for_each_conversation(body: str) -> None:
    assert not only_prints_texts(IN_A_LOOP.replace("BODY", body))
