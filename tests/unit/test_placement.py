"""How many cores each worker of a training gets."""

from __future__ import annotations

import pytest

from agentflan_ray.cluster import cores_each


@pytest.mark.parametrize(
    ("nodes", "num_workers", "use_gpu", "expected"),
    [
        ([(2, 0)], 1, False, 2),
        ([(8, 0)], 3, False, 2),
        ([(8, 0), (4, 0)], 3, False, 4),
        ([(8, 0), (4, 0)], 4, False, 2),
        ([(2, 0)], 3, False, None),
        ([], 1, False, None),
        # The head has cores and no GPU; of the others' cores each GPU gets its part.
        ([(16, 0), (96, 8), (96, 8)], 16, True, 12),
        ([(16, 0), (96, 8)], 2, True, 48),
        ([(16, 0), (96, 8)], 9, True, None),
    ],
)
def test_workers_share_the_cores_of_their_nodes(
    nodes: list[tuple[float, float]], num_workers: int, use_gpu: bool, expected: int | None
) -> None:
    assert cores_each(nodes, num_workers, use_gpu=use_gpu) == expected
