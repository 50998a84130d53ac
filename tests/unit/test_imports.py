"""Imports go one way, and heavy ones stay in the packages named for them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agentflan_ray"

LAYERS = (
    ("randomness", "storage", "trajectory", "versions"),
    ("sample",),
    ("forms",),
    ("sources", "toolbox"),
    ("corpus",),
    ("mixture",),
    ("tokens",),
    ("view",),
    ("train", "evaluate"),
    ("search",),
    ("cluster", "analyse"),
    ("finetune", "sweep"),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

HEAVY = {
    "torch": {"train", "evaluate", "search"},  # in search only inside a training worker
    "deepspeed": {"train"},
    "transformers": {"train", "evaluate", "tokens"},
    "ray": {"corpus", "sources", "tokens", "train", "evaluate", "search", "sweep", "cluster"},
    "optuna": {"search", "analyse", "sweep"},
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part != "__init__":
            found.append((part, path))
    return found


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "agentflan_ray":
                names += [f"agentflan_ray.{alias.name}" for alias in node.names]
            else:
                names.append(node.module)
    return names


@pytest.mark.parametrize(("part", "path"), modules(), ids=lambda value: str(getattr(value, "stem", value)))
def test_imports_go_one_way(part: str, path: Path) -> None:
    for name in imported(path):
        if name.startswith("agentflan_ray."):
            other = name.split(".")[1]
            assert other == part or RANK[other] < RANK[part], f"{path.name} of {part} imports {name}"


@pytest.mark.parametrize(("part", "path"), modules(), ids=lambda value: str(getattr(value, "stem", value)))
def test_heavy_imports_stay_where_they_belong(part: str, path: Path) -> None:
    for name in imported(path):
        top = name.split(".")[0]
        assert part in HEAVY.get(top, {part}), f"{path.name} of {part} imports {name}"
