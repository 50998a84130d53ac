"""The package ``bfcl-eval`` (Berkeley Function Calling Leaderboard, Apache-2.0): its data, prompt and checker.

Installed without its dependencies (150 packages, among them CUDA's torch): ``pip install --no-deps bfcl-eval``. Only
its pure modules are imported, with two workarounds for version 2026.3.23: the checker imports the handlers of every
provider to look up whether a model's names have dots (a stub stands in), and importing the loader makes folders
beside the package (``BFCL_PROJECT_ROOT`` names a temporary one).
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import threading
import types
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from agentflan_ray.evaluate.benchmark import Missing

MISSING = Missing(
    "The package bfcl-eval, which holds the data and the checker, is not installed.",
    "Install it without its dependencies: pip install --no-deps bfcl-eval==2026.3.23.",
)

_MODEL = "any"
_STUBBED = "bfcl_eval.constants.model_config"
_IMPORTING = threading.Lock()


class _Modules(NamedTuple):
    check: Any
    languages: Any
    prompts: Any
    add_hints: Any


def is_installed() -> bool:
    """Whether the package is there; imports nothing of it."""
    return importlib.util.find_spec("bfcl_eval") is not None


def package_version() -> str:
    """Its version, part of what decides a score."""
    return version("bfcl-eval")


@functools.cache
def entries(category: str) -> tuple[Mapping[str, Any], ...]:
    """The items of a single-turn category as published: ``id``, ``question`` (one conversation) and ``function``."""
    return _lines(f"BFCL_v4_{category}.json")


@functools.cache
def gold(category: str) -> Mapping[str, Any]:
    """The possible answers of a category by item id; empty for the categories that have none."""
    if "relevance" in category:
        return {}
    return {line["id"]: line["ground_truth"] for line in _lines(f"possible_answer/BFCL_v4_{category}.json")}


def checks(category: str, functions: Sequence[Mapping[str, Any]], calls: Sequence[Any], answers: Any) -> bool:
    """Whether the package's checker takes ``calls``, ``[{name: arguments}]``, as one of the possible answers."""
    modules = _modules()
    language = {"simple_java": "JAVA", "simple_javascript": "JAVASCRIPT"}.get(category, "PYTHON")
    try:
        verdict = modules.check(list(functions), list(calls), answers, modules.languages[language], category, _MODEL)
    except Exception:
        # The checker compares without asking for types: what a model wrote as a value can raise anything in it. No
        # possible answer does (the test of the gold answers), so a call that raises is a wrong one.
        return False
    return bool(verdict["valid"])


def system_prompt(functions: Sequence[Mapping[str, Any]]) -> str:
    """The package's default prompt for models without a template for tools, functions listed as JSON."""
    prompts = _modules().prompts
    words = prompts.PROMPT_STYLE_TEMPLATES["classic"]
    form = words["tool_call_no_tag"].format(output_format=prompts.OUTPUT_FORMAT_MAPPING["python"], param_types="")
    listed = words["available_tools"].format(format="json", functions=json.dumps(functions, indent=4))
    return str(
        prompts.PROMPT_TEMPLATE_MAPPING["plaintext"].format(
            persona=words["persona"],
            task=words["task"],
            tool_call_format=form,
            multiturn_behavior=words["multiturn_behavior"],
            available_tools=listed,
        )
    )


def hinted(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An item's functions as a model is shown them: with the package's hints on how to write values of a language."""
    [changed] = _modules().add_hints([copy.deepcopy(dict(entry))])
    return list(changed["function"])


def _lines(name: str) -> tuple[Mapping[str, Any], ...]:
    spec = importlib.util.find_spec("bfcl_eval")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "data" / name).read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines() if line.strip())


@functools.cache
def _modules() -> _Modules:
    stub = types.ModuleType(_STUBBED)
    stub.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))  # type: ignore[attr-defined]
    with _IMPORTING, tempfile.TemporaryDirectory() as folder:
        given = os.environ.get("BFCL_PROJECT_ROOT")
        os.environ["BFCL_PROJECT_ROOT"] = folder
        sys.modules[_STUBBED] = stub
        try:
            checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
            enums = importlib.import_module("bfcl_eval.constants.enums")
            prompts = importlib.import_module("bfcl_eval.constants.default_prompts")
            loader = importlib.import_module("bfcl_eval.utils")
        finally:
            del sys.modules[_STUBBED]
            if given is None:
                del os.environ["BFCL_PROJECT_ROOT"]
            else:
                os.environ["BFCL_PROJECT_ROOT"] = given
    return _Modules(checker.ast_checker, enums.Language, prompts, loader.add_language_specific_hint_to_function_doc)
