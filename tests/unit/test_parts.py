"""How the parts of a pass are dealt out to tasks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ray.data._internal.execution.resource_manager import ResourceManager

from agentflan_ray.corpus.data_context import RESOURCES_ASKED_EVERY, quiet_data
from agentflan_ray.corpus.parts import TASK_JOBS, Job, _dealt

WEIGHTS = st.lists(st.integers(1, 10_000), max_size=200)


@given(WEIGHTS, st.integers(1, 64))
def test_every_job_is_dealt_once_and_no_worker_is_left_alone(weights: list[int], num_cpus: int) -> None:
    jobs = [Job("folder", f"part-{number}", None, weight) for number, weight in enumerate(weights)]
    left = sum(weights)
    dealt = []
    for several in _dealt(jobs, num_cpus):
        weight = sum(job.weight for job in several)
        assert len(several) == 1 or weight <= left / (2 * num_cpus)
        assert len(several) <= TASK_JOBS
        left -= weight
        dealt += several
    assert sorted(job.name for job in dealt) == sorted(job.name for job in jobs)
    assert [job.weight for job in dealt] == sorted(weights, reverse=True)


def test_few_small_jobs_share_tasks() -> None:
    jobs = [Job("folder", f"part-{number}", None) for number in range(40)]
    assert [len(several) for several in _dealt(jobs, 2)] == [8, 8, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]


def test_ray_data_is_asked_for_its_resources_more_often_and_left_as_it_was() -> None:
    """Ray 2.60 has this name for it; a Ray that has not must be looked at again."""
    assert ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S == 1
    with quiet_data():
        assert ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S == RESOURCES_ASKED_EVERY
    assert ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S == 1
