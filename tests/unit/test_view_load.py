"""Cards read from a corpus on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflan_ray.corpus.store import Corpus
from agentflan_ray.view.load import load_cards
from tests.unit.view_examples import example_cards, kept, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path, example_cards())


def test_cards_come_back_as_they_were_written(corpus: Corpus) -> None:
    selection = load_cards(corpus)
    assert sorted(selection.cards, key=lambda card: card.where) == sorted(example_cards(), key=lambda card: card.where)
    assert selection.totals == {"kept": 5, "removed": 1, "dropped": 1, "quarantined": 1}


def test_a_record_is_found_by_id_or_position(corpus: Corpus) -> None:
    selection = load_cards(corpus, ids=["sgd/4", "toolbench.jsonl:7", "sgd/6"])
    assert [card.key for card in selection.cards] == ["sgd/4", "sgd.jsonl:6", "toolbench.jsonl:7"]
    with pytest.raises(ValueError, match=r"No record 'sgd/9' in .*give an id or a position"):
        load_cards(corpus, ids=["sgd/4", "sgd/9"])


def test_filters_narrow_what_is_drawn_from(corpus: Corpus) -> None:
    near = load_cards(corpus, case="near_miss")
    assert [card.key for card in near.cards] == ["toolbench/1", "toolbench/2", "sgd/4"]
    assert near.totals == {"kept": 3}
    assert [card.key for card in load_cards(corpus, reason="no_near_tool").cards] == ["toolbench/3", "sgd/5"]
    assert [card.key for card in load_cards(corpus, source="sgd", reason="near_duplicate").cards] == ["sgd.jsonl:6"]
    with pytest.raises(ValueError, match=r"No record in .* is of source 'sgd', case 'chat'"):
        load_cards(corpus, source="sgd", case="chat")
    with pytest.raises(ValueError, match="0 records can't be shown"):
        load_cards(corpus, limit=0)


def test_some_of_everything_is_shown_and_a_larger_limit_adds_to_it(tmp_path: Path) -> None:
    many = [kept(number, "toolbench", near_miss=number % 50 == 0) for number in range(100, 300)]
    corpus = write_corpus(tmp_path, [*example_cards(), *many])
    before: set[str] = set()
    for limit in (6, 12, 40, 500):
        selection = load_cards(corpus, limit=limit)
        keys = {card.key for card in selection.cards}
        assert before <= keys
        assert len(keys) == min(limit, 208)
        before = keys
        assert selection.totals == {"kept": 205, "removed": 1, "dropped": 1, "quarantined": 1}
    cards = load_cards(corpus, limit=20).cards
    assert {card.status for card in cards} == {"kept", "removed", "dropped", "quarantined"}
    assert {card.source for card in cards if card.status == "kept"} == {"sgd", "toolbench"}
    # Two in a hundred records of this source have one; more than a tenth of the page shows one.
    assert sum(card.source == "toolbench" and len(card.samples) == 3 for card in cards) >= 3
