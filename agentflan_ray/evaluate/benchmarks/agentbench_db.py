"""AgentBench's database tasks (Liu et al. 2023, arXiv 2308.03688): one table, SQL in turns, an answer or a change.

Data: ``agentbench/standard.jsonl`` (300 items, ``data/dbbench`` of github.com/THUDM/AgentBench, Apache-2.0), plain or
compressed. A third of the items ask (their answer is compared), a third insert and a third update (the table's hash is
compared).

Option ``mysql_url`` runs them on a MySQL or MariaDB server; without it SQLite stands in, which some MySQL does not run
on (``SHOW``, functions of its own, names that begin with a digit), so its scores are not for comparison.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentflan_ray.evaluate.benchmark import Item, Metric, Missing, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.data import find, read_text
from agentflan_ray.evaluate.databases import Database, MysqlDatabase, SqliteDatabase, TableData
from agentflan_ray.evaluate.order import in_fair_order
from agentflan_ray.evaluate.prompts import read

_INSTRUCTION = "agentbench_db/instruction.txt"
_ACTION = re.compile(r"^[ \t]*Action:[ \t]*(Operation|Answer)[ \t]*$", re.MULTILINE)
_SQL = re.compile(r"```sql\n(.*?)\n?```", re.DOTALL)
_FINAL = re.compile(r"^[ \t]*Final Answer:(.*)$", re.MULTILINE)
_MAX_ANSWER = 10_000


@dataclass(frozen=True, slots=True)
class DbProtocol:
    """Literals."""

    rounds: int = 15
    output_characters: int = 800
    new_tokens: int = 512
    split: str = "standard"


@dataclass(frozen=True, slots=True)
class Step:
    """What a reply asks for: a statement to run, a final answer, or neither where its form is wrong."""

    sql: str | None = None
    answer: str | None = None


def parse(reply: str) -> Step:
    """The first action of a reply with what belongs to it."""
    action = _ACTION.search(reply)
    if action is None:
        return Step()
    rest = reply[action.end() :]
    if action[1] == "Operation":
        found = _SQL.search(rest)
        return Step(sql=" ".join(found[1].split("\n")).strip()) if found else Step()
    found = _FINAL.search(rest)
    return Step(answer=found[1].strip()) if found else Step()


def answers(text: str) -> list[str]:
    """The values of a final answer: a Python list is read as one, without running it; anything else is one value."""
    if len(text) <= _MAX_ANSWER:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [text]
        if isinstance(value, list | tuple | set):
            return [str(each) for each in value]
        return [str(value)]
    return [text[:_MAX_ANSWER]]


def same_answers(given: Sequence[str], gold: Sequence[str]) -> bool:
    """Equal as sets: of numbers where both are numbers throughout, else of text. None of nothing is ``none``."""
    gold = list(gold) or ["none"]
    given = list(given) or ["none"]
    try:
        return {float(value) for value in given} == {float(value) for value in gold}
    except ValueError:
        return {value.strip() for value in given} == {value.strip() for value in gold}


class DbEpisode:
    """An item being run."""

    def __init__(self, protocol: DbProtocol, item: Item, database: Database) -> None:
        self._protocol = protocol
        self._table = table_of(item.data)
        self._database = database
        self._messages: list[dict[str, str]] = [
            {"role": "user", "content": read(_INSTRUCTION).strip()},
            {"role": "assistant", "content": "Ok."},
            {"role": "user", "content": f"{item.data['question']}\n{item.data['hint']}".strip()},
        ]
        self._rounds = 0
        self._answer: str | None = None
        self._end = ""

    def ask(self) -> Request | None:
        return None if self._end else Request(tuple(self._messages), max_new_tokens=self._protocol.new_tokens)

    def take(self, reply: Reply) -> None:
        if reply.finish == "context":
            self._end = "context"
            return
        step = parse(reply.text)
        self._answer = step.answer
        if step.sql is None:
            self._end = "malformed" if step.answer is None else "answered"
            return
        if self._rounds == self._protocol.rounds:
            self._end = "rounds"
            return
        self._rounds += 1
        shown = self._database.run(step.sql)
        if len(shown) > self._protocol.output_characters:
            shown = shown[: self._protocol.output_characters] + "[TRUNCATED]"
        self._messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": shown or "[]"}]

    def outcome(self) -> dict[str, Any]:
        table_hash = self._database.table_hash(self._table)
        return {"end": self._end, "answer": self._answer, "table_hash": table_hash, "rounds": self._rounds}

    def close(self) -> None:
        self._database.close()


@dataclass(frozen=True)
class AgentBenchDb:
    """The benchmark ``agentbench-db``."""

    settings: DbProtocol
    questions: tuple[Item, ...]
    new_database: Callable[[TableData], Database]
    server: str
    data_fingerprint: str
    name: str = "agentbench-db"
    metrics: Sequence[Metric] = (
        Metric("overall_cat_accuracy", score="correct", by_case=True, scale=100),
        Metric("select", score="correct", cases=("SELECT",), scale=100),
        Metric("insert", score="correct", cases=("INSERT",), scale=100),
        Metric("update", score="correct", cases=("UPDATE",), scale=100),
        Metric("answered", scale=100),
        Metric("malformed", better="low", scale=100),
        Metric("rounds", better="low"),
    )

    @property
    def protocol(self) -> str:
        base = "MySQL or MariaDB" if self.server == "mysql" else "SQLite in place of MySQL (not for comparison)"
        return (
            f"AgentBench DB, {len(self.questions)} items on {base}, at most {self.settings.rounds} statements, "
            f"one in a turn, {self.settings.output_characters} characters shown of each result, own wording of the "
            "published prompt; mean of the accuracies of SELECT, INSERT and UPDATE. Other than published, an action "
            "must stand on a line of its own, and answers are read as literals, not run."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            **asdict(self.settings),
            "server": self.server,
            "data": self.data_fingerprint,
            "prompt": hashlib.sha256(read(_INSTRUCTION).encode()).hexdigest()[:16],
        }

    def items(self) -> Sequence[Item]:
        return self.questions

    def open(self, item: Item) -> DbEpisode:
        return DbEpisode(self.settings, item, self.new_database(table_of(item.data)))

    def score(self, item: Item, outcome: Mapping[str, Any]) -> dict[str, float]:
        if item.case == "SELECT":
            given = outcome["answer"]
            correct = given is not None and same_answers(answers(given), item.data["gold"])
        else:
            # As published: the table is what counts, whether or not the model said that it was done.
            correct = outcome["table_hash"] == item.data["gold_hash"]
        return {
            "correct": float(correct),
            "answered": float(outcome["end"] == "answered"),
            "malformed": float(outcome["end"] == "malformed"),
            "rounds": float(outcome["rounds"]),
        }


def table_of(data: Mapping[str, Any]) -> TableData:
    """The table of an item."""
    table = data["table"]
    return TableData(table["name"], tuple(table["columns"]), tuple(tuple(row) for row in table["rows"]))


def agentbench_db(settings: Settings) -> AgentBenchDb:
    """The benchmark from ``settings.data``; options: ``mysql_url``."""
    missing = []
    protocol = DbProtocol()
    names = [f"agentbench/{protocol.split}.jsonl{ending}" for ending in ("", ".gz")]
    path = find(settings.data, *names, *(f"dbbench/{protocol.split}.jsonl{ending}" for ending in ("", ".gz")))
    if path is None:
        missing.append(
            Missing(
                f"The tasks are not there: `{names[0]}` below the data folder.",
                "Take `data/dbbench` of github.com/THUDM/AgentBench (Apache-2.0) and say --data FOLDER.",
            )
        )
    url = settings.options.get("mysql_url")
    if url and importlib.util.find_spec("pymysql") is None:
        missing.append(Missing("`mysql_url` needs the package PyMySQL.", "`pip install PyMySQL`."))
    if missing:
        raise Unavailable("agentbench-db", missing)
    assert path is not None
    text = read_text(path)
    items = tuple(
        in_fair_order([_item(number, json.loads(line)) for number, line in enumerate(text.splitlines()) if line])
    )
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    if url:
        address = url

        def on_server(table: TableData) -> Database:
            return MysqlDatabase(address, table)

        return AgentBenchDb(protocol, items, on_server, "mysql", fingerprint)
    return AgentBenchDb(protocol, items, SqliteDatabase, "sqlite", fingerprint)


def _item(number: int, raw: Mapping[str, Any]) -> Item:
    (kind,) = raw["type"]
    case = kind if kind in ("INSERT", "UPDATE") else "SELECT"
    table = raw["table"]
    data: dict[str, Any] = {
        "question": raw["description"],
        "hint": raw["add_description"],
        "kind": kind,
        "table": {
            "name": table["table_name"],
            "columns": [column["name"] for column in table["table_info"]["columns"]],
            "rows": table["table_info"]["rows"],
        },
    }
    if case == "SELECT":
        data["gold"] = [str(value) for value in raw["label"]]
    else:
        ((data["gold_hash"],),) = ast.literal_eval(raw["answer_md5"])
        data["gold_sql"] = raw["label"][0]
    return Item(f"{case.lower()}-{number}", f"{raw['source']}/{table['table_name']}", case, data)
