"""The benchmarks and suites by name. A benchmark's module is imported when it is asked for, not before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module

from agentflan_ray.evaluate.benchmark import Benchmark, Settings

BENCHMARKS: dict[str, str] = {
    "hotpotqa": "hotpotqa:hotpotqa",
    "teval": "teval:teval",
    "teval-open": "teval:teval_open",
    "mmlu": "mmlu:mmlu",
    "gsm8k": "gsm8k:gsm8k",
    "humaneval": "humaneval:humaneval",
    "ifeval": "ifeval:ifeval",
    "agent-h": "agent_h:agent_h",
    "agent-h-1845": "agent_h:agent_h_1845",
    "when2call": "when2call:when2call",
    "when2call-mcq": "when2call:when2call_mcq",
    "metatool-need": "metatool:metatool_need",
    "metatool-select": "metatool:metatool_select",
    "bfcl": "bfcl:bfcl",
    "toolbench-choice": "toolbench_choice:toolbench_choice",
    "toolbox": "toolbox:toolbox",
    "agentbench-kg": "agentbench_kg:agentbench_kg",
    "alfworld": "alfworld:alfworld",
    "mind2web": "mind2web:mind2web",
    "webshop": "webshop:webshop",
    "shopping": "webshop:shopping",
    "webarena": "web:webarena",
    "miniwob": "web:miniwob",
    "agentbench-db": "agentbench_db:agentbench_db",
    "agentbench-os": "agentbench_os:agentbench_os",
    "os-small": "agentbench_os:os_small",
    "sciworld": "sciworld:sciworld",
}
"""Name to ``module:function`` below ``agentflan_ray.evaluate.benchmarks``; the function takes :class:`Settings` and
returns the benchmark, or raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable`."""

SUITES: dict[str, tuple[str, ...]] = {
    "held-out": ("hotpotqa", "sciworld", "teval", "teval-open", "webarena"),
    "general": ("mmlu", "gsm8k", "humaneval", "ifeval"),
    "function-calling": ("bfcl", "toolbench-choice"),
    "held-in": ("alfworld", "webshop", "mind2web", "agentbench-db", "agentbench-kg", "agentbench-os"),
    "smoke": ("toolbox",),
    "hallucination": ("toolbox", "agent-h-1845", "when2call", "when2call-mcq", "metatool-need", "metatool-select"),
}
"""Name of a suite to the names of its benchmarks."""


OPTIONS: dict[str, tuple[str, ...]] = {
    "browsergym_python": ("webarena", "miniwob"),
    "embedder": ("teval", "teval-open"),
    "examples": ("sciworld",),
    "glaive": ("agent-h",),
    "graph": ("agentbench-kg",),
    "miniwob_url": ("miniwob",),
    "mysql_url": ("agentbench-db",),
    "ranker": ("mind2web",),
    "seeds": ("miniwob",),
    "sparql_url": ("agentbench-kg",),
    "split": ("alfworld", "mind2web"),
    "webshop_url": ("webshop",),
    "wikipedia": ("hotpotqa",),
    "wikipedia_url": ("hotpotqa",),
}
"""Name of an entry of :attr:`Settings.options` to the benchmarks that read it."""


def check_options(options: Mapping[str, str], names: Collection[str]) -> None:
    """Raises ``ValueError`` for an option that there is not, or that none of these benchmarks reads."""
    for option in options:
        if option not in OPTIONS:
            raise ValueError(f"There is no option {option!r}; there are {', '.join(OPTIONS)}.")
        if not set(OPTIONS[option]) & set(names):
            raise ValueError(
                f"The option {option} is for {' and '.join(OPTIONS[option])}, but {', '.join(names)} would run; leave "
                "it out, or name what it is for."
            )


def names_of(asked: str) -> tuple[str, ...]:
    """The benchmarks that a name stands for: a suite's, or the benchmark itself.

    Raises ``ValueError`` for a name that is neither.
    """
    if asked in SUITES:
        return SUITES[asked]
    if asked in BENCHMARKS:
        return (asked,)
    raise ValueError(
        f"There is no benchmark or suite {asked!r}; suites are {', '.join(SUITES)}, and benchmarks "
        f"{', '.join(BENCHMARKS)}."
    )


def open_benchmark(name: str, settings: Settings) -> Benchmark:
    """The benchmark of this name.

    Raises :class:`~agentflan_ray.evaluate.benchmark.Unavailable` where something that it needs is missing, and
    ``ValueError`` for a name that there is not.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
    module, _, function = BENCHMARKS[name].partition(":")
    make: Callable[[Settings], Benchmark] = getattr(
        import_module(f"agentflan_ray.evaluate.benchmarks.{module}"), function
    )
    return make(settings)
