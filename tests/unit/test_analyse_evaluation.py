"""The page of an evaluation: what it shows, and that text of models is escaped."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agentflan_ray.analyse import plots_evaluation
from agentflan_ray.analyse.sections_evaluation import of_run
from agentflan_ray.analyse.sections_evaluation import write as write_page
from agentflan_ray.cli.compare import add_compare_flags, run
from agentflan_ray.evaluate.benchmark import Metric
from agentflan_ray.evaluate.compare import load
from tests.unit.test_evaluate_compare import METRICS, Made, drawn, write

MADE = Made(metrics=METRICS, protocol="<b>made</b> up")


def page_of(folder: Path, benchmarks: tuple[Made, ...]) -> str:
    for name, rate in {"weak": 0.3, "good": 0.8}.items():
        for benchmark in benchmarks:
            write(folder, name, drawn(rate, error_at=4), benchmark)
    return write_page(load(folder), folder / "evaluation.html").read_text("utf-8")


def test_the_page_shows_models_metrics_cases_and_errors(tmp_path: Path) -> None:
    page = page_of(tmp_path, (MADE,))
    assert "among the best" in page
    assert page.count("weak-weak") > 3
    assert "&lt;b&gt;made&lt;/b&gt; up" in page
    assert "<b>made</b>" not in page
    assert "call (calls)" in page
    assert re.search(r"<td>[\d.]+<small> [\d.]+ to [\d.]+, n 60</small></td>", page)
    assert "Beside the paper" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
    assert page.count("<svg") == 1
    assert "<script" not in page
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", page)


def test_three_common_headlines_make_a_radar(tmp_path: Path) -> None:
    names = ("one", "two", "teval")
    benchmarks = tuple(Made(name=name, metrics=(Metric("overall", "right", scale=100),)) for name in names)
    page = page_of(tmp_path, benchmarks)
    assert "Headlines of the benchmarks that every model has" in page
    assert "Beside the paper" in page
    assert page.count("<svg") == 4
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_scores_that_are_no_shares_are_in_the_tables_alone(tmp_path: Path) -> None:
    page = page_of(tmp_path, (Made(metrics=(Metric("steps", better="low"),)),))
    assert "<svg" not in page
    assert "↓" in page


def test_a_runs_report_has_a_section_where_something_was_evaluated(tmp_path: Path) -> None:
    assert of_run(tmp_path) == []
    write(tmp_path, "good", drawn(0.8), MADE)
    text = "".join(of_run(tmp_path))
    assert "<h3>made</h3>" in text
    assert "<h2" not in text


def test_no_results_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results of an evaluation"):
        load(tmp_path)


def test_the_page_of_two_folders_shows_both_models(tmp_path: Path) -> None:
    for name, rate in {"weak": 0.3, "good": 0.8}.items():
        write(tmp_path / name, name, drawn(rate), MADE)
    page = tmp_path / "page.html"
    parser = argparse.ArgumentParser()
    add_compare_flags(parser)
    run(parser.parse_args([str(tmp_path / "weak"), str(tmp_path / "good"), "--html", str(page)]))
    assert all(f"{name}-{name}" in page.read_text("utf-8") for name in ("weak", "good"))


def test_figures_draw_every_model_and_name() -> None:
    radar = plots_evaluation.radar({"a": {"x": 0.1, "y": 0.5, "z": 1.0}, "b": {"x": 0.4, "y": 0.2, "z": 0.0}})
    assert all(f">{name}<" in radar for name in "xyz")
    row = {"value": 0.5, "low": 0.2, "high": 0.8}
    cases = plots_evaluation.cases(["first", "second"], {"a": {"first": row, "second": row}, "b": {"first": row}}, 3)
    assert "first" in cases
    assert 'id="cases-3-' in cases
