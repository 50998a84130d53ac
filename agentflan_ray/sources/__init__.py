"""One file for each published format: raw rows in, :class:`~agentflan_ray.trajectory.Trajectory` out."""

from __future__ import annotations

from agentflan_ray.sources import (
    agentflan,
    agentinstruct,
    agenttraj,
    alpaca,
    fireact,
    intercode,
    knowagent,
    openai_messages,
    sharegpt,
    think_tags,
    toolalpaca,
    toolbench,
    toolverifier,
)
from agentflan_ray.sources.base import Dropped, MalformedRecord, Parser, Source, Where

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        agentinstruct.SOURCE,
        agenttraj.SOURCE,
        toolbench.SOURCE,
        agentflan.SOURCE,
        sharegpt.SOURCE,
        openai_messages.SOURCE,
        fireact.SOURCE,
        intercode.SOURCE,
        knowagent.SOURCE,
        think_tags.SOURCE,
        toolverifier.SOURCE,
        toolalpaca.SOURCE,
        alpaca.SOURCE,
    )
}
"""By the name that users write before ``=`` in ``name=URI``."""

__all__ = ["SOURCES", "Dropped", "MalformedRecord", "Parser", "Source", "Where"]
