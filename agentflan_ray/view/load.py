"""Cards of a built corpus: named ones, or a sample that shows some of everything the corpus holds."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as pads

from agentflan_ray.corpus.store import DERIVED_SCHEMA, KEPT_SCHEMA, Corpus, read_table
from agentflan_ray.randomness import stable_hash
from agentflan_ray.sample import Sample
from agentflan_ray.trajectory import Trajectory
from agentflan_ray.view.cards import Card, NotMade, Status

DEFAULT_LIMIT = 300
"""Cards of a page: some 5 MB of HTML without tokens."""


Removed = dict[str, dict[str, tuple[str, str]]]
"""By kept file and position: reason and sentence of what cleaning removed."""


class Stratum(NamedTuple):
    """What a page shows some of each: a kind of sample, or a reason why a record or sample is not there.

    ``form`` and ``case`` are empty for a record that gave no sample; ``reason`` is empty for a sample that was made.
    """

    status: Status
    source: str
    form: str
    case: str
    reason: str


class Place(NamedTuple):
    """Where a record lies: the number of its file, set-aside ones after the kept ones, and its row in it."""

    part: int
    row: int


class Entry(NamedTuple):
    """A record that may be shown: its rank, its place, and all strata that it would show something of."""

    rank: int
    place: Place
    strata: frozenset[Stratum]


@dataclass(frozen=True)
class Selection:
    """The cards that were chosen and how many records there are of each status that they were chosen from."""

    cards: tuple[Card, ...]
    totals: dict[Status, int]


def load_cards(
    corpus: Corpus,
    ids: Collection[str] = (),
    limit: int = DEFAULT_LIMIT,
    source: str | None = None,
    case: str | None = None,
    reason: str | None = None,
) -> Selection:
    """Cards of the corpus, in the order of its files.

    With ``ids``, the records with these ids or positions (``file:row``). Else at most ``limit``: as equally many of
    each :class:`Stratum` as can be had, chosen by a stable hash of id or position, so that a larger limit shows the
    same records and more. ``source`` (of the record, or the name it was read as), ``case`` and ``reason`` narrow what
    is chosen from.

    Two passes over the files: of the first, only names and reasons are held, ``limit`` of each stratum.

    Raises ``ValueError`` where an id is not there or nothing is left to show.
    """
    removed = _removed(corpus)
    if ids:
        places, totals = _named(corpus, removed, frozenset(ids))
    else:
        if limit < 1:
            raise ValueError(f"{limit} records can't be shown; ask for at least one.")

        def matches(kind: Stratum, origin: str) -> bool:
            return source in (None, kind.source, origin) and _matches(kind, case, reason)

        places, totals = _drawn(corpus, removed, limit, matches)
    if not places:
        asked = ", ".join(f"{k} {v!r}" for k, v in (("source", source), ("case", case), ("reason", reason)) if v)
        raise ValueError(f"No record in {corpus.uri} is of {asked}; its manifest.json counts what there is.")
    return Selection(tuple(_cards(corpus, removed, places)), dict(totals))


def _named(corpus: Corpus, removed: Removed, ids: frozenset[str]) -> tuple[set[Place], Counter[Status]]:
    found: set[str] = set()
    places: set[Place] = set()
    totals: Counter[Status] = Counter()
    for part, heads in enumerate(_heads(corpus, removed)):
        for row, head in enumerate(heads):
            if named := ids.intersection(head.names):
                found |= named
                places.add(Place(part, row))
                totals[head.status] += 1
    if missing := sorted(ids - found):
        raise ValueError(
            f"No record {missing[0]!r} in {corpus.uri}; give an id or a position file:row of one of its records."
        )
    return places, totals


def _drawn(
    corpus: Corpus, removed: Removed, limit: int, matches: Callable[[Stratum, str], bool]
) -> tuple[set[Place], Counter[Status]]:
    totals: Counter[Status] = Counter()
    strata: dict[Stratum, list[Entry]] = {}
    for part, heads in enumerate(_heads(corpus, removed)):
        of_part: dict[Stratum, list[Entry]] = {}
        for row, head in enumerate(heads):
            if matching := frozenset(kind for kind in head.strata if matches(kind, head.origin)):
                totals[head.status] += 1
                entry = Entry(stable_hash("view", head.names[0]), Place(part, row), matching)
                for kind in matching:
                    of_part.setdefault(kind, []).append(entry)
        for kind, entries in of_part.items():
            strata[kind] = heapq.nsmallest(limit, [*strata.get(kind, ()), *entries], key=lambda entry: entry[:2])
    return _choose(strata, limit), totals


def _choose(strata: dict[Stratum, list[Entry]], limit: int) -> set[Place]:
    """Go round the strata: in turn n, each that has fewer than n records shown gets its next one."""
    chosen: set[Place] = set()
    shown: Counter[Stratum] = Counter()
    # Samples that were made come first: they are what a reader of one card looks for.
    waiting = {kind: iter(strata[kind]) for kind in sorted(strata, key=lambda kind: (kind.reason != "", kind))}
    turn = 0
    while waiting and len(chosen) < limit:
        turn += 1
        for kind in list(waiting):
            while shown[kind] < turn and len(chosen) < limit:
                entry = next(waiting[kind], None)
                if entry is None:
                    del waiting[kind]
                    break
                if entry.place not in chosen:
                    chosen.add(entry.place)
                    shown.update(entry.strata)
    return chosen


def _matches(kind: Stratum, case: str | None, reason: str | None) -> bool:
    if reason is None:
        # What was not made is not shown under its case, unless its reason is asked for.
        return case is None or (kind.case == case and not kind.reason)
    return kind.reason == reason and case in (None, kind.case)


class _Head(NamedTuple):
    """What the first pass reads of a row: its names are the card's key and the other one it can be asked for by."""

    status: Status
    names: tuple[str, ...]
    origin: str
    strata: list[Stratum]


def _heads(corpus: Corpus, removed: Removed) -> Iterator[list[_Head]]:
    """The rows of each file, kept ones first."""
    for name, record_uri, sample_uri in _kept_parts(corpus):
        kinds: dict[str, list[tuple[str, str, str]]] = {}
        for row in read_table([sample_uri], ["parent", "form", "case", "omitted"]).to_pylist():
            kinds.setdefault(row["parent"], []).append((row["form"] or "", row["case"], row["omitted"] or ""))
        gone = removed.get(name, {})
        heads: list[_Head] = []
        for row in read_table([record_uri], ["id", "where", "source", "origin"]).to_pylist():
            identity, where, source, origin = row["id"], row["where"], row["source"], row["origin"]
            if where in gone:
                why = Stratum("removed", source, "", "", gone[where][0])
                heads.append(_Head("removed", (where, identity), origin, [why]))
            else:
                made = kinds.get(identity) or [("", "", "")]
                heads.append(
                    _Head("kept", (identity, where), origin, [Stratum("kept", source, *kind) for kind in made])
                )
        yield heads
    for uri in corpus.set_aside_parts:
        rows = read_table([uri], ["status", "reason", "where", "origin", "id"]).to_pylist()
        yield [
            _Head(
                row["status"],
                tuple(name for name in (row["where"], row["id"]) if name),
                row["origin"],
                [Stratum(row["status"], row["origin"], "", "", row["reason"])],
            )
            for row in rows
        ]


def _cards(corpus: Corpus, removed: Removed, places: set[Place]) -> Iterator[Card]:
    rows: dict[int, list[int]] = {}
    for place in sorted(places):
        rows.setdefault(place.part, []).append(place.row)
    kept = list(_kept_parts(corpus))
    for part, chosen in rows.items():
        if part < len(kept):
            name, record_uri, sample_uri = kept[part]
            records = read_table([record_uri], KEPT_SCHEMA.names).take(chosen).to_pylist()
            yield from _kept_cards(records, sample_uri, removed.get(name, {}))
        else:
            uri = corpus.set_aside_parts[part - len(kept)]
            columns = ["status", "reason", "sentence", "where", "origin", "raw"]
            for row in read_table([uri], columns).take(chosen).to_pylist():
                raw = row.pop("raw") or ""  # an empty file has no text to show
                yield Card(**row, raw=raw)


def _kept_cards(records: list[dict[str, Any]], sample_uri: str, gone: Mapping[str, tuple[str, str]]) -> Iterator[Card]:
    trajectories = {row["where"]: Trajectory.from_row(row) for row in records}
    origins = {row["where"]: row["origin"] for row in records}
    parents = pa.array([t.id for where, t in trajectories.items() if where not in gone], pa.string())
    made: dict[str, list[Sample]] = {}
    not_made: dict[str, list[NotMade]] = {}
    for row in read_table([sample_uri], DERIVED_SCHEMA.names, pads.field("parent").isin(parents)).to_pylist():
        if row["omitted"]:
            not_made.setdefault(row["parent"], []).append(NotMade(row["case"], row["omitted"]))
        else:
            made.setdefault(row["parent"], []).append(Sample.from_row(row))
    for where, trajectory in trajectories.items():
        if where in gone:
            reason, sentence = gone[where]
            yield Card("removed", origins[where], where, trajectory, reason, sentence)
        else:
            yield Card(
                "kept",
                origins[where],
                where,
                trajectory,
                samples=tuple(made.get(trajectory.id, ())),
                not_made=tuple(not_made.get(trajectory.id, ())),
            )


def _kept_parts(corpus: Corpus) -> Iterator[tuple[str, str, str]]:
    """Name below the store, file of records, file of their samples."""
    return zip(corpus.manifest["parts"]["kept"], corpus.record_parts, corpus.sample_parts, strict=True)


def _removed(corpus: Corpus) -> Removed:
    reasons: Removed = {}
    for row in corpus.removed().to_pylist():
        reasons.setdefault(row["part"], {})[row["where"]] = (row["reason"], row["sentence"])
    return reasons
