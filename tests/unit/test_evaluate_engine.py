"""Continuous batching: what a row is answered does not depend on its neighbours, and everything is bounded."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agentflan_ray.evaluate.benchmark import Reply, Request
from agentflan_ray.evaluate.engines import replicas
from agentflan_ray.evaluate.engines.pool import Ranges
from agentflan_ray.evaluate.engines.replicas import Places
from agentflan_ray.evaluate.engines.transformers import TransformersEngine, TransformersPlan, TransformersSettings
from agentflan_ray.evaluate.engines.vllm import VllmPlan
from agentflan_ray.tokens.templates import render
from agentflan_ray.train.models import resolve
from tests.small_tokenizer import small_tokenizer

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "llama, one key head": {"num_key_value_heads": 1},
    "llama, a key head each": {"num_key_value_heads": 4},
    "mistral, window": {"num_key_value_heads": 2, "sliding_window": 9},
    "qwen3, windows in half of the layers": {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "use_sliding_window": True,
        "sliding_window": 9,
        "layer_types": ["full_attention", "sliding_attention"],
    },
}
TOKENIZER = small_tokenizer("chatml")


def tiny(kind: str = "llama", **more: Any) -> Any:
    """A random model with weights large enough that attention decides what comes out."""
    settings = {"max_position_embeddings": 512, **KINDS.get(kind, {}), **more}
    config = AutoConfig.for_model(
        kind.partition(",")[0],
        vocab_size=len(TOKENIZER),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=TOKENIZER.eos_token_id,
        **settings,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def asked(*texts: str, **options: Any) -> list[Request]:
    return [Request(({"role": "user", "content": text},), **{"max_new_tokens": 12, **options}) for text in texts]


TEXTS = [
    "Hello",
    "What is the weather in Oslo today, and will it rain?",
    "x",
    "Call the tool. " * 9,
    "Call the tool. " * 9 + "Now!",
    "What is the weather in Oslo today, and will it snow?",
    "12 times 31",
]


@contextlib.contextmanager
def running(model: Any, **settings: Any) -> Iterator[TransformersEngine]:
    with contextlib.closing(TransformersEngine(model, TOKENIZER, "tiny", TransformersSettings(**settings))) as engine:
        yield engine


def answers(model: Any, requests: Sequence[Request], **settings: Any) -> list[Reply]:
    with running(model, **settings) as engine:
        return [future.result(timeout=60) for future in [engine.submit(request) for request in requests]]


def plain_tokens(model: Any, request: Request) -> list[int]:
    """Greedy decoding, the whole text computed anew for each token."""
    text = render(TOKENIZER, list(request.messages), add_generation_prompt=True)
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    new: list[int] = []
    while len(new) < request.max_new_tokens:
        with torch.inference_mode():
            token = int(model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].argmax())
        if token == TOKENIZER.eos_token_id:
            break
        new.append(token)
    return new


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"num_slots": 2, "chunk": 8}], ids=["together", "two slots, small chunks"])
def test_replies_are_those_of_each_row_alone(kind: str, settings: dict[str, Any]) -> None:
    model = tiny(kind)
    expected = [plain_tokens(model, request) for request in asked(*TEXTS)]
    replies = answers(model, asked(*TEXTS), **settings)
    assert [reply.text for reply in replies] == [
        TOKENIZER.decode(tokens, skip_special_tokens=True).strip() for tokens in expected
    ]
    assert [reply.new_tokens for reply in replies] == [len(tokens) for tokens in expected]
    assert len({reply.text for reply in replies}) > 3


def test_a_conversation_that_goes_on_is_not_computed_again() -> None:
    model = tiny()
    with running(model) as engine:
        conversation = asked(TEXTS[3])[0].messages
        for _ in range(3):
            reply = engine.submit(Request(conversation, 8)).result(timeout=60)
            conversation = (
                *conversation,
                {"role": "assistant", "content": "Thought: so."},
                {"role": "user", "content": "Observation: 3"},
            )
        assert 0.7 * engine.work.prompt_tokens > engine.work.reused_tokens > 0.5 * engine.work.prompt_tokens
    last = Request(conversation[:-2], 8)
    assert reply.text == TOKENIZER.decode(plain_tokens(model, last), skip_special_tokens=True).strip()


def test_a_common_beginning_is_computed_once() -> None:
    model = tiny()
    examples = "Question: 1 + 1? Answer: 2. " * 6
    requests = asked(*(f"{examples}Question: {number} + 1?" for number in range(12)))
    with running(model) as engine:
        replies = [future.result(timeout=60) for future in [engine.submit(request) for request in requests]]
        assert engine.work.reused_tokens > 11 * len(examples)
    expected = [TOKENIZER.decode(plain_tokens(model, each), skip_special_tokens=True).strip() for each in requests]
    assert [reply.text for reply in replies] == expected


def test_little_memory_makes_rows_wait_and_changes_nothing() -> None:
    model = tiny()
    plenty = answers(model, asked(*TEXTS * 3))
    per_token = 2 * 2 * 2 * 16 * 4  # layers, keys and values, key heads, size, bytes
    with running(model, max_length=200, memory_gib=250 * per_token / 2**30) as engine:
        replies = [future.result(timeout=60) for future in [engine.submit(request) for request in asked(*TEXTS * 3)]]
        assert engine._pool.places == 250
        assert engine.work.rows / engine.work.passes < 5
    assert replies == plenty


def test_all_places_are_free_again() -> None:
    with running(tiny(), num_slots=3) as engine:
        for future in [engine.submit(request) for request in asked(*TEXTS)]:
            future.result(timeout=60)
        kept = sum(each.length for each in engine._kept)
        assert sum(length for _, length in engine._ranges._free) + kept == engine._pool.places


def test_choices_are_weighed_as_by_the_model_alone() -> None:
    model = tiny()
    choices = ("A", "B", "yes, of course", "yes, I think so", "no")
    first, second = asked(TEXTS[1], TEXTS[4], choices=choices)
    with running(model, chunk=16) as engine:
        replies = [future.result(timeout=60) for future in [engine.submit(each) for each in (first, second)]]
    for request, reply in zip((first, second), replies, strict=True):
        text = render(TOKENIZER, list(request.messages), add_generation_prompt=True)
        start = len(TOKENIZER(text, add_special_tokens=False)["input_ids"])
        expected = []
        for choice in choices:
            ids = torch.tensor([TOKENIZER(text + choice, add_special_tokens=False)["input_ids"]])
            with torch.inference_mode():
                logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
            expected.append(float(logprobs[start - 1 : -1].gather(1, ids[0, start:, None]).sum()))
        assert reply.logprobs == pytest.approx(expected, abs=1e-3)
        assert reply.text == choices[expected.index(max(expected))]
        assert (reply.finish, reply.new_tokens) == ("choice", 0)


def test_a_choice_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="adds no token"):
        answers(tiny(), asked("Hello", choices=("yes", "")))


def test_stop_strings_end_a_reply_and_are_not_in_it() -> None:
    model = tiny()
    whole = answers(model, asked("Hello", max_new_tokens=40))[0]
    stop = whole.text[9:12]
    cut = answers(model, asked("Hello", max_new_tokens=40, stop=("never there", stop)))[0]
    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(stop)].strip(), "stop")
    assert cut.new_tokens < whole.new_tokens


def test_a_model_that_says_only_the_stop_string_says_nothing() -> None:
    model = tiny()
    first = answers(model, asked("Hello", max_new_tokens=40))[0].text[0]
    cut = answers(model, asked("Hello", max_new_tokens=40, stop=(first,)))[0]
    assert (cut.text, cut.finish) == ("", "stop")


def test_a_model_that_never_stops_is_cut_off() -> None:
    model = tiny()
    model.lm_head.weight.data[TOKENIZER.eos_token_id] = 0
    at_limit, at_context = answers(model, [*asked("Hello"), *asked("Hello", max_new_tokens=10**6)], max_length=64)
    assert (at_limit.finish, at_limit.new_tokens) == ("length", 12)
    assert (at_context.finish, at_context.prompt_tokens + at_context.new_tokens) == ("length", 64)


def test_a_prompt_that_does_not_fit_is_a_reply_that_says_so() -> None:
    replies = answers(tiny(), [*asked("Hello" * 200), *asked("Hello" * 200, choices=("A", "B")), *asked("Hello")])
    assert [reply.finish for reply in replies[:2]] == ["context", "context"]
    assert replies[0].prompt_tokens > 512
    assert replies[2].new_tokens


def test_a_reply_that_takes_too_long_is_cut_off() -> None:
    model = tiny()
    model.lm_head.weight.data[TOKENIZER.eos_token_id] = 0
    reply = answers(model, asked("Hello", max_new_tokens=400), seconds_per_reply=0.05)[0]
    assert reply.finish == "time"
    assert reply.new_tokens < 400


def test_the_model_is_left_as_it_was_found() -> None:
    model = tiny().train()
    before = model.config._attn_implementation
    answers(model, asked("Hello"))
    assert model.training
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mamba", {"state_size": 4}),
        ("gemma2", {"head_dim": 16, "num_key_value_heads": 2}),
        ("falcon", {"alibi": True}),
    ],
)
def test_a_model_with_another_kind_of_attention_is_refused(kind: str, settings: dict[str, Any]) -> None:
    model = tiny(kind, **settings)
    with pytest.raises(ValueError, match="use --engine vllm"):
        TransformersEngine(model, TOKENIZER, "other")


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "factor": 5.12,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 100,
}


def test_a_long_conversation_does_not_change_how_a_longrope_model_reads_short_ones() -> None:
    """The long one (198 tokens) would turn all positions of its batch by the long factors."""
    model = tiny(rope_parameters=LONGROPE)
    long, *short = [*asked(TEXTS[3] * 3), *asked(*(f"What is {n} times {n + 3}?" for n in range(6)))]
    with running(model, num_slots=4) as engine:
        assert engine.identity["max_length"] == 100
        refused, *replies = [future.result(timeout=60) for future in [engine.submit(each) for each in [long, *short]]]
    assert refused.finish == "context"
    expected = [TOKENIZER.decode(plain_tokens(model, each), skip_special_tokens=True).strip() for each in short]
    assert [reply.text for reply in replies] == expected


def test_a_longrope_model_is_not_read_beyond_its_first_length() -> None:
    sentence = r"max_length is 101, but with more than 100 tokens .*\(longrope\).*at most 100, or use --engine vllm"
    with pytest.raises(ValueError, match=sentence):
        TransformersEngine(tiny(rope_parameters=LONGROPE), TOKENIZER, "tiny", TransformersSettings(max_length=101))
    assert answers(tiny(rope_parameters=LONGROPE), asked("x"), max_length=90)[0].prompt_tokens < 90


def test_positions_of_dynamic_rope_do_not_depend_on_the_batch() -> None:
    model = tiny(rope_parameters={"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0})
    requests = asked(*TEXTS)
    expected = [TOKENIZER.decode(plain_tokens(model, each), skip_special_tokens=True).strip() for each in requests]
    assert [reply.text for reply in answers(model, requests)] == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_told(number: float) -> None:
    model = tiny()
    model.model.norm.weight.data.fill_(number)
    with pytest.raises(ValueError, match=r"give NaN or infinite logits .*did its training diverge"):
        TransformersEngine(model, TOKENIZER, "tiny")


def test_what_breaks_the_engine_reaches_everyone() -> None:
    model = tiny()
    with running(model) as engine:
        engine.submit(asked("Hello")[0]).result(timeout=60)
        model.lm_head.forward = lambda _: 1 / 0
        for request in asked("one", "two"):
            with pytest.raises(ZeroDivisionError):
                engine.submit(request).result(timeout=60)


def test_what_nobody_waits_for_leaves_the_batch() -> None:
    model = tiny()
    model.lm_head.weight.data[TOKENIZER.eos_token_id] = 0
    with running(model, num_slots=1) as engine:
        long, short = asked("Hello", max_new_tokens=400)[0], asked("x")[0]
        future = engine.submit(long)
        while not engine.work.new_tokens:
            time.sleep(0.01)
        assert future.cancel()
        assert engine.submit(short).result(timeout=60).new_tokens == 12
        assert engine.work.new_tokens < 300


def test_closing_cancels_what_waits() -> None:
    engine = TransformersEngine(tiny(), TOKENIZER, "tiny", TransformersSettings(num_slots=1))
    futures = [engine.submit(request) for request in asked(*TEXTS * 5)]
    engine.close()
    with pytest.raises(CancelledError):
        futures[-1].result(timeout=60)
    with pytest.raises(ValueError, match="closed"):
        engine.submit(asked("x")[0])


def test_a_template_that_refuses_the_roles_says_so() -> None:
    refusing = small_tokenizer("llama2_as_published")
    with contextlib.closing(TransformersEngine(tiny(), refusing, "tiny")) as engine:
        twice = Request(({"role": "user", "content": "a"}, {"role": "user", "content": "b"}), 4)
        with pytest.raises(ValueError, match=r"refuses a conversation of \['user', 'user'\].*--template"):
            engine.submit(twice).result(timeout=60)
        assert engine.submit(asked("x")[0]).result(timeout=60).finish in ("stop", "length")


def test_a_plan_knows_the_engine_before_it_is_there() -> None:
    plan = TransformersPlan(resolve("tiny-llama"), "abc", TransformersSettings(max_length=128))
    with contextlib.closing(plan.open()) as engine:
        assert plan.identity == engine.identity
        assert plan.identity["max_length"] == 128
        assert engine.submit(asked("x")[0]).result(timeout=60).prompt_tokens > 0
    with pytest.raises(ValueError, match="max_length is 9999, but the model abc takes from 2 to 2048"):
        dict(TransformersPlan(resolve("tiny-llama"), "abc", TransformersSettings(max_length=9999)).identity)


def question(*texts: str) -> Request:
    """A conversation of these messages, the user's first."""
    roles = itertools.cycle(("user", "assistant"))
    return Request(tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=False)))


EXAMPLES = ("Question: 1 + 1?", "2", "Question: 2 + 2?", "4")


def test_copies_share_items_that_begin_alike() -> None:
    """Examples before each question, as in GSM8K."""
    places = Places(4, slots=64)
    for number in range(400):
        places.take(question(*EXAMPLES, f"Question: {number}?"))
    assert places.in_flight == [100] * 4


def test_a_conversation_stays_with_its_copy() -> None:
    places = Places(4, slots=64)
    talks: list[tuple[str, ...]] = [(*EXAMPLES, f"Question: {number}?") for number in range(10)]
    first = [places.take(question(*talk)) for talk in talks]
    for place in first:
        places.give_back(place)
    for turn in range(3):
        talks = [(*talk, "So.", f"Go on {turn}") for talk in talks]
        assert [places.take(question(*talk)) for talk in talks[::-1]] == first[::-1]
    assert len(places._of) == 10


def test_a_conversation_leaves_a_copy_that_is_much_busier() -> None:
    places = Places(2, slots=4)
    assert [places.take(question(f"{number}")) for number in range(6)] == [0, 1, 0, 1, 0, 1]
    for _ in range(2):
        places.give_back(1)
    assert places.take(question("0", "a", "b")) == 0
    assert places.take(question("2", "a", "b")) == 1
    assert places.take(question("2", "a", "b", "c", "d")) == 1
    assert places.in_flight == [4, 3]


@pytest.mark.parametrize(("num_gpus", "gpus", "expected"), [(8, 2, (1.0, 2.0)), (8, 1, (1.0, 1.0)), (0, 2, (4.0, 0.0))])
def test_each_copy_has_the_gpus_that_its_plan_takes(
    num_gpus: int, gpus: int, expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"CPU": 16.0, **({"GPU": float(num_gpus)} if num_gpus else {})}
    monkeypatch.setattr("ray.cluster_resources", lambda: there)
    plan = replicas.spread(VllmPlan("folder", "abc", gpus=gpus), 4)
    assert (plan.cpus, plan.gpus) == expected


def test_ranges_grow_together_again() -> None:
    ranges = Ranges(100)
    starts = [ranges.take(length) for length in (30, 30, 40)]
    assert starts == [0, 30, 60]
    assert ranges.take(1) is None
    ranges.give_back(0, 30)
    ranges.give_back(60, 40)
    assert ranges.take(41) is None
    ranges.give_back(30, 30)
    assert ranges.take(100) == 0
