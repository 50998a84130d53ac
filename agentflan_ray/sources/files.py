"""Files and the rows in them: a path, folder, glob or URI becomes slices that are read apart, in parallel.

Plain JSON lines are cut into byte ranges; a range owns the lines that begin in it, so no line is cut or read twice.
Parquet is cut by row group. JSON, CSV and compressed files are streamed whole. What cannot be read becomes a
:class:`BadRow` with reason and position, and reading goes on where it can.
"""

from __future__ import annotations

import codecs
import csv
import fnmatch
import gzip
import json
import math
import posixpath
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from agentflan_ray.sources.base import Where
from agentflan_ray.storage import locate

_COMPRESSIONS = ("", ".gz", ".zst")
_LINES, _JSON, _CSV = (tuple(kind + end for end in _COMPRESSIONS) for kind in (".jsonl", ".json", ".csv"))
SUFFIXES = (*_JSON, *_LINES, *_CSV, ".parquet")
SLICE_BYTES = 32 * 2**20
MAX_RECORD_BYTES = 128 * 2**20
"""A longer line is no record but a file without line ends; it is skipped and quarantined."""

RAW_CHARACTERS = 2_000
"""How much of a record that is not kept is shown in the quarantine."""

_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What to read as what: the name of a source and a path, folder, glob or URI."""

    source: str
    uri: str

    @classmethod
    def parse(cls, text: str) -> SourceSpec:
        """Read ``name=URI``; raises ``ValueError`` where one of the two is missing."""
        name, equals, uri = text.partition("=")
        if not (name.strip() and equals and uri.strip()):
            raise ValueError(f"{text!r} is not of the form name=URI; write for instance agentinstruct=data/*.jsonl.")
        return cls(name.strip(), uri.strip())


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file: bytes ``start`` to ``end``, or of a parquet file the row group ``group``.

    ``rows_before`` counts the lines or rows of the file before it; ``root`` is the spec's URI, which says where
    ``path`` is.
    """

    source: str
    root: str
    path: str
    start: int
    end: int
    whole: bool = True
    group: int = -1
    rows_before: int = 0

    @property
    def name(self) -> str:
        """The file as a person names it: its path, with the scheme where it is remote."""
        scheme, mark, _ = self.root.partition("://")
        return f"{scheme}://{self.path}" if mark and scheme != "file" else self.path

    @property
    def num_bytes(self) -> int:
        """Bytes to read."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class BadRow:
    """What is in the place of a record that could not be read; ``raw`` is its text as far as it is known."""

    reason: str
    sentence: str
    raw: str = ""


Row = tuple[Where, dict[str, Any] | BadRow]


def plan_slices(specs: Sequence[SourceSpec], slice_bytes: int = SLICE_BYTES) -> list[Slice]:
    """All slices of all specs, in the order of the specs and of the file names.

    Raises ``ValueError`` where a path does not exist, a folder or glob holds no readable file, or a named file has a
    suffix that is not known. In a folder, other files (licences, read-mes) are left alone. ``rows_before`` of the
    parts of a cut JSON lines file is 0 until :func:`number_slices` has filled it in.
    """
    slices: list[Slice] = []
    for spec in specs:
        filesystem, path = locate(spec.uri)
        for info in _files(filesystem, path, spec.uri):
            slices += _cut(filesystem, info, spec, slice_bytes)
    return slices


def number_slices(slices: Sequence[Slice], counts: Sequence[int]) -> list[Slice]:
    """Fill in ``rows_before`` of the parts of cut JSON lines files; ``counts`` holds what :func:`count_lines` said."""
    numbered = []
    before = 0
    for piece, count in zip(slices, counts, strict=True):
        before = 0 if piece.start == 0 else before  # the first part of the next file
        numbered.append(replace(piece, rows_before=before))
        before += count
    return numbered


def count_lines(piece: Slice) -> int:
    """Number of lines that begin in a byte range."""
    filesystem, _ = locate(piece.root)
    with filesystem.open_input_file(piece.path) as file:
        first = max(piece.start - 1, 0)
        file.seek(first)
        remaining = piece.end - 1 - first
        count = 1 if piece.start == 0 else 0
        while remaining > 0 and (chunk := file.read(min(_CHUNK, remaining))):
            count += chunk.count(b"\n")
            remaining -= len(chunk)
    return count


def read_slice(piece: Slice) -> Iterator[Row]:
    """The records of a slice with their positions. Lines of white space are no records."""
    filesystem, _ = locate(piece.root)
    if piece.end == 0:
        yield Where(piece.name, 1), BadRow("empty_file", f"{piece.name} has 0 bytes.")
        return
    if piece.path.endswith(".parquet"):
        yield from _read_parquet(filesystem, piece)
        return
    with filesystem.open_input_file(piece.path) as file:
        file.seek(max(piece.start - 1, 0))
        read = _read_lines if piece.path.endswith(_LINES) else _read_csv if piece.path.endswith(_CSV) else _read_json
        yield from read(_bytes(file, piece.path), piece)


def _files(filesystem: fs.FileSystem, path: str, uri: str) -> list[fs.FileInfo]:
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        if not path.endswith(SUFFIXES):
            raise ValueError(f"Can't tell the format of {uri!r}: its suffix is none of {', '.join(SUFFIXES)}.")
        return [info]
    if info.type == fs.FileType.Directory:
        found = _listed(filesystem, path)
        if not found:
            raise ValueError(f"The folder {uri!r} holds no file that ends in {', '.join(SUFFIXES)}.")
        return found
    if "*" in path:
        base = posixpath.dirname(path[: path.index("*")])
        found = [info for info in _listed(filesystem, base) if _matches(info.path, path)]
        if not found:
            raise ValueError(f"No file that ends in {', '.join(SUFFIXES)} matches {uri!r}.")
        return found
    raise ValueError(f"There is no file or folder {uri!r}.")


def _listed(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    infos = filesystem.get_file_info(selector)
    files = [info for info in infos if info.type == fs.FileType.File and info.path.endswith(SUFFIXES)]
    return sorted(files, key=lambda info: info.path)


def _matches(path: str, pattern: str) -> bool:
    """Match folder by folder: ``*`` stays within a name, ``**`` crosses folders."""
    if "**" in pattern:
        return fnmatch.fnmatchcase(path, pattern.replace("**/", "*"))
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _cut(filesystem: fs.FileSystem, info: fs.FileInfo, spec: SourceSpec, slice_bytes: int) -> Iterator[Slice]:
    if info.path.endswith(".parquet"):
        yield from _row_groups(filesystem, info, spec)
    elif info.path.endswith(".jsonl") and info.size > slice_bytes:
        num_slices = math.ceil(info.size / slice_bytes)
        for index in range(num_slices):
            start, end = index * slice_bytes, min((index + 1) * slice_bytes, info.size)
            yield Slice(spec.source, spec.uri, info.path, start, end, whole=False)
    else:
        yield Slice(spec.source, spec.uri, info.path, 0, info.size)


def _row_groups(filesystem: fs.FileSystem, info: fs.FileInfo, spec: SourceSpec) -> Iterator[Slice]:
    try:
        with filesystem.open_input_file(info.path) as file:
            metadata = pq.ParquetFile(file).metadata
    except pa.ArrowInvalid:
        # Reading it will say what is wrong, with a place in the quarantine.
        yield Slice(spec.source, spec.uri, info.path, 0, info.size, group=0)
        return
    if metadata.num_rows == 0:
        yield Slice(spec.source, spec.uri, info.path, 0, info.size, group=0)
        return
    before = start = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        yield Slice(
            spec.source,
            spec.uri,
            info.path,
            start,
            start + rows.total_byte_size,
            group=group,
            rows_before=before,
        )
        before += rows.num_rows
        start += rows.total_byte_size


def _read_parquet(filesystem: fs.FileSystem, piece: Slice) -> Iterator[Row]:
    row = piece.rows_before
    with filesystem.open_input_file(piece.path) as file:
        try:
            parquet = pq.ParquetFile(file)
            if parquet.metadata.num_rows == 0:
                yield Where(piece.name, 1), BadRow("empty_file", f"{piece.name} holds no rows.")
                return
            for batch in parquet.iter_batches(batch_size=256, row_groups=[piece.group]):
                for value in batch.to_pylist():
                    row += 1
                    yield Where(piece.name, row), value
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and not isinstance(filesystem, fs.LocalFileSystem):
                raise  # a network that failed, not a damaged file
            sentence = f"{piece.name} is no readable parquet from row {row + 1} on: {str(error)[:200]}"
            yield Where(piece.name, row + 1), BadRow("corrupt_parquet", sentence)


class _Bytes(Protocol):
    """A stream of bytes that says at its end whether it was whole."""

    fault: BadRow | None

    def read(self, size: int) -> bytes: ...


class _PlainBytes:
    def __init__(self, file: pa.NativeFile) -> None:
        self.file = file
        self.fault: BadRow | None = None

    def read(self, size: int) -> bytes:
        return bytes(self.file.read(size))


class _GzipBytes:
    def __init__(self, file: pa.NativeFile) -> None:
        self._gzip = gzip.GzipFile(fileobj=file)
        self.fault: BadRow | None = None

    def read(self, size: int) -> bytes:
        if self.fault is not None:
            return b""
        try:
            return self._gzip.read1(size)
        except EOFError:
            self.fault = BadRow("truncated_gz", "The gzip data ends before its end mark.")
        except (gzip.BadGzipFile, zlib.error) as error:
            self.fault = BadRow("corrupt_gz", f"The gzip data is damaged: {error}.")
        return b""


class _ZstdBytes:
    def __init__(self, file: pa.NativeFile) -> None:
        self._file = pa.CompressedInputStream(file, "zstd")
        self.fault: BadRow | None = None

    def read(self, size: int) -> bytes:
        if self.fault is not None:
            return b""
        try:
            return bytes(self._file.read(size))
        except OSError as error:
            if "Truncated" in str(error):
                self.fault = BadRow("truncated_zst", "The zstd data ends before its end mark.")
            elif "ZSTD" in str(error):
                self.fault = BadRow("corrupt_zst", f"The zstd data is damaged: {error}.")
            else:
                raise  # a disk or network that failed, not a damaged file
        return b""


def _bytes(file: pa.NativeFile, path: str) -> _Bytes:
    if path.endswith(".gz"):
        return _GzipBytes(file)
    return _ZstdBytes(file) if path.endswith(".zst") else _PlainBytes(file)


def _read_lines(stream: _Bytes, piece: Slice) -> Iterator[Row]:
    row = piece.rows_before
    num_records = 0
    for line, closed in _lines(stream, piece.start, None if piece.whole else piece.end):
        row += 1
        where = Where(piece.name, row)
        if not closed and stream.fault is not None:
            break
        if line.strip():
            num_records += 1
            yield where, _record_of_line(line, closed)
    else:
        row += 1
    if stream.fault is not None:
        yield Where(piece.name, row), stream.fault
    elif piece.whole and num_records == 0:
        yield Where(piece.name, 1), BadRow("empty_file", f"{piece.name} holds no records.")


def _lines(stream: _Bytes, start: int, end: int | None) -> Iterator[tuple[bytes, bool]]:
    """The lines that begin in [start, end), each with whether a line end closed it; cut beyond ``MAX_RECORD_BYTES``.

    The stream stands one byte before ``start``: the line that this byte belongs to is another slice's.
    """
    skip = start > 0
    position = max(start - 1, 0)
    pending, length = bytearray(), 0
    while chunk := stream.read(_CHUNK):
        begin = 0
        while (stop := chunk.find(b"\n", begin)) >= 0:
            length += stop - begin
            if len(pending) <= MAX_RECORD_BYTES:
                pending += chunk[begin:stop]
            if not skip:
                yield bytes(pending), True
            position += length + 1
            if end is not None and position >= end:
                return
            pending, length, skip, begin = bytearray(), 0, False, stop + 1
        length += len(chunk) - begin
        if len(pending) <= MAX_RECORD_BYTES:
            pending += chunk[begin:]
    if pending and not skip:
        yield bytes(pending), False


def _record_of_line(line: bytes, closed: bool) -> dict[str, Any] | BadRow:
    if len(line) > MAX_RECORD_BYTES:
        return BadRow("record_too_long", f"The line is longer than {MAX_RECORD_BYTES:,} bytes.", _show(line))
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return BadRow("not_utf8", f"The line is not UTF-8: {error.reason} at its byte {error.start}.", _show(line))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "not_json" if closed else "truncated_json"
        return BadRow(reason, f"The line is not JSON: {error}.", text[:RAW_CHARACTERS])
    return _as_record(value, text)


def _as_record(value: Any, text: str) -> dict[str, Any] | BadRow:
    if isinstance(value, dict):
        return value
    return BadRow("not_an_object", f"A record must be a JSON object, but is {text[:40]!r}.", text[:RAW_CHARACTERS])


def _show(line: bytes) -> str:
    return line[:RAW_CHARACTERS].decode(errors="backslashreplace")


def _read_csv(stream: _Bytes, piece: Slice) -> Iterator[Row]:
    """The rows of a CSV file (RFC 4180) by the names in its first row; a row's position is the line it begins in.

    A quote that is never closed takes the rest of the file with it, as one bad row.
    """
    # The reader's own limit of 131,072 characters for a field is less than one long conversation.
    csv.field_size_limit(MAX_RECORD_BYTES)
    rows = csv.reader(_csv_lines(stream), strict=True)
    header: list[str] | None = None
    num_records = 0
    while True:
        where = Where(piece.name, rows.line_num + 1)
        try:
            fields = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            if stream.fault is not None:
                break
            if header is None:
                yield where, BadRow("bad_header", f"The first row, which must name the columns, is not CSV: {error}.")
                return
            num_records += 1
            yield where, BadRow("not_csv", f"The row is not CSV: {error}.")
            continue
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = fields
            if len(set(header)) < len(header) or _ESCAPED_BYTE.search("".join(header)):
                yield where, BadRow("bad_header", "The first row must name each column once, in UTF-8.", _shown(fields))
                return
            continue
        num_records += 1
        yield where, _record_of_fields(header, fields)
    if stream.fault is not None:
        yield Where(piece.name, rows.line_num + 1), stream.fault
    elif num_records == 0:
        yield Where(piece.name, 1), BadRow("empty_file", f"{piece.name} holds no records.")


def _csv_lines(stream: _Bytes) -> Iterator[str]:
    """Lines with their ends, bytes that are not UTF-8 as lone surrogates; not the one in which a damaged file ends."""
    first = True
    for line, closed in _lines(stream, 0, None):
        if closed or stream.fault is None:
            encoding = "utf-8-sig" if first else "utf-8"
            yield line.decode(encoding, errors="surrogateescape") + ("\n" if closed else "")
        first = False


def _record_of_fields(header: list[str], fields: list[str]) -> dict[str, Any] | BadRow:
    if len(fields) != len(header):
        sentence = f"The row has {len(fields)} fields, but the first row names {len(header)} columns."
        return BadRow("wrong_number_of_fields", sentence, _shown(fields))
    if _ESCAPED_BYTE.search("".join(fields)):
        return BadRow("not_utf8", "The row holds bytes that are not UTF-8.", _shown(fields))
    return dict(zip(header, fields, strict=True))


def _shown(fields: list[str]) -> str:
    return _show(",".join(fields)[:RAW_CHARACTERS].encode(errors="surrogateescape"))


_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class _Text:
    """JSON values one after another from a stream, holding little more than one of them.

    Bytes that are not UTF-8 are carried as lone surrogates, so that only the record they stand in is lost.
    """

    def __init__(self, stream: _Bytes) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._buffer = ""
        self._position = 0
        self._ended = False

    def _fill(self) -> bool:
        """Read as much again as is held; False at the end of the stream."""
        if self._ended:
            return False
        self._buffer = self._buffer[self._position :]
        self._position = 0
        data = self._stream.read(max(_CHUNK, len(self._buffer)))
        self._ended = not data
        self._buffer += self._decoder.decode(data, final=self._ended)
        return not self._ended

    def skip(self, characters: str) -> str:
        """Skip these characters; the next other one, "" at the end."""
        while True:
            while self._position < len(self._buffer) and self._buffer[self._position] in characters:
                self._position += 1
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._fill():
                return ""

    def advance(self) -> None:
        """Step over one character."""
        self._position += 1

    def value(self) -> tuple[Any, str]:
        """The next value and its text; (BadRow, "") where there is none."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except (ValueError, RecursionError) as error:
                held = len(self._buffer) - self._position
                if isinstance(error, RecursionError) or held > MAX_RECORD_BYTES or not self._fill():
                    return self._unreadable(error), ""
                continue
            if end == len(self._buffer) and self._fill():
                continue
            text = self._buffer[self._position : end]
            self._position = end
            if _ESCAPED_BYTE.search(text):
                raw = text[:RAW_CHARACTERS].encode(errors="surrogateescape")
                return BadRow("not_utf8", "The record holds bytes that are not UTF-8.", _show(raw)), text
            return value, text

    def _unreadable(self, error: Exception) -> BadRow:
        rest = self._buffer[self._position :]
        raw = _show(rest[:RAW_CHARACTERS].encode(errors="surrogateescape"))
        if self._stream.fault is not None:
            return BadRow(self._stream.fault.reason, self._stream.fault.sentence, raw)
        sentence = f"The rest of the file is not JSON: {error}."
        if _ESCAPED_BYTE.search(rest):
            return BadRow("not_utf8", sentence, raw)
        closed = rest.rstrip().endswith(("]", "}"))
        return BadRow("not_json" if closed else "truncated_json", sentence, raw)


def _read_json(stream: _Bytes, piece: Slice) -> Iterator[Row]:
    """Records of an array, of one object, of an object of records, or of objects one after another."""
    text = _Text(stream)
    row = 0
    in_array = False
    text.skip("\ufeff")
    while character := text.skip(_SPACE + "," if in_array else _SPACE):
        if character == ("]" if in_array else "["):
            in_array = not in_array
            text.advance()
            continue
        value, raw = text.value()
        records = _records(value, raw, in_array)
        for record in records:
            row += 1
            yield Where(piece.name, row), record
        if not raw:
            return
    if stream.fault is not None:
        yield Where(piece.name, row + 1), stream.fault
    elif in_array:
        yield Where(piece.name, row + 1), BadRow("truncated_json", "The file ends inside its array of records.")
    elif row == 0:
        yield Where(piece.name, 1), BadRow("empty_file", f"{piece.name} holds no records.")


_RECORD_KEYS = frozenset({"answer_generation", "conversation", "conversations", "messages"})


def _records(value: Any, raw: str, in_array: bool) -> list[dict[str, Any] | BadRow]:
    if isinstance(value, BadRow):
        return [value]
    of_objects = isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values())
    if not in_array and of_objects and not _RECORD_KEYS & value.keys():
        return [{"id": key, **item} for key, item in value.items()]
    return [_as_record(value, raw)]
