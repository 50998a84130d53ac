"""A build that is killed with all its Ray processes, again and again, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agentflan_ray.randomness import stable_random

NUM_FILES, NUM_RECORDS = 9, 350
"""Files of some 300 kB are a part each, so that there is a middle in which to kill a pass."""

MOMENTS = (
    "clean@*/part-*.json",
    "samples@*/part-*.json",
    "samples@*/tokens@*/part-*.json",
)
"""The first whole part of a pass: reading and cleaning, deriving, tokenising."""

PATIENCE_SECONDS = 240

CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Turin", "Perth", "Delhi", "Osaka", "Lyon", "Accra")
WORDS = [
    *("rain", "wind", "cloud", "harbour", "street", "market", "garden", "river", "bridge", "morning", "boat", "train"),
    *("coat", "umbrella", "north", "south", "cold", "warm", "early", "late", "quiet", "busy", "hill", "valley"),
]


def record(number: int) -> str:
    """A short tool conversation of its own words, as OpenAI messages; a few are broken, or lack their result."""
    rng = stable_random("killed", number)
    city = rng.choice(CITIES)
    story = " ".join(rng.choices(WORDS, k=60))
    call = {"name": "forecast", "arguments": json.dumps({"city": city, "days": rng.randint(1, 9)})}
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    }
    tool = {"name": "forecast", "description": "Forecast of the weather in a city.", "parameters": parameters}
    messages = [
        {"role": "user", "content": f"What is the weather forecast in {city}? I think of {story}."},
        {
            "role": "assistant",
            "content": f"I look up the forecast for {city}.",
            "tool_calls": [{"id": "1", "type": "function", "function": call}],
        },
        {"role": "tool", "content": " ".join(rng.choices(WORDS, k=30)), "tool_call_id": "1"},
        {"role": "assistant", "content": f"In {city}: {' '.join(rng.choices(WORDS, k=25))}."},
    ]
    text = json.dumps({"id": f"r{number}", "messages": messages, "tools": [{"type": "function", "function": tool}]})
    return text[:-7] if number % 200 == 7 else text


def start(raw: Path, store: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command ``agentflan build`` in a session of its own, with a Ray of its own."""
    arguments = [
        *("build", "--source", f"openai_messages={raw}", "--source", "toolbox=400", "--out", str(store)),
        *("--model", "tiny-llama", "--block-length", "512"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", "from agentflan_ray.cli import main; main()", *arguments]
    with log.open("wb") as said:
        return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment, start_new_session=True)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()


def kill_at(process: subprocess.Popen[bytes], store: Path, moment: str, log: Path) -> None:
    """Kill the build and every process below it once the store holds a file of this pattern."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not any(store.glob(moment)):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, f"No {moment} after {PATIENCE_SECONDS} s: {log.read_text()}"
        time.sleep(0.005)
    driver = psutil.Process(process.pid)
    family = [driver, *driver.children(recursive=True)]
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue  # it went with one of those before it
    assert process.wait(30) == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the halves that a killed writer leaves beside the place of the whole one."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.suffix != ".partial"
    }


@pytest.mark.slow
def test_a_build_killed_in_every_pass_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(NUM_FILES):
        lines = [record(number * NUM_RECORDS + row) for row in range(NUM_RECORDS)]
        (raw / f"log-{number}.jsonl").write_text("\n".join(lines) + "\n")
    log = tmp_path / "said.txt"
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(start(raw, undisturbed, log), log)
    for moment in MOMENTS:
        kill_at(start(raw, killed, log), killed, moment, log)
        # It was in the midst of the pass: some of its parts are whole and some are not.
        assert 0 < len(list(killed.glob(moment))) < len(list(undisturbed.glob(moment))), moment
    finish(start(raw, killed, log), log)
    (manifest,) = undisturbed.glob("corpus@*/manifest.json")
    records = json.loads(manifest.read_text())["records"]
    assert records["records"] == NUM_FILES * NUM_RECORDS + 400
    assert records["reasons"]["quarantined"] == {"not_json": 16}
    whole, again = contents(undisturbed), contents(killed)
    assert again.keys() == whole.keys()
    assert [name for name in whole if again[name] != whole[name]] == []
