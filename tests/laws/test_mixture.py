"""Laws of the mixture: counting gives the weights, budgets and fractions nest, the impossible is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflan_ray.mixture import (
    PARTS,
    Index,
    Mixture,
    Phase,
    Plan,
    Schedule,
    drop_plan,
    make_plan,
    nested,
    part_names,
    proportional_parts,
    proportional_weights,
    temperature_weights,
)
from agentflan_ray.sample import CASES, COMPONENTS, FORMS, NEGATIVE_CASES


def index_of(num: int, seed: int = 0) -> Index:
    """Like a corpus: chat and cot rows with three capabilities, and rows of one component each, in forms and cases."""
    rng = np.random.default_rng(seed)
    supervised = np.zeros((num, 6), dtype=np.int64)
    kinds = rng.integers(0, 4, num)
    supervised[kinds == 0, :3] = rng.integers(3, 40, (int((kinds == 0).sum()), 3))
    for kind, component in ((1, 3), (2, 4), (3, 5)):
        supervised[kinds == kind, component] = rng.integers(10, 80, int((kinds == kind).sum()))
    keys = np.sort(rng.integers(0, 2**63 - 1, num))
    num_tokens = supervised.sum(axis=1) + rng.integers(20, 100, num)
    natural, explicit = rng.choice([0, 1], num, p=[0.7, 0.3]), rng.choice([2, 3, 4], num, p=[0.6, 0.3, 0.1])
    forms = np.select([kinds == 0, kinds == 1], [natural, explicit], FORMS.index("chat"))
    negatives = [CASES.index(case) for case in NEGATIVE_CASES]
    cases = np.select([kinds < 2, kinds == 3], [CASES.index("tool"), rng.choice(negatives, num)], CASES.index("chat"))
    return Index(keys, num_tokens, supervised, forms.astype(np.int8), cases.astype(np.int8))


INDEX = index_of(4000)
FORM_SHARES = {"react": 0.2, "json": 0.5, "string": 0.3, "chat": 0.4, "cot": 0.6}
CASE_SHARES = {"near_miss": 0.5, "irrelevant_tool": 0.3, "tool_error": 0.2}
weight_lists = st.lists(st.floats(0.05, 1), min_size=6, max_size=6).map(
    lambda values: {name: value / sum(values) for name, value in zip(COMPONENTS, values, strict=True)}
)


def counted(index: Index, rows: np.ndarray, masks: np.ndarray) -> np.ndarray:
    learnt = ((masks[:, None] >> np.arange(6)) & 1) * index.supervised[rows]
    return np.asarray(learnt.sum(axis=0) / learnt.sum())


def pieces_of(plan: Plan, phase: int | None = None) -> list[tuple[int, int]]:
    """(row, component) for each component that is learnt in a row, in the order of the plan."""
    rows = zip(plan.rows.tolist(), plan.masks.tolist(), plan.phases.tolist(), strict=True)
    return [(r, c) for r, mask, p in rows if phase in (None, p) for c in range(6) if mask >> c & 1]


@settings(deadline=None)
@given(weight_lists, st.sampled_from([0.25, 0.5, 1.0]))
def test_counting_the_plan_gives_the_weights_within_one_row(weights: dict[str, float], fraction: float) -> None:
    plan = make_plan(INDEX, Mixture(weights, budget=60_000, fraction=fraction))
    shares = counted(INDEX, plan.rows, plan.masks)
    one_row = 80 / plan.num_supervised
    for name, share in zip(COMPONENTS, shares, strict=True):
        assert plan.realised[name] == pytest.approx(share)
        assert share == pytest.approx(weights[name], abs=2 * one_row)
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum()
    assert 0.97 * 60_000 * fraction < plan.num_tokens <= 60_000 * fraction


@settings(deadline=None, max_examples=25)
@given(weight_lists)
def test_a_fraction_lies_inside_a_larger_one(weights: dict[str, float]) -> None:
    before: set[tuple[int, int]] = set()
    for fraction in (0.25, 0.5, 1.0):
        plan = make_plan(INDEX, Mixture(weights, budget=40_000, fraction=fraction))
        assert (INDEX.keys[plan.rows] < fraction * 2**63).all()
        parts = set(pieces_of(plan))
        assert before <= parts
        before = parts


def test_no_component_that_is_asked_for_is_left_out() -> None:
    weights = dict.fromkeys(COMPONENTS, 1 / 6)
    plan = make_plan(INDEX, Mixture(weights, budget=1_500))
    assert all(plan.realised[name] > 0 for name in COMPONENTS)
    # Two tokens in two thousand are less than half a sample, which would round to none.
    tiny = {"reasoning": 0.999, "negative": 0.001}
    assert make_plan(INDEX, Mixture(tiny, budget=5_000)).realised["negative"] > 0


def test_repeats_are_spread_evenly_and_capped() -> None:
    index = index_of(60)
    weights = proportional_weights(index)
    total = int(index.num_tokens.sum())
    plan = make_plan(index, Mixture(weights, budget=int(2.5 * total), max_repeats=3))
    times = np.bincount(plan.rows, minlength=60)
    assert times.max() == 3
    assert times.min() >= 2
    assert plan.repeats["general"] == pytest.approx(2.5, abs=0.1)


def test_a_budget_beyond_the_cap_is_refused_with_the_numbers_or_capped() -> None:
    index = index_of(600)
    scarce = dict.fromkeys(COMPONENTS, 0.02) | {"retrieval": 0.9}
    with pytest.raises(
        ValueError, match=r"budget of 1,000,000 tokens can't be filled: 90.0% retrieval with at most 4 repeats"
    ):
        make_plan(index, Mixture(scarce, budget=1_000_000))
    plan = make_plan(index, Mixture(scarce, budget=1_000_000, when_short="cap"))
    assert plan.realised["retrieval"] == pytest.approx(0.9, abs=0.02)
    assert plan.repeats["retrieval"] == pytest.approx(4)


def test_a_weight_on_nothing_is_refused() -> None:
    index = INDEX
    empty = replace(index, supervised=index.supervised * np.array([1, 1, 1, 1, 1, 0]))
    with pytest.raises(ValueError, match=r"asks for 50.0% negative, but the corpus holds no supervised negative token"):
        make_plan(empty, Mixture({"negative": 0.5, "general": 0.5}, budget=1000))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"reasoning": 0.5}, "must sum to 1, but .* sum to 0.500000"),
        ({"planning": 1.0}, "Unknown component 'planning'"),
        ({"reasoning": 1.5, "general": -0.5}, "finite and not negative"),
    ],
)
def test_wrong_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(weights, budget=1000)


def test_a_budget_below_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"too small for a single sample"):
        make_plan(INDEX, Mixture(proportional_weights(INDEX), budget=3))


def test_temperature_goes_from_proportional_to_uniform() -> None:
    available = INDEX.supervised.sum(axis=0)
    assert temperature_weights(INDEX, 1) == pytest.approx(proportional_weights(INDEX))
    assert temperature_weights(INDEX, 1e12) == pytest.approx(dict.fromkeys(COMPONENTS, 1 / 6))
    halved = temperature_weights(INDEX, 2)
    assert halved["reasoning"] / halved["negative"] == pytest.approx((available[0] / available[5]) ** 0.5)
    assert max(temperature_weights(INDEX, 1e-3).values()) == pytest.approx(1)
    without = replace(INDEX, supervised=INDEX.supervised * np.array([1, 0, 1, 1, 1, 1]))
    assert temperature_weights(without, float("inf")) == pytest.approx(
        {name: 0.0 if name == "retrieval" else 0.2 for name in COMPONENTS}
    )
    with pytest.raises(ValueError, match="The temperature is 0, but must be above 0"):
        temperature_weights(INDEX, 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(weight_lists, min_size=1, max_size=4), st.integers(8_000, 400_000))
def test_phases_go_on_where_the_one_before_stopped(weights: list[dict[str, float]], budget: int) -> None:
    """No part of a sample is learnt a second time before its component was learnt whole, and never beyond the cap."""
    phases = tuple(Phase(1 / len(weights), each) for each in weights)
    plan = make_plan(INDEX, Schedule(phases, budget, max_repeats=3, when_short="cap"))
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum() <= budget
    assert plan.phases.tolist() == sorted(plan.phases.tolist())
    assert sum(each.num_tokens for each in plan.by_phase) == plan.num_tokens
    for number, phase in enumerate(phases):
        rows = plan.rows[plan.phases == number]
        used = int(INDEX.num_tokens[plan.rows[plan.phases <= number]].sum())
        assert used <= budget * (number + 1) / len(weights) + 1
        if not len(rows):
            continue
        shares = counted(INDEX, rows, plan.masks[plan.phases == number])
        for name, share in zip(COMPONENTS, shares, strict=True):
            assert plan.by_phase[number].realised[name] == pytest.approx(share)
            assert share == pytest.approx(phase.weights[name], abs=2 * 80 / plan.by_phase[number].num_supervised)
    for component in range(6):
        holders = np.flatnonzero(INDEX.supervised[:, component]).tolist()
        read = [row for row, each in pieces_of(plan) if each == component]
        # Read in the stable order, over and over: a prefix of the corpus repeated up to the cap.
        assert sorted(read) == sorted((holders * 3)[: len(read)])
        if len(read) <= len(holders):
            assert read == holders[: len(read)]
            assert plan.unread[COMPONENTS[component]] == INDEX.supervised[holders[len(read) :], component].sum()
        else:
            assert plan.unread[COMPONENTS[component]] == 0


@settings(deadline=None, max_examples=20)
@given(weight_lists, st.integers(8_000, 100_000))
def test_equal_phases_learn_no_more_than_one_phase_does(weights: dict[str, float], budget: int) -> None:
    """A sample whose components are learnt in different phases is read in each, so that phases learn somewhat less."""
    once = make_plan(INDEX, Mixture(weights, budget))
    thrice = make_plan(INDEX, Schedule(tuple(Phase(1 / 3, weights) for _ in range(3)), budget))
    assert set(once.phases.tolist()) == {0}
    assert once.by_phase[0].asked == pytest.approx(weights)
    assert thrice.asked == pytest.approx(weights)
    assert len(set(pieces_of(thrice)) - set(pieces_of(once))) <= 6  # one of each component by rounding
    assert 0.6 * once.num_supervised < thrice.num_supervised <= once.num_supervised + 6 * 80


def test_a_schedule_that_runs_dry_is_refused_with_the_phase() -> None:
    index = index_of(600)
    only = Phase(0.5, {"negative": 1.0})
    with pytest.raises(
        ValueError,
        match=r"budget of phase 2 of [\d,]+ tokens can't be filled: 100.0% negative .* lasts for [\d,]+ tokens",
    ):
        make_plan(index, Schedule((only, only), 40_000, max_repeats=2))
    tokens = int(index.num_tokens[index.supervised[:, 5] > 0].sum())
    with pytest.raises(
        ValueError, match=r"of phase 2 asks for 100.0% negative, but the phases before it have read its [\d,]+ superv"
    ):
        make_plan(index, Schedule((Phase(0.5, {"negative": 1.0}), only), 2 * tokens, max_repeats=1, when_short="cap"))
    with pytest.raises(ValueError, match=r"phases' shares must sum to 1, but \[0.5, 0.25\] sum to 0.750000"):
        Schedule((only, Phase(0.25, {"negative": 1.0})), 1000)
    with pytest.raises(ValueError, match=r"The share of a phase is 0, but must lie in"):
        Phase(0, {"negative": 1.0})


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from([0.5, 1.0]))
def test_dropping_keeps_the_part_asked_for_and_the_rest_whole(first: float, second: float, fraction: float) -> None:
    plan = drop_plan(INDEX, {"reasoning": 1, "retrieval": first, "understanding": second}, fraction)
    eligible = INDEX.keys < fraction * 2**63
    available = INDEX.supervised[eligible].sum(axis=0)
    kept = np.array([plan.realised[name] for name in COMPONENTS]) * plan.num_supervised
    for name, tokens, all_tokens, part in zip(COMPONENTS, kept, available, (1, first, second, 1, 1, 1), strict=True):
        assert tokens == pytest.approx(part * all_tokens, abs=40)
        assert plan.unread[name] == pytest.approx(all_tokens - tokens, abs=1e-6)
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum() <= INDEX.num_tokens[eligible].sum()
    assert len(set(plan.rows.tolist())) == len(plan.rows)


def test_a_smaller_ratio_learns_a_part_of_what_a_larger_one_does_and_reads_no_more() -> None:
    before: set[tuple[int, int]] = set()
    tokens = 0
    for ratio in (0.0, 0.25, 0.75, 1.0):
        ratios = {"reasoning": ratio, "retrieval": ratio, "understanding": ratio, "instruction": 1.0}
        plan = drop_plan(INDEX, ratios)
        parts = set(pieces_of(plan))
        assert before <= parts
        assert tokens < plan.num_tokens
        before, tokens = parts, plan.num_tokens
    assert plan.num_tokens == INDEX.num_tokens.sum()
    assert set(plan.unread.values()) == {0}


@pytest.mark.parametrize(
    ("ratios", "sentence"),
    [
        ({"planning": 1.0}, "Unknown component 'planning' in the ratios; there are reasoning"),
        ({"reasoning": -1.0, "general": 1.0}, "Ratios must be finite, not negative, and one of them above 0"),
        ({}, "Ratios must be finite"),
    ],
)
def test_wrong_ratios_are_refused(ratios: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        drop_plan(INDEX, ratios)


# ---- forms, cases, epochs, rungs ------------------------------------------------------------------------------------


def parts_counted(index: Index, plan: Plan, phase: int | None = None) -> dict[str, float]:
    """Shares of the supervised tokens by form or case, counted row by row."""
    found: Counter[str] = Counter()
    for row, component in pieces_of(plan, phase):
        name = COMPONENTS[component]
        label = CASES[index.cases[row]] if name == "negative" else FORMS[index.forms[row]]
        found[f"{name}/{label}" if name in PARTS else name] += int(index.supervised[row, component])
    return {name: count / found.total() for name, count in found.items()}


def simplex(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, float]]:
    return st.lists(st.floats(0.1, 1), min_size=len(names), max_size=len(names)).map(
        lambda values: {name: value / sum(values) for name, value in zip(names, values, strict=True)}
    )


@settings(deadline=None, max_examples=40)
@given(
    weight_lists,
    st.none() | simplex(("react", "json", "string")),
    st.none() | simplex(("chat", "cot")),
    st.none() | simplex(NEGATIVE_CASES),
)
def test_forms_and_cases_are_met_within_their_components(
    weights: dict[str, float],
    explicit: dict[str, float] | None,
    natural: dict[str, float] | None,
    cases: dict[str, float] | None,
) -> None:
    forms = {**(explicit or {}), **(natural or {})} or None
    mixture = Mixture(weights, budget=60_000, max_repeats=30, forms=forms, cases=cases)
    plan = make_plan(INDEX, mixture)
    one_row = 80 / plan.num_supervised
    found = parts_counted(INDEX, plan)
    assert {name: share for name, share in plan.realised_parts.items() if share} == pytest.approx(found)
    assert sum(plan.realised_parts.values()) == pytest.approx(1)
    for name in COMPONENTS:
        within = sum(plan.realised_parts[part] for part in part_names(name))
        assert within == pytest.approx(plan.realised[name]) == pytest.approx(weights[name], abs=6 * one_row)
    asked = {f"instruction/{form}": weights["instruction"] * share for form, share in (explicit or {}).items()}
    for name in ("reasoning", "retrieval", "understanding"):
        asked |= {f"{name}/{form}": weights[name] * share for form, share in (natural or {}).items()}
    asked |= {f"negative/{case}": weights["negative"] * share for case, share in (cases or {}).items()}
    assert plan.asked_parts == pytest.approx(asked)
    for name, share in asked.items():
        assert plan.realised_parts[name] == pytest.approx(share, abs=2 * one_row)
    assert 0.97 * 60_000 < plan.num_tokens <= 60_000
    if forms is None and cases is None:
        assert plan.rows.tolist() == make_plan(INDEX, Mixture(weights, 60_000, 1.0, 30)).rows.tolist()


def test_a_form_or_case_without_a_share_is_not_read() -> None:
    plan = make_plan(INDEX, Mixture(proportional_weights(INDEX), 60_000, forms={"json": 1.0}, cases={"tool_error": 1}))
    assert {FORMS[INDEX.forms[row]] for row, component in pieces_of(plan) if component == 3} == {"json"}
    assert {CASES[INDEX.cases[row]] for row, component in pieces_of(plan) if component == 5} == {"tool_error"}
    assert {FORMS[INDEX.forms[row]] for row, component in pieces_of(plan) if component < 3} == {"chat", "cot"}


def test_the_corpus_has_its_own_shares_of_forms_and_cases() -> None:
    """Asking for what the corpus has reads, to a row of each part, what it reads undivided."""
    parts = proportional_parts(INDEX)
    weights = proportional_weights(INDEX)
    assert sum(parts.values()) == pytest.approx(1)
    for name in COMPONENTS:
        assert sum(parts[part] for part in part_names(name)) == pytest.approx(weights[name])
    explicit = {form: parts[f"instruction/{form}"] / weights["instruction"] for form in ("react", "json", "string")}
    plan = make_plan(INDEX, Mixture(weights, int(INDEX.num_tokens.sum()) // 2, forms=explicit))
    whole = make_plan(INDEX, Mixture(weights, int(INDEX.num_tokens.sum()) // 2))
    assert len(set(pieces_of(plan)) ^ set(pieces_of(whole))) < 0.05 * len(pieces_of(whole))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"forms": {"yaml": 1.0}},
            "Unknown form 'yaml' in the forms of the mixture; there are react, json, string, ch",
        ),
        ({"cases": {"tool": 1.0}}, "Unknown case 'tool' in the cases of the mixture; there are no_tool_request"),
        ({"forms": {"react": 0.5, "json": 0.3}}, r"forms react, json, string must sum to 1, but .* sum to 0.800000"),
        ({"forms": {"chat": 0.5, "react": 1.0}}, r"forms chat, cot must sum to 1, but \{'chat': 0.5\} sum to 0.5"),
        ({"cases": {"near_miss": 1.5, "tool_error": -0.5}}, "Shares of cases must be finite and not negative"),
        ({"epochs": 5}, r"epochs is 5, but must lie between 1 and max_repeats \(4\)"),
        ({"epochs": 0}, "epochs is 0, but must lie between 1"),
    ],
)
def test_wrong_parts_and_epochs_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(proportional_weights(INDEX), 1000, **arguments)  # type: ignore[arg-type]


def test_a_form_or_case_that_the_corpus_lacks_is_refused() -> None:
    weights = proportional_weights(INDEX)
    without = replace(INDEX, forms=np.where(INDEX.forms == FORMS.index("json"), FORMS.index("react"), INDEX.forms))
    with pytest.raises(ValueError, match=r"asks for [\d.]+% instruction/json, but .* give json the share 0"):
        make_plan(without, Mixture(weights, 60_000, forms={"json": 0.5, "react": 0.5}))
    only = replace(INDEX, cases=np.where(INDEX.supervised[:, 5] > 0, CASES.index("near_miss"), INDEX.cases))
    with pytest.raises(ValueError, match=r"holds no supervised negative/tool_error token at fraction 0.5;"):
        make_plan(only, Mixture(weights, 60_000, fraction=0.5, cases={"tool_error": 1.0}))
    unasked = dict.fromkeys(COMPONENTS, 0.2) | {"negative": 0.0}
    assert make_plan(only, Mixture(unasked, 60_000, cases={"tool_error": 1.0})).realised["negative"] == 0
    scarce = dict.fromkeys(COMPONENTS, 0.05) | {"instruction": 0.75}
    with pytest.raises(ValueError, match=r"can't be filled: 75.0% instruction/string with at most 4 repeats of the"):
        make_plan(INDEX, Mixture(scarce, 600_000, forms={"string": 1.0}))


@settings(deadline=None, max_examples=25)
@given(weight_lists, st.integers(2, 4), st.sampled_from([0.25, 1.0]), st.booleans())
def test_epochs_read_a_smaller_part_of_the_same_budget_again(
    weights: dict[str, float], epochs: int, fraction: float, divided: bool
) -> None:
    parts = {"forms": FORM_SHARES, "cases": CASE_SHARES} if divided else {}
    mixture = Mixture(weights, 60_000, fraction, 12, **parts)  # type: ignore[arg-type]
    plan = make_plan(INDEX, replace(mixture, epochs=epochs))
    assert plan.num_tokens == INDEX.num_tokens[plan.rows].sum()
    assert 0.9 * 60_000 * fraction < plan.num_tokens <= 60_000 * fraction
    assert plan.phases.tolist() == sorted(plan.phases.tolist())
    once = make_plan(INDEX, Mixture(weights, 60_000 * 4 // (4 * epochs), fraction, 12 // epochs, **parts))  # type: ignore[arg-type]
    for number in range(epochs):
        assert plan.rows[plan.phases == number].tolist() == once.rows.tolist()
        assert plan.masks[plan.phases == number].tolist() == once.masks.tolist()
    assert len(plan.by_phase) == epochs
    assert plan.realised == pytest.approx(once.realised)
    assert plan.repeats == pytest.approx({name: epochs * times for name, times in once.repeats.items()})


def test_epochs_are_held_to_the_cap() -> None:
    """Negatives that last for 1.5 reads of each of 2 passes are 3 repeats: within a cap of 4, not within one of 3."""
    tokens = int(INDEX.num_tokens[INDEX.supervised[:, 5] > 0].sum())
    mixture = Mixture({"negative": 1.0}, 3 * tokens, max_repeats=4, epochs=2)
    assert make_plan(INDEX, mixture).repeats["negative"] == pytest.approx(3, abs=0.05)
    with pytest.raises(
        ValueError, match=r"budget of each of the 2 epochs of [\d,]+ tokens can't be filled: .* most 1 re"
    ):
        make_plan(INDEX, replace(mixture, max_repeats=3))


RUNGS = st.sampled_from([(0.25, 0.5, 1.0), (0.125, 1.0), (0.5, 0.75, 1.0), (1.0,)])


@settings(deadline=None, max_examples=25)
@given(weight_lists, RUNGS, st.booleans(), st.integers(1, 3), st.sampled_from([60_000, 300_000]))
def test_nested_increments(
    weights: dict[str, float], rungs: tuple[float, ...], divided: bool, epochs: int, budget: int
) -> None:
    parts = {"forms": FORM_SHARES, "cases": CASE_SHARES} if divided else {}
    mixture = Mixture(weights, budget, 1.0, 60, epochs=epochs, **parts)  # type: ignore[arg-type]
    plan = make_plan(INDEX, nested(mixture, rungs))
    assert len(plan.by_phase) == len(rungs) * epochs
    learnt: Counter[tuple[int, int]] = Counter()
    for number, rung in enumerate(rungs):
        passes = range(number * epochs, (number + 1) * epochs)
        trial = make_plan(INDEX, replace(mixture, fraction=rung))
        until = plan.phases <= passes[-1]
        # Nestedness and budget: of the trajectories of the fraction, up to its part of the budget.
        assert (INDEX.keys[plan.rows[until]] < rung * 2**63).all()
        read = int(INDEX.num_tokens[plan.rows[until]].sum())
        assert 0.97 * budget * rung - epochs * 200 < read <= budget * rung
        # As much is learnt as by a trial at that fraction, but for the samples that each phase ends in the midst of;
        # and the first rung is that trial, row for row.
        supervised = sum(shares.num_supervised for shares in plan.by_phase[: passes[-1] + 1])
        begun = 16 * 80 // 2  # half a sample of each form and case
        tolerance = 0.04 * trial.num_supervised + epochs * (number + 1) * begun
        assert supervised == pytest.approx(trial.num_supervised, abs=tolerance)
        if number == 0:
            assert plan.rows[until].tolist() == trial.rows.tolist()
            assert plan.masks[until].tolist() == trial.masks.tolist()
        # The shares at the rung, of components and of their parts.
        one_row = 80 * epochs / supervised
        shares = counted(INDEX, plan.rows[until], plan.masks[until])
        for name, share in zip(COMPONENTS, shares, strict=True):
            assert share == pytest.approx(weights[name], abs=4 * one_row)
        # Nothing is learnt once more before all that may be read was learnt as often: round by round.
        now = Counter(piece for each in passes for piece in pieces_of(plan, each))
        learnt += now
        for component in range(6) if not divided else ():
            holders = np.flatnonzero((INDEX.supervised[:, component] > 0) & (INDEX.keys < rung * 2**63)).tolist()
            fewest = min(learnt[row, component] for row in holders)
            again = [learnt[row, component] for row, each in now if each == component]
            assert max(again, default=0) <= fewest + epochs
    if rungs == (1.0,):
        whole = make_plan(INDEX, mixture)
        assert plan.rows.tolist() == whole.rows.tolist()
        assert plan.by_phase == whole.by_phase


def test_what_a_rung_adds_is_read_once_for_all_that_it_teaches() -> None:
    """Components with unlike shares in the same samples: going on where each stopped would read samples twice."""
    weights = {"reasoning": 0.6, "retrieval": 0.1, "understanding": 0.3}
    mixture = Mixture(weights, int(INDEX.num_tokens[INDEX.supervised[:, 0] > 0].sum()) // 2)
    plan = make_plan(INDEX, nested(mixture, (0.25, 0.5, 1.0)))
    assert len(set(plan.rows.tolist())) == len(plan.rows)
    assert plan.num_supervised > 0.98 * make_plan(INDEX, mixture).num_supervised


def test_many_small_rungs_keep_the_shares() -> None:
    """Each begins with a place of its own in every component; the shares are still those of all that was read."""
    weights = dict(zip(COMPONENTS, (0.5, 0.15, 0.2, 0.05, 0.05, 0.05), strict=True))
    rungs = tuple(number / 10 for number in range(1, 11))
    plan = make_plan(INDEX, nested(Mixture(weights, 20_000), rungs))
    for number in range(10):
        until = plan.phases <= number
        supervised = sum(shares.num_supervised for shares in plan.by_phase[: number + 1])
        shares = counted(INDEX, plan.rows[until], plan.masks[until])
        assert shares == pytest.approx(list(weights.values()), abs=80 / supervised)


@pytest.mark.parametrize("rungs", [(), (0.5,), (0.5, 0.25, 1.0), (0.5, 0.5, 1.0), (0.0, 1.0), (0.5, 1.5)])
def test_rungs_that_do_not_ascend_to_the_whole_are_refused(rungs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Rungs must ascend from above 0 to 1, but are"):
        nested(Mixture(proportional_weights(INDEX), 1000), rungs)


def test_a_plan_has_a_number_of_stretches_that_a_byte_holds() -> None:
    phases = (Phase(0.01, {"general": 1.0}),) * 100
    with pytest.raises(ValueError, match="100 phases of 2 epochs make 200 stretches"):
        Schedule(phases, 1000, epochs=2)
    with pytest.raises(ValueError, match="fraction of a phase is 2, but"):
        Phase(1.0, {"general": 1.0}, fraction=2)
