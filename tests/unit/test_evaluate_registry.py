"""The registry's names, and the options that its benchmarks read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentflan_ray.evaluate import registry
from agentflan_ray.evaluate.benchmark import Settings


def test_every_option_that_a_benchmark_reads_is_known() -> None:
    """And no other: a misspelt one would be lost without a word."""
    folder = Path(registry.__file__).parent
    sources = [*folder.glob("benchmarks/*.py"), folder / "web_session.py"]
    read = {name for path in sources for name in re.findall(r'options\.get\("(\w+)"', path.read_text("utf-8"))}
    assert read == set(registry.OPTIONS)
    assert {name for names in registry.OPTIONS.values() for name in names} <= set(registry.BENCHMARKS)


def test_options_are_for_what_runs() -> None:
    registry.check_options({"split": "valid_seen"}, ["toolbox", "alfworld"])
    with pytest.raises(ValueError, match="The option split is for alfworld and mind2web, but toolbox would run"):
        registry.check_options({"split": "valid_seen"}, ["toolbox"])


@pytest.mark.parametrize("seeds", ["many", "0", "-1", "1.5"])
def test_seeds_are_a_number(seeds: str) -> None:
    with pytest.raises(ValueError, match=f"The option seeds of miniwob is '{seeds}'"):
        registry.open_benchmark("miniwob", Settings(options={"seeds": seeds}))
