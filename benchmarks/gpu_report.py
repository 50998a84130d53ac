"""The tables that ``benchmarks/gpu.py`` prints, and what its measurements say together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gpu_plan import layers_of
from gpu_speed import Values
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HEADINGS = {
    "tokens_per_second": "tokens/s",
    "supervised_per_second": "learnt/s",
    "mfu": "MFU",
    "mfu_whole_head": "with whole head",
    "step_seconds": "s a step",
    "allocated_gib": "GiB",
    "reserved_gib": "reserved",
    "startup_seconds": "start, s",
    "zero_stage": "ZeRO",
}

COLUMNS: dict[str, Sequence[str]] = dict.fromkeys(
    ("smollm2", "7b", "qlora", "layers"),
    (
        *("model", "trains", "zero_stage", "recomputed", "attention", "tokens_per_second", "supervised_per_second"),
        *("mfu", "mfu_whole_head", "step_seconds", "allocated_gib", "reserved_gib", "startup_seconds", "last_loss"),
    ),
) | {"metering": ("model", "tokens_per_second", "metering_overhead")}
"""Of sections whose rows have more values than a table takes; results.json has them all."""

TRL_RATIOS = {"gpu_vs_trl": "padding", "gpu_vs_trl_packed": "mask", "gpu_vs_trl_varlen": "varlen"}
"""Ours over TRL as it comes, packing as it comes, and packing with our kernel."""

TRL_GOAL: tuple[str, Callable[[float], bool]] = ("at least 1.5", lambda value: value >= 1.5)

GOALS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "mfu_7b": ("at least 0.55", lambda value: value >= 0.55),
    **dict.fromkeys(("gpu_vs_trl", "gpu_vs_trl_packed", "gpu_vs_trl_7b", "gpu_vs_trl_packed_7b"), TRL_GOAL),
    "metering_overhead": ("below 0.02", lambda value: value < 0.02),
    "planner_error_percent": ("within 10", lambda value: abs(value) <= 10),
}
"""Issue 4's, of a GPU."""


def show(rows: list[Values], console: Console) -> Values:
    """Print the tables, and what they say together; returns the numbers of the last line."""
    for section in dict.fromkeys(row["section"] for row in rows):
        _print_section(section, [row for row in rows if row["section"] == section], console)
    done = [
        {**values, "section": row["section"], "name": row["name"]}
        for row in rows
        if row["outcome"] == "done"
        for values in row["values"]
    ]
    summary = {**_checks(done), **_ratios(done), **_extrapolated(done, console), **_planned(done, console)}
    summary["not_run"] = sum(row["outcome"] == "not run" for row in rows)
    summary["failed"] = sum(row["outcome"] == "failed" for row in rows)
    on_gpu = any("memory_bytes" in row for row in done)
    table = Table("", "value", "goal", "", title="Together", title_justify="left", box=box.SIMPLE_HEAD)
    for name, value in summary.items():
        goal = GOALS.get(name) if on_gpu else None
        met = "" if goal is None else "met" if goal[1](value) else "not met"
        table.add_row(name, _written(value), goal[0] if goal else "", met)
    console.print(table)
    return {**summary, "rehearsed": not on_gpu}


def _print_section(section: str, rows: list[Values], console: Console) -> None:
    values = [each for row in rows for each in row.get("values", [])]
    names = COLUMNS.get(section) or list(dict.fromkeys(name for each in values for name in each if name != "folder"))
    names = [name for name in names if any(each.get(name) is not None for each in values)]
    table = Table(title=section, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("run", *(HEADINGS.get(name, name.replace("_", " ")) for name in names), "seconds", ""):
        table.add_column(column, justify="left" if column in ("run", "") else "right")
    for row in rows:
        for each in row.get("values") or [{}]:
            cells = [_written(each.get(name)) for name in names]
            note = ": ".join(filter(None, (row["outcome"] if row["outcome"] != "done" else "", row.get("reason"))))
            table.add_row(row["name"], *cells, f"{row['seconds']:.0f}", escape(note))
    console.print(table)


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).removeprefix("random-llama2-").removeprefix("random-")


def _checks(done: list[Values]) -> Values:
    judged = [row["within"] for row in done if "within" in row]
    return {"checks": len(judged), "checks_outside_tolerance": sum(not within for within in judged)}


def _ratios(done: list[Values]) -> Values:
    """Supervised tokens/s of ours over TRL's, of the quickest of each that train the same model; shares of the peak."""
    found: Values = {}
    for section, suffix in (("smollm2", ""), ("7b", "_7b")):
        rows = [row for row in done if row["section"] == section]
        for name, attention in TRL_RATIOS.items():
            # Weights and moments in bfloat16 alone are another training, shown for information.
            theirs = [row for row in rows if row.get("attention") == attention and "moments" not in row["name"]]
            ours = [row for row in rows if row["name"].startswith("ours")]
            if common := {row["model"] for row in theirs} & {row["model"] for row in ours}:
                model = max(common, key=layers_of)
                found[name + suffix] = _quickest(ours, model) / _quickest(theirs, model)
        if utilisations := [row["mfu"] for row in rows if row["name"].startswith("ours") and row["mfu"] is not None]:
            found[f"mfu{suffix or '_smollm2'}"] = max(utilisations)
    for row in done:
        if "metering_overhead" in row:
            found["metering_overhead"] = row["metering_overhead"]
    return found


def _quickest(rows: Iterable[Values], model: str) -> float:
    return max(float(row["supervised_per_second"]) for row in rows if row["model"] == model)


def _extrapolated(done: list[Values], console: Console) -> Values:
    """13B and 70B from two numbers of layers of each: the rest + layers * each layer."""
    table = Table(
        title="Whole models on one GPU, from two numbers of layers", title_justify="left", box=box.SIMPLE_HEAD
    )
    for column in ("", "measured", "the rest + layers * each", "whole model", "planner"):
        table.add_column(column, justify="left" if column in ("", "measured") else "right")
    found: Values = {}
    for size in ("13b", "70b"):
        rows = {layers_of(r["model"]): r for r in done if r["section"] == "layers" and r["name"].startswith(size)}
        if len(rows) < 2:
            continue
        few, many = min(rows), max(rows)
        for label, name, form in (
            ("seconds of a step", "step_seconds", "{:.3f}"),
            ("GiB allocated", "allocated_gib", "{:.1f}"),
        ):
            if name not in rows[few]:  # a CPU's memory is not counted
                continue
            whole, planned = rows[few]["whole_layers"], rows[few].get(f"whole_predicted_{name}")
            each = (rows[many][name] - rows[few][name]) / (many - few)
            rest = rows[few][name] - few * each
            table.add_row(
                f"{size}: {label}",
                ", ".join(f"{count} layers {form.format(rows[count][name])}" for count in (few, many)),
                f"{form.format(rest)} + {whole} * {form.format(each)}",
                form.format(rest + whole * each),
                "" if planned is None else form.format(planned),
            )
            found[f"{name}_{size}"] = rest + whole * each
    if table.row_count:
        console.print(table)
    return found


def _planned(done: list[Values], console: Console) -> Values:
    """Measured peaks beside the planner's; the error is that of what PyTorch allocated."""
    rows = [row for row in done if "allocated_gib" in row and "predicted_allocated_gib" in row]
    if not rows:
        return {}
    table = Table(
        title="Planner: GiB at the peak, by PyTorch's count and of the whole device",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("", "model", "trains", "ZeRO", "recomputed"):
        table.add_column(column)
    for column in 2 * ("measured", "predicted", "error, %"):
        table.add_column(column, justify="right")
    errors = []
    for row in rows:
        both = []
        for what in ("allocated", "device"):
            measured, predicted = row[f"{what}_gib"], row[f"predicted_{what}_gib"]
            error = 100 * (predicted / measured - 1)
            both += [f"{measured:.2f}", f"{predicted:.2f}", f"{error:+.1f}"]
            if what == "allocated":
                errors.append(error)
        kind = (row["model"], row["trains"], str(row["zero_stage"]), _written(row["recomputed"]))
        table.add_row(f"{row['section']}: {row['name']}", *kind, *both)
    console.print(table)
    return {"planner_error_percent": max(errors, key=abs)}
