"""Fingerprints of the parts of a corpus, and what a plan learns from each."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentflan_ray.mixture import Mixture, make_plan
from agentflan_ray.sample import CAPABILITIES
from agentflan_ray.tokens.buckets import fingerprints, learnt_from
from agentflan_ray.tokens.token_files import INDEX_SCHEMA
from agentflan_ray.tokens.tokenise import TokenStore, to_index

MANIFEST = {"code": "c", "tokenizer": "t", "max_tokens": 64, "fingerprint": "f"}


def row(number: int, form: str, case: str, source: str, **supervised: int) -> dict[str, Any]:
    return {
        "id": f"{source}-{number}",
        "key": number,
        "validation": False,
        "source": source,
        "form": form,
        "case": case,
        "shard": "part.arrow",
        "row": number,
        "num_tokens": 100,
        **{name: supervised.get(name, 0) for name in CAPABILITIES},
        "num_windows": 1,
        "num_lost_turns": 0,
        "unusable": None,
    }


ROWS = [
    row(1, "chat", "tool", "one", reasoning=10, retrieval=5),
    row(2, "chat", "tool", "two", reasoning=20),
    row(3, "react", "tool", "one", reasoning=30),
    row(4, "chat", "tool", "one", reasoning=40),
]


def store(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> TokenStore:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), folder / "index.parquet")
    return TokenStore(str(folder), {**MANIFEST, **changes}, str(folder))


def test_a_bucket_changes_with_its_rows_and_with_the_tokenizer_alone(tmp_path: Path) -> None:
    before = fingerprints(store(tmp_path / "before", ROWS))
    assert sorted(before) == [
        "instruction/react/tool/one",
        "reasoning/chat/tool/one",
        "reasoning/chat/tool/two",
        "retrieval/chat/tool/one",
    ]
    assert len(set(before.values())) > 2
    assert fingerprints(store(tmp_path / "same", ROWS)) == before
    longer = [*ROWS, row(5, "chat", "tool", "two", reasoning=1)]
    grown = fingerprints(store(tmp_path / "grown", longer))
    assert {name for name in before if grown[name] != before[name]} == {"reasoning/chat/tool/two"}
    other_text = [{**ROWS[0], "reasoning": 11}, *ROWS[1:]]
    edited = fingerprints(store(tmp_path / "edited", other_text))
    assert {name for name in before if edited[name] != before[name]} == {
        "reasoning/chat/tool/one",
        "retrieval/chat/tool/one",
    }
    retokenised = fingerprints(store(tmp_path / "retokenised", ROWS, tokenizer="u"))
    assert all(retokenised[name] != before[name] for name in before)


def test_the_fingerprints_are_made_once(tmp_path: Path) -> None:
    tokens = store(tmp_path / "store", ROWS)
    before = fingerprints(tokens)
    (tmp_path / "store/index.parquet").unlink()
    assert fingerprints(tokens) == before


def test_a_plan_counts_what_it_learns_of_each_bucket(tmp_path: Path) -> None:
    table = store(tmp_path / "store", ROWS).index_table(validation=False)
    plan = make_plan(to_index(table), Mixture({"reasoning": 0.7, "instruction": 0.3}, budget=800, max_repeats=4))
    counts = learnt_from(table, plan)
    assert "retrieval/chat/tool/one" not in counts, "it has no weight"
    assert sum(counts.values()) == plan.num_supervised
    by_component = {"reasoning": 0, "instruction": 0}
    for name, count in counts.items():
        by_component[name.split("/")[0]] += count
    shares = {name: count / plan.num_supervised for name, count in by_component.items()}
    assert shares == {name: plan.realised[name] for name in shares}
