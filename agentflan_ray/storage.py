"""Places: a path or URI (local, ``s3://``, ``gs://``, ``hf://``) as a pyarrow filesystem and a path on it.

Everything that outlives a process is written through here, so that a laptop folder and a bucket are the same thing.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import fs

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def locate(uri: str | Path) -> tuple[fs.FileSystem, str]:
    """The filesystem and the path on it. A path without a scheme is local and made absolute.

    Raises ``ValueError`` where the scheme is unknown to pyarrow.
    """
    text = str(uri)
    if not _SCHEME.match(text):
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"Can't open {text!r}: {error}. Give a local path, s3://, gs:// or hf:// URI.") from error
    return filesystem, path


def is_local(uri: str | Path) -> bool:
    """Whether the place is a folder or file of this machine (or of a disk mounted on it)."""
    return isinstance(locate(uri)[0], fs.LocalFileSystem)


def absolute(uri: str | Path) -> str:
    """The same place, written so that it means the same from any working directory."""
    text = str(uri)
    return text if _SCHEME.match(text) else os.path.abspath(os.path.expanduser(text))


def join(uri: str | Path, *parts: str) -> str:
    """The place below ``uri``; options after ``?`` of a URI stay at its end."""
    base, mark, options = str(uri).partition("?") if _SCHEME.match(str(uri)) else (str(uri), "", "")
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)]) + mark + options


def parent(uri: str | Path) -> str:
    """The folder that the place lies in."""
    base, mark, options = str(uri).partition("?") if _SCHEME.match(str(uri)) else (str(uri), "", "")
    return base.rstrip("/").rpartition("/")[0] + mark + options


def exists(uri: str | Path) -> bool:
    """Whether a file or folder is there."""
    filesystem, path = locate(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def list_names(uri: str | Path) -> list[str]:
    """Names of what lies directly in a folder, sorted; empty where there is no such folder."""
    filesystem, path = locate(uri)
    infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos)


def make_folder(uri: str | Path) -> None:
    """Make the folder and those above it."""
    filesystem, path = locate(uri)
    filesystem.create_dir(path, recursive=True)


def remove_folder(uri: str | Path) -> None:
    """Remove a folder and all that is in it; nothing happens where there is none."""
    filesystem, path = locate(uri)
    if filesystem.get_file_info(path).type == fs.FileType.Directory:
        filesystem.delete_dir(path)


def write_bytes(uri: str | Path, content: bytes) -> None:
    """Write a file whole or not at all: a local file by rename, an object by its single put."""
    filesystem, path = locate(uri)
    local = isinstance(filesystem, fs.LocalFileSystem)
    filesystem.create_dir(os.path.dirname(path), recursive=True)
    target = f"{path}.{os.getpid()}.partial" if local else path
    with filesystem.open_output_stream(target) as stream:
        stream.write(content)
    if local:
        os.replace(target, path)


def read_bytes(uri: str | Path) -> bytes:
    """The content of a file."""
    filesystem, path = locate(uri)
    with filesystem.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def write_json(uri: str | Path, value: Any) -> None:
    """Write JSON for people: indented, keys in the order given."""
    write_bytes(uri, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def read_json(uri: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(read_bytes(uri))


def as_json(value: Any) -> Any:
    """The value as it comes back from a JSON file: tuples as lists, keys as text."""
    return json.loads(json.dumps(value, ensure_ascii=False))


def fingerprint(value: Any) -> str:
    """Twelve hexadecimal digits that identify literals: the SHA-256 of their canonical JSON text."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def copy_folder(source: str | Path, target: str | Path) -> None:
    """Copy all files of a folder to another place, of whatever kind each is."""
    from_filesystem, from_path = locate(source)
    to_filesystem, to_path = locate(target)
    to_filesystem.create_dir(to_path, recursive=True)
    fs.copy_files(from_path, to_path, source_filesystem=from_filesystem, destination_filesystem=to_filesystem)


def imported_parts(part: str) -> tuple[str, ...]:
    """A module of this package (``corpus/build.py``) and all modules of it that it imports, directly or not, sorted.

    Names that a package's ``__init__`` passes on are not followed: import from where a name is defined.
    """
    package = Path(__file__).parent
    found: set[str] = set()
    ahead = [part]
    while ahead:
        if (name := ahead.pop()) in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((package / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package.name:
                inside = "/".join(node.module.split(".")[1:])
                candidates = [inside, *(f"{inside}/{alias.name}".strip("/") for alias in node.names)]
                ahead += [f"{each}.py" for each in candidates if each and (package / f"{each}.py").is_file()]
    return tuple(sorted(found))


def code_fingerprint(*parts: str) -> str:
    """Twelve digits that identify the code of modules and folders of this package: other code may make other data."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for part in parts:
        place = package / part
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def as_local_folder(uri: str | Path) -> Iterator[str]:
    """The folder as one of this machine: itself where it is one already, else a copy that is removed afterwards."""
    if is_local(uri):
        yield locate(uri)[1]
        return
    with tempfile.TemporaryDirectory(prefix="agentflan-") as folder:
        copy_folder(uri, folder)
        yield folder
