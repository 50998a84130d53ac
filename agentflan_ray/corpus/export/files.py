"""Files that are written piece by piece and are there whole or not at all, on any kind of storage."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import fs

from agentflan_ray import storage


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[Path]:
    """A local path to write to. What is there at the end becomes the file ``uri``; after an error nothing does.

    A local file is written beside its place and renamed; an object is written on this machine and uploaded at once.
    """
    filesystem, path = storage.locate(uri)
    local = isinstance(filesystem, fs.LocalFileSystem)
    filesystem.create_dir(os.path.dirname(path), recursive=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=os.path.dirname(path) if local else None) as folder:
        written = Path(folder, os.path.basename(path))
        yield written
        if local:
            os.replace(written, path)
        else:
            fs.copy_files(str(written), path, destination_filesystem=filesystem)


class JsonLines:
    """Records to a file of JSON lines, the same bytes for the same records; compressed where its name ends in .gz."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.num_records = 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> JsonLines:
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(whole_file(self.uri))
            self._stream: io.BufferedIOBase = stack.enter_context(path.open("wb"))
            if path.suffix == ".gz":
                # No name and no time in its header, so that it depends on the records alone.
                self._stream = gzip.GzipFile(filename="", mode="wb", fileobj=self._stream, mtime=0)
                stack.callback(self._stream.close)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def write(self, record: dict[str, Any]) -> None:
        """Add one line."""
        self._stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self.num_records += 1


def expect_empty(uri: str) -> None:
    """Raise ``ValueError`` where the folder holds anything: its files would be read with the new ones."""
    if names := storage.list_names(uri):
        raise ValueError(
            f"The folder {uri} is not empty (it holds {names[0]!r}); export to an empty or new one, or remove it first."
        )
