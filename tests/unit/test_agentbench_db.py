"""AgentBench's database tasks: gold statements, the bounds of a model's SQL, and replies of every kind."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from agentflan_ray.evaluate import databases
from agentflan_ray.evaluate.benchmark import EnvironmentDied, Item, Reply, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.agentbench_db import (
    AgentBenchDb,
    agentbench_db,
    answers,
    parse,
    same_answers,
    table_of,
)
from agentflan_ray.evaluate.databases import MysqlDatabase, SqliteDatabase, TableData, rows_hash

TABLE = TableData("mills and kilns", ("name", "built in"), (("Upper", "1801"), ("Lower", "1755")))
GARBAGE = [
    "",
    "x" * 100_000,
    "Action: Operation\n",
    "```sql\n" * 20_000,
    "Action: " * 20_000,
    "[" * 50_000,
    "\x00\ud800",
]


def _table(rows: list[list[str]]) -> dict[str, Any]:
    columns = [{"name": "name", "type": "TEXT"}, {"name": "built in", "type": "INT"}]
    return {"table_name": "mills", "table_info": {"columns": columns, "rows": rows}}


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [["Upper", "1801"], ["Lower", "1755"]]
    common = {"add_description": "The table is mills.", "source": "own", "table": _table(rows)}
    inserted = rows_hash([*rows, ["New", "1900"]])
    updated = rows_hash([["Upper", "1802"], rows[1]])
    items = [
        {**common, "description": "Oldest?", "label": ["Lower"], "type": ["ranking"]},
        {**common, "description": "How many?", "label": ["2"], "type": ["counting"]},
        {
            **common,
            "description": "Add New of 1900.",
            "label": ["INSERT INTO mills VALUES ('New', '1900')"],
            "type": ["INSERT"],
            "answer_md5": f"[('{inserted}',)]",
        },
        {
            **common,
            "description": "Upper was built in 1802.",
            "label": ["UPDATE mills SET `built in` = '1802' WHERE name = 'Upper'"],
            "type": ["UPDATE"],
            "answer_md5": f"[('{updated}',)]",
        },
    ]
    (tmp_path / "eval" / "agentbench").mkdir(parents=True)
    with gzip.open(tmp_path / "eval" / "agentbench" / "standard.jsonl.gz", "wt") as file:
        file.write("\n".join(json.dumps(item) for item in items))
    return str(tmp_path)


def operation(sql: str) -> str:
    return f"I look.\nAction: Operation\n```sql\n{sql}\n```"


def final(value: object) -> str:
    return f"Done.\nAction: Answer\nFinal Answer: {value}"


def play(benchmark: AgentBenchDb, item: Item, replies: list[str]) -> dict[str, float]:
    episode = benchmark.open(item)
    for text in replies:
        if episode.ask() is None:
            break
        episode.take(Reply(text))
    assert episode.ask() is None
    outcome = json.loads(json.dumps(episode.outcome()))
    episode.close()
    return benchmark.score(item, outcome)


def oracle(item: Item) -> list[str]:
    if item.case == "SELECT":
        return [final(json.dumps(item.data["gold"]))]
    return [operation(item.data["gold_sql"]), final("[]")]


def test_gold_answers_score_full_and_idle_ones_nothing(data: str) -> None:
    benchmark = agentbench_db(Settings(data=data))
    assert len(benchmark.items()) == 4
    for item in benchmark.items():
        assert play(benchmark, item, oracle(item))["correct"] == 1
        assert play(benchmark, item, [final('["nothing"]')])["correct"] == 0


def test_a_result_is_shown_and_cut(data: str) -> None:
    benchmark = agentbench_db(Settings(data=data))
    episode = benchmark.open(benchmark.items()[0])
    episode.ask()
    episode.take(Reply(operation("SELECT name FROM mills")))
    request = episode.ask()
    assert request is not None
    assert request.messages[-1]["content"] == "[('Upper',), ('Lower',)]"
    episode.take(Reply(operation("SELECT hex(zeroblob(1000))")))
    request = episode.ask()
    assert request is not None
    assert len(request.messages[-1]["content"]) == 800 + len("[TRUNCATED]")
    episode.close()


def test_fifteen_statements_and_then_an_answer(data: str) -> None:
    benchmark = agentbench_db(Settings(data=data))
    item = next(item for item in benchmark.items() if item.case == "SELECT")
    assert play(benchmark, item, [operation("SELECT 1")] * 15 + oracle(item))["correct"] == 1
    scores = play(benchmark, item, [operation("SELECT 1")] * 16 + oracle(item))
    assert (scores["correct"], scores["rounds"], scores["answered"]) == (0, 15, 0)


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_scored_in_time(data: str, text: str) -> None:
    benchmark = agentbench_db(Settings(data=data))
    start = time.monotonic()
    for item in benchmark.items():
        for reply in (text, operation(text), final(text)):
            assert play(benchmark, item, [reply] * 20)["correct"] == 0
    assert time.monotonic() - start < 5


def test_forms() -> None:
    assert parse("Action: Operation\n```sql\nSELECT 1\n```").sql == "SELECT 1"
    assert parse("Action: Operation\n```sql\nSELECT\n1;\n```").sql == "SELECT 1;"
    assert parse("Action: Operation\nSELECT 1").sql is None
    assert parse("Action: Answer\nFinal Answer: ['a']").answer == "['a']"
    assert parse("Final Answer: ['a']").answer is None
    assert answers("['a', 2]") == ["a", "2"]
    assert answers("__import__('os').system('true')") == ["__import__('os').system('true')"]
    assert same_answers(["2.0"], ["2"])
    assert same_answers(["b", "a"], ["a", "b"])
    assert same_answers([], ["none"])
    assert not same_answers(["a"], ["a", "b"])


def test_the_hash_is_upstreams() -> None:
    # md5('a,b')[:5] = 'ab6c0', md5('')[:5] = 'd41d8': sorted and joined by commas
    assert rows_hash([["a", "b"], [None, None]]) == rows_hash([["", None], ["a", "b"]])
    assert rows_hash([["a"], ["b"]]) != rows_hash([["a"], ["c"]])


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH DATABASE '/etc/passwd' AS p",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA max_page_count = 1000000",
        "SELECT load_extension('x')",
        "VACUUM INTO '/dev/shm/stolen'",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
    ],
)
def test_sqlite_reaches_nothing_else(sql: str) -> None:
    database = SqliteDatabase(TABLE)
    said = database.run(sql)
    assert any(word in said for word in ("not authorized", "authorization denied", "too many attached"))
    assert "Upper" in database.run("SELECT * FROM `mills and kilns`")
    database.close()


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
        "INSERT INTO `mills and kilns` SELECT x, x FROM c",
    ],
)
def test_endless_sql_is_stopped(sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "STATEMENT_SECONDS", 0.3)
    database = SqliteDatabase(TABLE)
    start = time.monotonic()
    assert database.run(sql) in ("interrupted", "database or disk is full")
    assert time.monotonic() - start < 3
    assert database.table_hash(TABLE) == rows_hash(TABLE.rows)
    database.close()


def test_large_values_and_answers_are_bounded() -> None:
    database = SqliteDatabase(TABLE)
    assert "too big" in database.run("SELECT hex(zeroblob(1000000000))")
    rows = database.run("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c")
    assert rows.count("(") == databases.MAX_ROWS
    assert "one statement" in database.run("SELECT 1; DROP TABLE `mills and kilns`")
    assert database.run("BEGIN") == ""
    assert database.run("DROP TABLE `mills and kilns`") == ""
    assert database.table_hash(TABLE) == rows_hash(TABLE.rows)  # what is not committed did not happen
    database.run("DROP TABLE `mills and kilns`")
    assert database.table_hash(TABLE) is None
    database.close()


def test_what_is_missing_is_said() -> None:
    with pytest.raises(Unavailable, match="data/dbbench"):
        agentbench_db(Settings(data="/nowhere"))
    with pytest.raises((EnvironmentDied, ValueError), match="mysql"):
        MysqlDatabase("postgres://x/", TABLE)


@pytest.mark.skipif("AGENTFLAN_MYSQL_URL" not in os.environ, reason="AGENTFLAN_MYSQL_URL names no server.")
def test_on_a_server(data: str) -> None:
    url = os.environ["AGENTFLAN_MYSQL_URL"]
    benchmark = agentbench_db(Settings(data=data, options={"mysql_url": url}))
    for item in benchmark.items():
        assert play(benchmark, item, oracle(item))["correct"] == 1
    database, other = MysqlDatabase(url, TABLE), MysqlDatabase(url, TABLE)
    assert "denied" in database.run(f"DROP DATABASE {other._name}")
    assert "denied" in database.run("SELECT * FROM mysql.user")
    assert "denied" in database.run("SELECT 1 INTO OUTFILE '/tmp/x'")
    start = time.monotonic()
    assert database.run(
        "WITH RECURSIVE c AS (SELECT 1 AS x UNION ALL SELECT x FROM c) SELECT count(*) FROM c, c d, c e"
    )
    assert database.run("SELECT SLEEP(60)")
    assert time.monotonic() - start < 30
    assert database.table_hash(TABLE) == rows_hash(TABLE.rows)
    database.run("DROP TABLE `mills and kilns`")
    assert database.table_hash(TABLE) is None
    database.close()
    other.close()


def _published() -> bool:
    folder = os.environ.get("AGENTFLAN_DATA")
    return folder is not None and any(Path(folder).glob("**/agentbench/standard.jsonl*"))


@pytest.mark.skipif(not _published(), reason="AGENTFLAN_DATA has no agentbench/standard.jsonl.")
def test_published_gold() -> None:
    benchmark = agentbench_db(Settings())
    right = {"SELECT": 0.0, "INSERT": 0.0, "UPDATE": 0.0}
    for item in benchmark.items():
        right[item.case] += play(benchmark, item, oracle(item))["correct"]
    # Two statements name a table that begins with a digit or have a wrong label, three labels are wrong.
    assert right == {"SELECT": 100, "INSERT": 98, "UPDATE": 97}


@pytest.mark.skipif(not _published(), reason="AGENTFLAN_DATA has no agentbench/standard.jsonl.")
def test_a_random_agent_is_at_chance() -> None:
    """It knows the table, and answers with a cell of it, or writes cells of it anywhere."""
    benchmark = agentbench_db(Settings())
    draw = random.Random(0)
    right = {"SELECT": 0.0, "INSERT": 0.0, "UPDATE": 0.0}
    for item in benchmark.items():
        table = table_of(item.data)
        row = [str(draw.choice(cells)) for cells in zip(*table.rows, strict=True)]
        quoted = ["'" + value.replace("'", "''") + "'" for value in row]
        column = draw.randrange(len(row))
        name = table.columns[column]
        sql = {
            "INSERT": f"INSERT INTO `{table.name}` VALUES ({', '.join(quoted)})",
            "UPDATE": f"UPDATE `{table.name}` SET `{name}` = {quoted[column]} WHERE `{name}` <> {quoted[column]}",
        }
        replies = [final([row[column]])] if item.case == "SELECT" else [operation(sql[item.case]), final("[]")]
        right[item.case] += play(benchmark, item, replies)["correct"]
    # Of 100 each. Where all rows of an UPDATE agree, as one in twenty do, chance finds its value.
    assert right["SELECT"] <= 10
    assert right["INSERT"] == 0
    assert right["UPDATE"] <= 5
