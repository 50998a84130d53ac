"""Evaluation sets as texts: what must not be in the training data.

A set is a file or a folder of JSON, JSON lines, CSV or Parquet (also in ``.gz`` or ``.zip``), read whole: such sets
have megabytes. The text of an item is what is asked, not the tools it lists or its reference answer.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from agentflan_ray.storage import locate

FIELDS: tuple[frozenset[str], ...] = (
    frozenset({"question", "query", "instruction", "prompt", "problem", "goal", "task", "utterance", "input", "text"})
    | {"questions", "queries", "instructions", "prompts", "utterances", "turns"},
    frozenset({"description"}),
)
"""Keys (in any case) that hold what an item asks. They are looked for level by level, from the record's own keys down,
and on each level the first group before the second; a record with none of them is taken whole."""

FORMATS = (".json", ".jsonl", ".csv", ".parquet")
SUFFIXES = (*FORMATS, *(f"{suffix}.gz" for suffix in FORMATS[:3]), ".zip")

_ROLE_KEYS = ("role", "from")
_ASKING_ROLES = frozenset(("user", "human", "system"))


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A set under a name. ``fields`` are the keys that hold the text of an item; () for :data:`FIELDS`."""

    name: str
    uri: str
    fields: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> EvaluationSet:
        """Read ``name=URI`` or ``name=URI#field,field``; raises ``ValueError`` where a part is missing."""
        name, equals, place = text.partition("=")
        uri, mark, fields = place.partition("#")
        names = tuple(field.strip() for field in fields.split(",") if field.strip())
        if not (name.strip() and equals and uri.strip()) or (mark and not names):
            raise ValueError(
                f"{text!r} is not of the form name=URI or name=URI#field; write for instance hotpotqa=eval/dev.json."
            )
        return cls(name.strip(), uri.strip(), names)


class EvaluationItem(NamedTuple):
    """A text of an item; an item with several (turns, instructions) stands in several rows."""

    item: str
    """``file:row``, rows counted from 1."""
    text: str


def evaluation_items(evaluation: EvaluationSet) -> list[EvaluationItem]:
    """All texts of all items, in the order of the files' names.

    Raises ``ValueError`` where there is no such place, nothing in it can be read, a file is damaged, or no text is
    found: a set that is only half read would let contamination through.
    """
    items = []
    for name, data in evaluation_files(evaluation):
        try:
            records = list(_records(name, data))
        except (OSError, EOFError, zlib.error, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
            reason = str(error).rstrip(".")
            raise ValueError(f"The evaluation file {name} of {evaluation.name!r} is damaged: {reason}.") from error
        for row, record in enumerate(records, start=1):
            items += [EvaluationItem(f"{name}:{row}", text) for text in texts_of(record, evaluation.fields)]
    if not items:
        fields = ", ".join(evaluation.fields) or "any text"
        raise ValueError(f"The evaluation set {evaluation.name!r} at {evaluation.uri!r} has no item with {fields}.")
    return items


def texts_of(record: Any, fields: tuple[str, ...] = ()) -> list[str]:
    """What an item asks: the strings under ``fields`` at any depth, or as :data:`FIELDS` says."""
    if fields:
        return [text for value in _values_at(record, frozenset(fields)) for text in _strings(value)]
    level = [record]
    while level:
        level = [part for value in level for part in _unpacked(value)]
        for names in FIELDS:
            found = [
                text
                for part in level
                if isinstance(part, dict)
                for key, value in part.items()
                if key.casefold() in names
                for text in _strings(value)
            ]
            if found:
                return found
        level = [value for part in level if isinstance(part, dict) for value in part.values()]
    return list(_strings(record))


def _unpacked(value: Any) -> list[Any]:
    return [part for item in value for part in _unpacked(item)] if isinstance(value, list) else [value]


def _values_at(value: Any, names: frozenset[str]) -> Iterator[Any]:
    for part in _unpacked(value):
        if isinstance(part, dict):
            for key, inner in part.items():
                if key in names:
                    yield inner
                else:
                    yield from _values_at(inner, names)


def _strings(value: Any) -> Iterator[str]:
    """The strings in a value. Of messages only those of the asking side: replies are generic politeness."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        role = next((value[key] for key in _ROLE_KEYS if isinstance(value.get(key), str)), None)
        if role is None or role.casefold() in _ASKING_ROLES:
            for key, item in value.items():
                if key not in _ROLE_KEYS:
                    yield from _strings(item)


def evaluation_files(evaluation: EvaluationSet) -> Iterator[tuple[str, bytes]]:
    """Base names and contents of the files, those of a ``.zip`` apart."""
    filesystem, path = locate(evaluation.uri)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise ValueError(f"There is no file or folder {evaluation.uri!r} for the evaluation set {evaluation.name!r}.")
    listed = (
        [info] if info.type == fs.FileType.File else filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    )
    readable = sorted(item.path for item in listed if item.type == fs.FileType.File and item.path.endswith(SUFFIXES))
    if not readable:
        raise ValueError(
            f"The evaluation set {evaluation.name!r} at {evaluation.uri!r} holds no file that ends in "
            f"{', '.join(SUFFIXES)}."
        )
    for place in readable:
        with filesystem.open_input_stream(place, compression=None) as stream:
            data = bytes(stream.read())
        name = posixpath.basename(place)
        if name.endswith(".zip"):
            try:
                members = _members(data)
            except (zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(
                    f"The evaluation file {name} of the set {evaluation.name!r} is damaged: {error}."
                ) from error
            yield from ((f"{name}/{member}", content) for member, content in members)
        else:
            yield name, data


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(member, archive.read(member)) for member in sorted(archive.namelist()) if member.endswith(SUFFIXES)]


def _records(name: str, data: bytes) -> Iterator[Any]:
    if name.endswith(".gz"):
        name, data = name.removesuffix(".gz"), gzip.decompress(data)
    if name.endswith(".parquet"):
        for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
            yield from batch.to_pylist()
        return
    text = data.decode("utf-8-sig")
    if name.endswith(".csv"):
        yield from _csv_records(text)
    elif name.endswith(".jsonl"):
        yield from _lines(name, text)
    else:
        try:
            value = json.loads(text)
        except ValueError as error:
            # Many published ".json" files hold one value a line; then the first line is a value by itself.
            if not _is_json(text.lstrip().partition("\n")[0]):
                raise ValueError(f"The evaluation file {name} is not JSON: {error}.") from error
            yield from _lines(name, text)
            return
        if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
            value = list(value.values())
        yield from value if isinstance(value, list) else [value]


def _lines(name: str, text: str) -> Iterator[Any]:
    # Not splitlines: JSON strings may hold U+2028 and U+0085, which end a line there.
    for row, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"The evaluation file {name}:{row} is not JSON: {error}.") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _csv_records(text: str) -> Iterator[dict[str, str]]:
    """Rows by their header; without one (none of its cells is a known key) the first column is the question."""
    # Its own limit is 131,072 characters a cell, less than a long document; no cell is longer than the file.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    rows = csv.reader(io.StringIO(text, newline=""))
    header = next(rows, [])
    if not any(cell.strip().casefold() in names for cell in header for names in FIELDS):
        yield {"question": header[0]} if header else {}
        header = ["question"]
    for row in rows:
        yield dict(zip(header, row, strict=False))
