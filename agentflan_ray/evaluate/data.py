"""Published files in a user's folder: found by any of their usual places, read plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
}


def data_folder(given: str | None) -> Path | None:
    """The folder of published data: the one given, or what ``AGENTFLAN_DATA`` names; None where neither is."""
    folder = given or os.environ.get("AGENTFLAN_DATA")
    return Path(folder) if folder else None


def find(given: str | None, *names: str) -> Path | None:
    """The first of these files or folders below the data folder or its ``eval``; None where none is there."""
    folder = data_folder(given)
    if folder is None:
        return None
    places = (base / name for name in names for base in (folder / "eval", folder))
    return next((place for place in places if place.exists()), None)


def read_text(path: Path) -> str:
    """The text of a file, decompressed by its ending (.gz, .xz, .bz2)."""
    packed = path.read_bytes()
    unpack = _UNPACK.get(path.suffix, bytes)
    return unpack(packed).decode("utf-8")
