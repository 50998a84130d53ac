"""The table of sources."""

from __future__ import annotations

import pytest

from agentflan_ray.sources import SOURCES
from agentflan_ray.sources.listing import listing


def test_the_listing_is_all_sources_by_name() -> None:
    listed = listing()
    assert [each.name for each in listed] == sorted(SOURCES)
    assert {name: source.name for name, source in SOURCES.items()} == {name: name for name in SOURCES}
    assert len({each.data_sheet for each in listed}) == len(listed)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_source_has_a_summary_and_a_data_sheet(name: str) -> None:
    (each,) = (each for each in listing() if each.name == name)
    assert 10 < len(each.summary) <= 100
    assert "\n" not in each.summary
    assert "Data sheet\n    " in each.data_sheet
