"""What decides a corpus's content is in its fingerprint, and where things lie is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentflan_ray import storage
from agentflan_ray.corpus.build import Build, Order, ToolboxDraw
from agentflan_ray.sources import SOURCES
from agentflan_ray.sources.files import SourceSpec

PACKAGE = Path(storage.__file__).parent

NOT_CONTENT = {
    "corpus/card.py",  # the card is written from the manifest, and nothing is made from it
    "corpus/data_context.py",
    "corpus/parts.py",
    "sources/listing.py",
}
"""Modules that run a build or describe it, and whose change leaves its rows as they are."""


def test_all_code_that_makes_rows_is_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: set[str] = set()
    fingerprint = storage.code_fingerprint

    def recorded(*parts: str) -> str:
        named.update(parts)
        return fingerprint(*parts)

    monkeypatch.setattr(storage, "code_fingerprint", recorded)
    (tmp_path / "a.jsonl").write_text("{}\n")
    sources = tuple(SourceSpec(name, str(tmp_path / "a.jsonl")) for name in SOURCES)
    Build(Order((ToolboxDraw.of_size(8), *sources)), str(tmp_path / "store"))
    made_of = {
        str(path.relative_to(PACKAGE))
        for folder in ("corpus", "corpus/clean", "sources")
        for path in (PACKAGE / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    made_of |= {"forms.py", "randomness.py", "sample.py", "trajectory.py"}
    assert made_of - NOT_CONTENT - named == set()


def test_a_file_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    places = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text('{"messages": []}\n')
        order = Order((SourceSpec("openai_messages", str(tmp_path / folder)),))
        places.append(Build(order, str(tmp_path / "store")).fingerprint)
    assert places[0] == places[1]
    (tmp_path / "there" / "a.jsonl").write_text('{"messages": [1]}\n')
    order = Order((SourceSpec("openai_messages", str(tmp_path / "there")),))
    assert Build(order, str(tmp_path / "store")).fingerprint != places[0]
    shutil.rmtree(tmp_path / "there")
    with pytest.raises(ValueError, match="There is no file or folder"):
        Build(order, str(tmp_path / "store"))
