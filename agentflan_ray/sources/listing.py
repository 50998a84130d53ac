"""The sources as a table: what ``agentflan sources`` shows."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass

from agentflan_ray.sources import SOURCES


@dataclass(frozen=True, slots=True)
class Listed:
    """A source: the name written before ``=`` in ``name=URI``, one line about it, and its data sheet."""

    name: str
    summary: str
    data_sheet: str


def listing() -> list[Listed]:
    """All sources by name. The data sheet is the docstring of the file that parses the format."""
    return [
        Listed(name, source.summary, inspect.cleandoc(sys.modules[source.parse.__module__].__doc__ or ""))
        for name, source in sorted(SOURCES.items())
    ]
