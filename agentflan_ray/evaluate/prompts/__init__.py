"""Prompts as files of data: ``<benchmark>/<name>.txt`` or ``.json`` beside this file."""

from __future__ import annotations

from importlib.resources import files


def read(path: str) -> str:
    """The text of a prompt, such as ``read("hotpotqa/react.txt")``.

    Raises ``ValueError`` where there is no such file.
    """
    place = files(__name__).joinpath(*path.split("/"))
    if not place.is_file():
        raise ValueError(f"There is no prompt {path!r} in this package.")
    return place.read_text(encoding="utf-8")
