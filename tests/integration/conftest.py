"""One local Ray for all tests that need one: starting it takes ten seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two CPUs, made by this test run and ended with it."""
    with pytest.MonkeyPatch.context() as patch:
        # The dashboard answers Ray Train's cleaner of placement groups; Ray 2.60 would ask every client for a token.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_AIR_NEW_OUTPUT", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=True, log_to_driver=False)
        yield
        ray.shutdown()
