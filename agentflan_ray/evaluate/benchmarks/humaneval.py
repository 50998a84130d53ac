"""HumanEval (Chen et al. 2021, arXiv 2107.03374): pass@1 of greedy replies, run in the sandbox only.

Data: ``humaneval/HumanEval.jsonl`` (or ``.gz``) as openai/human-eval publishes it (MIT): ``task_id``, ``prompt``,
``test``, ``entry_point``.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from textwrap import indent
from typing import Any

from agentflan_ray import storage
from agentflan_ray.evaluate import sandbox
from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read

MAX_CHARACTERS = 20_000

_FENCED = re.compile(r"```[a-zA-Z0-9]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
# Where a bare completion goes on with something else than the function, as in the published sampling.
_NEXT = re.compile(r"\n(?:def|class|if|print|assert|#|```)")

_RUNNER = """
import json, sys
task = json.load(sys.stdin)
for source in task["sources"]:
    try:
        code = compile(source, "solution", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        continue
    break
else:
    sys.exit("syntax")
space = {"__name__": "solution"}
exec(code, space)
exec(compile(task["test"], "test", "exec"), space)
space["check"](space[task["entry_point"]])
print("\\n" + task.pop("token"))
"""
"""Runs inside the sandbox. The token tells a run that came to its end from one that the solution ended early."""


@dataclass(frozen=True, slots=True)
class HumanEvalProtocol:
    """Literals. The limits are far above what the published solutions need: 0.1 s each."""

    max_new_tokens: int = 512
    seconds: float = 10.0
    memory_mb: int = 1024


@dataclass
class _Problem:
    """A problem being solved; the reply is run when the outcome is asked for."""

    item: Item
    settings: HumanEvalProtocol
    reply: Reply | None = None

    def ask(self) -> Request | None:
        if self.reply is not None:
            return None
        text = f"{read('humaneval/instruction.txt').strip()}\n\n```python\n{self.item.data['prompt'].strip()}\n```"
        return Request(({"role": "user", "content": text},), self.settings.max_new_tokens)

    def take(self, reply: Reply) -> None:
        self.reply = reply

    def outcome(self) -> dict[str, Any]:
        assert self.reply is not None
        return {"reply": self.reply.text, "result": run(self.item.data, self.reply.text, self.settings)}

    def close(self) -> None:
        """Nothing to free: the sandbox ends with the run."""


@dataclass(frozen=True)
class HumanEval:
    """The benchmark ``humaneval``."""

    settings: HumanEvalProtocol
    problems: tuple[Item, ...]
    name: str = "humaneval"
    metrics: Sequence[Metric] = (
        Metric("passed", scale=100),
        Metric("compiled", scale=100),
        Metric("out_of_time", better="low", scale=100),
    )

    @property
    def protocol(self) -> str:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return (
            f"HumanEval, {len(self.problems)} problems, no examples, one greedy reply of at most "
            f"{self.settings.max_new_tokens} tokens to a chat prompt of our own (published: a bare completion); the "
            f"reply's code block, or else the reply as the function's body, passes all tests within "
            f"{self.settings.seconds:g} s in a sandbox without network."
        )

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return {
            **asdict(self.settings),
            "problems": storage.fingerprint([dict(item.data) for item in self.problems]),
            "prompt": "humaneval/instruction.txt",
            "prompts": storage.fingerprint(read("humaneval/instruction.txt")),
        }

    def items(self) -> Sequence[Item]:
        """Problems, in the order of a hash."""
        return self.problems

    def open(self, item: Item) -> _Problem:
        """See :class:`~agentflan_ray.evaluate.benchmark.Benchmark`."""
        return _Problem(item, self.settings)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:  # noqa: ARG002
        """From the result of the run: ``passed``, ``failed``, ``syntax`` or ``time``."""
        result = outcome["result"]
        return {
            "passed": float(result == "passed"),
            "compiled": float(result != "syntax"),
            "out_of_time": float(result == "time"),
        }


def humaneval(settings: Settings) -> HumanEval:
    """The benchmark."""
    path = find(settings.data, *(f"humaneval/HumanEval.jsonl{ending}" for ending in ("", ".gz", ".xz")))
    missing = []
    if path is None:
        how = "Put HumanEval.jsonl of github.com/openai/human-eval (MIT) into humaneval/ of the data folder."
        missing.append(Missing("The problems are not there.", how))
    if (no_sandbox := sandbox.available()) is not None:
        missing.append(no_sandbox)
    if path is None or missing:
        raise Unavailable("humaneval", missing)
    rows = [json.loads(line) for line in read_text(path).splitlines() if line.strip()]
    keys = ("prompt", "test", "entry_point")
    items = [Item(row["task_id"], row["task_id"], "humaneval", {key: row[key] for key in keys}) for row in rows]
    return HumanEval(HumanEvalProtocol(), in_fair_order(items))


def run(problem: Mapping[str, str], reply: str, settings: HumanEvalProtocol) -> str:
    """``passed``, ``failed``, ``syntax`` or ``time``."""
    token = secrets.token_hex(16)
    task = {
        "sources": programs(problem["prompt"], reply, problem["entry_point"]),
        "test": problem["test"],
        "entry_point": problem["entry_point"],
        "token": token,
    }
    finished = sandbox.run(
        [sandbox.PYTHON, "-I", "-S", "run.py"],
        stdin=json.dumps(task),
        limits=sandbox.Limits(seconds=settings.seconds, memory_mb=settings.memory_mb),
        files={"run.py": _RUNNER},
    )
    if finished.timed_out:
        return "time"
    if finished.returncode == 0 and finished.stdout.rstrip().endswith(token):
        return "passed"
    return "syntax" if finished.stderr.strip() == "syntax" else "failed"


def programs(prompt: str, reply: str, entry_point: str) -> list[str]:
    """Programs that a reply may mean, the first that compiles counts.

    A whole function follows the prompt, whose imports and helpers it may use. Else the reply is the function's body, as
    it stands, with its first line's indentation restored (outer blanks of a reply are cut off), or indented as a whole.
    """
    text = reply[:MAX_CHARACTERS]
    blocks = _FENCED.findall(text)
    whole = re.compile(rf"^\s*(?:async\s+)?def\s+{re.escape(entry_point)}\b", re.MULTILINE)
    for block in [*blocks, text]:
        if whole.search(block):
            return [f"{prompt.rstrip()}\n\n{block}\n"]
    body = blocks[0] if blocks else _NEXT.split(text, maxsplit=1)[0]
    return [f"{prompt.rstrip()}\n{each}\n" for each in (body, f"    {body}", indent(body, "    "))]
