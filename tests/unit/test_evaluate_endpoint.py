"""Endpoints: what is asked of them, what is made of their answers, and of their refusals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import Request, Unanswered
from agentflan_ray.evaluate.engines import openai as endpoint
from agentflan_ray.evaluate.engines import vllm
from agentflan_ray.evaluate.engines.openai import OpenAIEngine, OpenAIPlan, read_chat
from agentflan_ray.evaluate.engines.vllm import VllmPlan
from agentflan_ray.tokens.tokenizer import load_tokenizer
from agentflan_ray.train.models import resolve

Answer = tuple[int, Any]


class Server:
    """A loopback server that answers by a function of path and body."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], Answer]) -> None:
        outer = self
        self.asked: list[tuple[str, dict[str, Any]]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, body))
                status, content = answer(self.path, body)
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def chat(text: str | None, reason: str = "stop", **more: Any) -> Answer:
    message = {"role": "assistant", "content": text, **more}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return 200, {"choices": [{"message": message, "finish_reason": reason}], "usage": usage}


@contextlib.contextmanager
def serving(answer: Callable[[str, dict[str, Any]], Answer]) -> Iterator[tuple[Server, OpenAIEngine]]:
    with contextlib.closing(Server(answer)) as server:
        engine = OpenAIPlan(server.url, "some-model", concurrency=4).open()
        with contextlib.closing(engine):
            yield server, engine


def question(text: str = "Hello", **options: Any) -> Request:
    return Request(({"role": "user", "content": text},), **{"max_new_tokens": 9, **options})


def test_what_is_asked_and_what_is_read() -> None:
    with serving(lambda _, body: chat(f" {body['messages'][0]['content']}! \n", "length")) as (server, engine):
        futures = [engine.submit(question(str(number), stop=tuple("vwxyz"))) for number in range(10)]
        replies = [future.result(timeout=60) for future in futures]
    assert [reply.text for reply in replies] == [f"{number}!" for number in range(10)]
    assert {(reply.finish, reply.prompt_tokens, reply.new_tokens) for reply in replies} == {("length", 7, 3)}
    path, body = server.asked[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some-model", 0, 9)
    assert body["stop"] == list("vwxy")


def test_all_stop_strings_count() -> None:
    with serving(lambda *_: chat("Thought: so.\nObservation: 3\nEnd", "length")) as (_, engine):
        reply = engine.submit(question(stop=("a", "b", "c", "d", "\nObservation:"))).result(timeout=60)
    assert (reply.text, reply.finish) == ("Thought: so.", "stop")


def test_calls_come_as_text() -> None:
    calls = [{"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
    tool = {"name": "weather", "parameters": {}}
    with serving(lambda *_: chat(None, "tool_calls", tool_calls=calls)) as (server, engine):
        reply = engine.submit(question(tools=(tool,))).result(timeout=60)
    assert reply.text == '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    assert reply.finish == "stop"
    assert server.asked[0][1]["tools"] == [{"type": "function", "function": tool}]


def test_a_busy_endpoint_is_asked_again() -> None:
    states = iter([429, 500, 503])

    def answer(*_: Any) -> Answer:
        status = next(states, 200)
        return chat("yes") if status == 200 else (status, {"error": {"message": "busy"}})

    with serving(answer) as (server, engine):
        assert engine.submit(question()).result(timeout=60).text == "yes"
    assert len(server.asked) == 4


def test_an_endpoint_that_stays_down_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_MAX_RETRIES", 2)
    with serving(lambda *_: (503, {"error": {"message": "overloaded"}})) as (server, engine):
        with pytest.raises(ValueError, match=r"answers 503 after 3 tries: .*overloaded.*run the same command again"):
            engine.submit(question()).result(timeout=60)
        assert len(server.asked) == 3


@pytest.mark.parametrize(("status", "sentence"), [(401, "key in OPENAI_API_KEY"), (404, "the model's name")])
def test_a_refusal_says_what_to_check(status: int, sentence: str) -> None:
    with serving(lambda *_: (status, {"error": {"message": "no"}})) as (server, engine):
        with pytest.raises(ValueError, match=sentence):
            engine.submit(question()).result(timeout=60)
        assert len(server.asked) == 1


def test_nobody_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_MAX_RETRIES", 0)
    with contextlib.closing(Server(lambda *_: chat("x"))) as server:
        url = server.url
    with contextlib.closing(OpenAIPlan(url, "m").open()) as engine, pytest.raises(ValueError, match="can't be reached"):
        engine.submit(question()).result(timeout=60)


def test_a_prompt_that_is_too_long_is_a_reply() -> None:
    text = "This model's maximum context length is 4096 tokens, but you asked for 5000."
    with serving(lambda *_: (400, {"error": {"message": text}})) as (_, engine):
        assert engine.submit(question()).result(timeout=60).finish == "context"


class Limited:
    """Answers where prompt and new tokens fit into ``limit``, and refuses as servers do where they don't."""

    def __init__(self, limit: int, prompt: int, sentence: str) -> None:
        self.limit = limit
        self.prompt = prompt
        self.sentence = sentence

    def __call__(self, _: str, body: dict[str, Any]) -> Answer:
        asked = body.get("max_tokens", 1)
        if self.prompt + asked <= self.limit:
            return chat("42", "length")
        text = self.sentence.format(limit=self.limit, prompt=self.prompt, asked=asked, total=self.prompt + asked)
        return 400, {"error": {"message": text}}


TOLD = {
    "OpenAI, vLLM": "This model's maximum context length is {limit} tokens. However, you requested {total} "
    "tokens ({prompt} in the messages, {asked} in the completion).",
    "vLLM, max_tokens": "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context "
    "length is {limit} tokens and your request has {prompt} input tokens ({asked} > {limit} - {prompt}).",
    "SGLang": "Requested token count exceeds the model's maximum context length of {limit} tokens. You requested a "
    "total of {total} tokens: {prompt} tokens from the input messages and {asked} tokens for the completion.",
}


@pytest.mark.parametrize("sentence", TOLD.values(), ids=TOLD.keys())
def test_a_prompt_that_fits_is_answered_with_the_tokens_that_are_left(sentence: str) -> None:
    with serving(Limited(2048, 1988, sentence)) as (server, engine):
        reply = engine.submit(question(max_new_tokens=72)).result(timeout=60)
    assert (reply.text, reply.finish) == ("42", "length")
    assert [body.get("max_tokens") for _, body in server.asked] == [72, 60]


@pytest.mark.parametrize(
    ("sentence", "tries"),
    [
        ("Please reduce the length of the messages or completion.", [72, None]),
        # vLLM counts no further than one token beyond what would fit: the prompt has more than it says.
        (
            "You passed 1977 input tokens and requested 72 output tokens. However, the model's context length is only "
            "{limit} tokens, resulting in a maximum input length of 1976 tokens.",
            [72, 71, None],
        ),
    ],
)
def test_where_the_room_is_not_told_the_endpoint_chooses(sentence: str, tries: list[int | None]) -> None:
    with serving(Limited(2048, 1988, sentence)) as (server, engine):
        assert engine.submit(question(max_new_tokens=72)).result(timeout=60).text == "42"
    assert [body.get("max_tokens") for _, body in server.asked] == tries


def test_a_prompt_that_does_not_fit_at_all_is_asked_once() -> None:
    with serving(Limited(2048, 2048, TOLD["SGLang"])) as (server, engine):
        reply = engine.submit(question(max_new_tokens=72)).result(timeout=60)
    assert (reply.text, reply.finish, len(server.asked)) == ("", "context", 1)


REFUSALS = [
    (400, "roles must alternate"),
    (400, "Invalid 'tools[0].function.name': string too long. Expected at most 64 characters."),
    (400, "The response was filtered due to the prompt triggering the content management policy."),
    (422, "arguments must be an object"),
]


@pytest.mark.parametrize(("status", "text"), REFUSALS)
def test_a_request_that_is_refused_is_no_fault_of_the_others(status: int, text: str) -> None:
    def answer(_: str, body: dict[str, Any]) -> Answer:
        return (status, {"error": {"message": text}}) if "bad" in str(body["messages"]) else chat("yes")

    with serving(answer) as (_, engine):
        with pytest.raises(Unanswered, match=f"answers {status}: .*{re.escape(text[:20])}"):
            engine.submit(question("bad")).result(timeout=60)
        assert engine.submit(question("good")).result(timeout=60).text == "yes"


def test_a_reply_that_does_not_come_in_time_is_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_MAX_RETRIES", 1)
    waits = threading.Event()

    def answer(*_: Any) -> Answer:
        waits.wait(60)
        return chat("late")

    with contextlib.closing(Server(answer)) as server:
        engine = OpenAIPlan(server.url, "m", concurrency=1, seconds_per_reply=0.2).open()
        with contextlib.closing(engine), pytest.raises(Unanswered, match=r"^no reply within 0.2 seconds in 2 tries$"):
            engine.submit(question()).result(timeout=60)
        waits.set()


INTERRUPTED = """
import sys, time
from agentflan_ray.evaluate.benchmark import Request
from agentflan_ray.evaluate.engines.openai import OpenAIPlan

engine = OpenAIPlan(sys.argv[1], "m", concurrency=2).open()
futures = [engine.submit(Request(({"role": "user", "content": "x"},), 9)) for _ in range(5)]
while sum(future.running() for future in futures) < 2:
    time.sleep(0.01)
time.sleep(0.3)
engine.close()
print([future.cancelled() for future in futures], flush=True)
"""


def test_closing_waits_for_no_reply_and_neither_does_the_process() -> None:
    waits = threading.Event()

    def answer(*_: Any) -> Answer:
        waits.wait(60)
        return chat("late")

    with contextlib.closing(Server(answer)) as server:
        try:
            command = [sys.executable, "-c", INTERRUPTED, server.url]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        finally:
            waits.set()
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[False, False, True, True, True]\n", "")
        assert len(server.asked) == 2


def test_a_closed_engine_takes_no_request() -> None:
    with serving(lambda *_: chat("x")) as (_, engine):
        engine.close()
        with pytest.raises(ValueError, match="closed"):
            engine.submit(question())


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b'{"choices": null}']
)
def test_an_answer_that_is_no_completion_is_no_reply(body: bytes) -> None:
    with pytest.raises(Unanswered, match="no chat completion"):
        read_chat(body.decode(), question())


def test_choices_need_another_engine() -> None:
    with serving(lambda *_: chat("x")) as (_, engine), pytest.raises(ValueError, match="--engine transformers or vllm"):
        engine.submit(question(choices=("A", "B")))


@pytest.mark.parametrize(
    ("options", "sentence"), [({"url": "localhost"}, "give one such as"), ({"concurrency": 0}, "0")]
)
def test_a_plan_that_can_not_work_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        OpenAIPlan(**{"url": "http://x", "model": "m", **options})


FAKE_VLLM = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def reply(self, content):
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        self.reply({"data": [{"id": "model", "max_model_len": 64}]})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["prompt"]
        print("asked", json.dumps(body), flush=True)
        choice = {"text": f" {len(prompt)} tokens. Stop here", "finish_reason": "length"}
        if body.get("echo"):
            choice["logprobs"] = {"token_logprobs": [None, *(-token / 8 for token in prompt[1:]), -9.0]}
        self.reply({"choices": [choice], "usage": {"prompt_tokens": len(prompt), "completion_tokens": 5}})
    def log_message(self, *_):
        pass

print("loading", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server in vLLM's stead that speaks its completions endpoint."""
    script = tmp_path / "server.py"
    script.write_text(FAKE_VLLM)
    monkeypatch.setattr(vllm, "server_command", lambda plan, port: [sys.executable, str(script), str(port)])


def test_a_vllm_server_is_asked_with_tokens_and_ended(fake_vllm: None) -> None:
    engine = VllmPlan(resolve("tiny-llama"), "abc").open()
    process = engine._server._process
    with contextlib.closing(engine):
        reply = engine.submit(question("Hi", stop=("Stop",))).result(timeout=60)
        long = engine.submit(question("Hello" * 20)).result(timeout=60)
        weighed = engine.submit(question("Hi", choices=("A", "BB"))).result(timeout=60)
        sent = [json.loads(line[6:]) for line in engine._server.log.read_text().splitlines() if line[:5] == "asked"]
        assert engine._server.log.exists()
    assert (reply.text, reply.finish, reply.new_tokens) == (f"{reply.prompt_tokens} tokens.", "stop", 5)
    assert (long.finish, long.text) == ("context", "")
    tokenizer = load_tokenizer(resolve("tiny-llama"))
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)["input_ids"]
    assert sent[0]["prompt"] == prompt
    assert sent[0]["max_tokens"] == min(9, 64 - len(prompt))
    assert sent[0]["stop"] == ["Stop"]
    letters = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("A", "BB")]
    assert weighed.logprobs == pytest.approx([-sum(tokens) / 8 for tokens in letters])
    assert weighed.text == "A"
    assert process.poll() is not None
    assert not engine._server.log.exists()


def test_a_vllm_server_that_ends_at_once_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "import sys; print('loading'); sys.exit('no GPU found')"]
    monkeypatch.setattr(vllm, "server_command", lambda plan, port: command)
    with pytest.raises(ValueError, match=r"(?s)vLLM ended with status 1 before it was ready.*no GPU found"):
        VllmPlan(resolve("tiny-llama"), "abc").open()


def test_a_server_ends_when_who_started_it_is_killed(tmp_path: Path) -> None:
    server = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    starts = f"""
import subprocess, sys, time
subprocess.Popen({[sys.executable, "-I", "-S", str(vllm.GUARDED), *server]!r}, start_new_session=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None
        pid = int(asker.stdout.readline())
        os.kill(pid, 0)
        asker.kill()
        until = time.monotonic() + 30
        while time.monotonic() < until and Path(f"/proc/{pid}").exists():
            time.sleep(0.1)
        assert not Path(f"/proc/{pid}").exists()


def test_the_vllm_command() -> None:
    command = vllm.server_command(VllmPlan("folder", "abc", max_length=4096, gpus=2, dtype="bfloat16"), 1234)
    pairs = dict(zip(command[3::2], command[4::2], strict=True))
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert pairs == {
        "--model": "folder",
        "--served-model-name": "model",
        "--host": "127.0.0.1",
        "--port": "1234",
        "--generation-config": "vllm",
        "--tensor-parallel-size": "2",
        "--max-model-len": "4096",
        "--dtype": "bfloat16",
    }
