"""vLLM as a server of its own process group on loopback: started with the engine, ended with it.

Conversations are rendered here by the same templates as everywhere else and sent as tokens, so that a model reads the
same prompt from this engine as from the one of transformers. The flags and the completions endpoint are those of vLLM
0.11 and later (``vllm/entrypoints/openai``); prefix caching and continuous batching are its defaults.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentflan_ray.evaluate.benchmark import Reply, Request
from agentflan_ray.evaluate.engines.openai import Requests, cut_reply
from agentflan_ray.evaluate.engines.prompts import Choices, Prompter
from agentflan_ray.tokens.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import openai

SERVED_NAME = "model"

GUARDED = Path(__file__).with_name("guarded.py")
"""Ends the server where this process is killed."""

_START_SECONDS = 1800.0
"""For loading: 70B parameters from a slow disk take a quarter of an hour."""

_END_SECONDS = 30.0

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class VllmPlan:
    """A model folder or hub id for ``vllm serve``.

    Attributes:
        path: The model.
        fingerprint: What identifies its content.
        max_length: Tokens of prompt and reply together; None takes the model's own limit.
        template: Name of a chat template, for a model without one.
        concurrency: Requests in flight.
        gpus: GPUs that share the model (tensor parallelism).
        seconds_per_reply: A request whose reply takes longer, in each of several tries, is not answered.
        dtype: ``float32`` or ``bfloat16``; None leaves it to vLLM, which takes the model's own.
    """

    path: str
    fingerprint: str
    max_length: int | None = None
    template: str | None = None
    concurrency: int = 256
    gpus: int = 1
    seconds_per_reply: float = 600.0
    dtype: str | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :meth:`agentflan_ray.evaluate.engine.Plan.identity`."""
        return {
            "engine": "vllm",
            "model": self.fingerprint,
            "template": self.template,
            "max_length": self.max_length,
            "dtype": self.dtype,
            "decoding": "temperature 0",
        }

    def open(self) -> VllmEngine:
        """Start the server and wait until it answers.

        Raises ``ValueError`` where it ends before that, with the last lines that it wrote.
        """
        return VllmEngine(self)


def server_command(plan: VllmPlan, port: int) -> list[str]:
    """The command that starts the server. By module: the distribution for CPUs has no working ``vllm`` command."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", plan.path]
    command += ["--served-model-name", SERVED_NAME, "--host", "127.0.0.1", "--port", str(port)]
    # Without this, sampling settings that come with the model would fill in what a request leaves open.
    command += ["--generation-config", "vllm", "--tensor-parallel-size", str(plan.gpus)]
    if plan.max_length is not None:
        command += ["--max-model-len", str(plan.max_length)]
    if plan.dtype is not None:
        command += ["--dtype", plan.dtype]
    return command


class VllmEngine:
    """The engine of a server that was started."""

    def __init__(self, plan: VllmPlan) -> None:
        self.identity = plan.identity
        self.num_slots = plan.concurrency
        self._tokenizer = load_tokenizer(plan.path, plan.template)
        self._prompter = Prompter(self._tokenizer)
        # A fast tokenizer refuses to be used by two threads at once.
        self._one_at_a_time = threading.Lock()
        self._ends = (self._tokenizer.eos_token_id,)
        self._server = Server(plan)
        try:
            self._max_length = self._server.max_length()
            self._requests = Requests(
                self._server.url, plan.path, plan.concurrency, plan.seconds_per_reply, self._answer
            )
        except BaseException:
            self._server.end()
            raise

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`."""
        return self._requests.submit(request)

    def close(self) -> None:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.close`; the server ends with all its processes."""
        self._requests.close()
        self._server.end()

    def _answer(self, client: openai.OpenAI, request: Request) -> Reply:
        with self._one_at_a_time:
            text = self._prompter.text(request)
            prompt = self._prompter.encode(text).tolist()
            choices = self._prompter.choices(text, request.choices) if request.choices else None
        if choices is not None:
            return self._weigh(client, request, len(prompt), choices)
        room = min(request.max_new_tokens, self._max_length - len(prompt))
        if room < 1:
            return Reply("", "context", len(prompt))
        body = self._complete(
            client, prompt, max_tokens=room, stop=list(request.stop) or None, extra_body={"stop_token_ids": self._ends}
        )
        reply = cut_reply(body["choices"][0]["text"], body["choices"][0]["finish_reason"], body["usage"], request)
        return Reply(reply.text, reply.finish, len(prompt), reply.new_tokens)

    def _weigh(self, client: openai.OpenAI, request: Request, num_prompt: int, choices: Choices) -> Reply:
        """Each choice's log-likelihood, from those of the prompt's tokens that the server echoes."""
        if max(map(len, choices.wholes)) >= self._max_length:
            return Reply("", "context", num_prompt)
        logprobs = []
        for whole in choices.wholes:
            body = self._complete(client, whole.tolist(), max_tokens=1, echo=True, logprobs=1)
            told = body["choices"][0]["logprobs"]["token_logprobs"]
            logprobs.append(float(sum(told[choices.shared : len(whole)])))
        best = max(range(len(logprobs)), key=logprobs.__getitem__)
        return Reply(request.choices[best], "choice", num_prompt, 0, tuple(logprobs))

    def _complete(self, client: openai.OpenAI, prompt: Sequence[int], **options: Any) -> dict[str, Any]:
        response = client.completions.with_raw_response.create(
            model=SERVED_NAME, prompt=list(prompt), temperature=0.0, **options
        )
        body: dict[str, Any] = json.loads(response.text)
        return body


class Server:
    """The server's process group and its log."""

    def __init__(self, plan: VllmPlan) -> None:
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._folder = tempfile.TemporaryDirectory(prefix="agentflan-vllm-")
        self.log = Path(self._folder.name, "server.log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARDED), *server_command(plan, self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    def max_length(self) -> int:
        """Tokens of prompt and reply together, as the server says."""
        with _open(f"{self.url}/models") as body:
            listed = json.loads(body)["data"]
        return next(int(each["max_model_len"]) for each in listed if each["id"] == SERVED_NAME)

    def end(self) -> None:
        """End the server and all that it started, kindly first."""
        for kind, seconds in ((signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, None)):
            # The group outlives its first process where a worker of it hangs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self._folder.cleanup()

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if (code := self._process.poll()) is not None:
                raise ValueError(f"vLLM ended with status {code} before it was ready; its last lines:\n{self._tail()}")
            with contextlib.suppress(OSError, urllib.error.URLError), _open(f"http://127.0.0.1:{self._port}/health"):
                return
            time.sleep(_POLL_SECONDS)
        raise ValueError(f"vLLM was not ready after {_START_SECONDS:g} seconds; its last lines:\n{self._tail()}")

    def _tail(self) -> str:
        with self.log.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, 15)).rstrip()


@contextlib.contextmanager
def _open(url: str) -> Iterator[bytes]:
    """The body of an answer with status 200; no proxy stands before loopback."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as response:
        yield response.read()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
