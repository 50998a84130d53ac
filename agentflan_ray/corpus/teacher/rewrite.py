"""A teacher's replies in the place of those from patterns, where they may be learnt; and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from rich.console import Console

from agentflan_ray.corpus.parts import counting_bar
from agentflan_ray.corpus.teacher.recipe import TeacherRecipe
from agentflan_ray.corpus.teacher.rejection import reject, tidy
from agentflan_ray.corpus.teacher.replies import Failure, Reply, ReplyFiles, Teacher
from agentflan_ray.corpus.teacher.request import Request, request_for
from agentflan_ray.randomness import stable_share
from agentflan_ray.sample import Part, Sample, Turn
from agentflan_ray.toolbox.tasks import SOURCE as TOOLBOX

MAX_FAILED = 0.2
"""Above this share of requests without a reply the run stops: most of the corpus would be written from patterns."""

MAX_FAILED_AT_FIRST = 20
"""So many failures before the first reply stop it at once: the endpoint is not there."""

WORDS = ("general", "reasoning")
"""What a reply in plain words is tagged with: talk, or what follows from a tool's result."""

REPORT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("case", pa.string()),
        ("written_by", pa.string()),
        ("reason", pa.string()),
        ("reply", pa.string()),
        ("cached", pa.bool_()),
        ("tokens_in", pa.int64()),
        ("tokens_out", pa.int64()),
        ("cost", pa.float64()),
    ]
)
"""One row for each sample that a teacher was to rewrite. ``written_by`` is ``teacher``, or ``pattern`` with the
``reason``: a rule of :mod:`rejection`, or ``endpoint_error``. ``reply`` is what the teacher wrote, accepted or not, or
how it failed. Tokens and ``cost`` (US dollars; null where it is not known) are those of the reply, whenever it was
paid for, and stand with the first of the samples that share a request; ``cached`` says that nothing was asked now."""


@dataclass(frozen=True)
class TeacherReport:
    """What became of each sample that a teacher was to rewrite."""

    rows: pa.Table
    """Of :data:`REPORT_SCHEMA`."""

    @classmethod
    def of(cls, reports: Sequence[TeacherReport]) -> TeacherReport:
        """Several reports as one."""
        return cls(pa.concat_tables([REPORT_SCHEMA.empty_table(), *(report.rows for report in reports)]))

    def totals(self) -> dict[str, Any]:
        """Counts for a manifest. ``cost`` is that of all replies, ``cost_now`` of those that were asked for this time;
        both are None where the endpoint has no prices."""
        rows = self.rows.to_pylist()
        asked = [row for row in rows if not row["cached"]]
        rejected = Counter((row["case"], row["reason"]) for row in rows if row["reason"] is not None)
        return {
            "chosen": len(rows),
            "asked": len(asked),
            "cached": len(rows) - len(asked),
            "accepted": sum(row["written_by"] == "teacher" for row in rows),
            "accepted_by_case": dict(sorted(Counter(r["case"] for r in rows if r["reason"] is None).items())),
            "rejected": [
                {"case": case, "reason": reason, "count_all": number}
                for (case, reason), number in sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
            ],
            "tokens_in": sum(row["tokens_in"] or 0 for row in rows),
            "tokens_out": sum(row["tokens_out"] or 0 for row in rows),
            "cost": _sum_of_costs(rows),
            "cost_now": _sum_of_costs(asked),
        }


def rewrite(
    samples: pa.Table, recipe: TeacherRecipe, teacher: Teacher, replies_uri: str, console: Console
) -> tuple[pa.Table, TeacherReport]:
    """The same rows with the last turn of the chosen samples in the teacher's words.

    ``samples`` has the columns of SAMPLE_SCHEMA and may have more; rows with a null ``turns`` are passed on. Replies
    are kept below ``replies_uri`` as they arrive, so that a run that is cut off pays only for what is missing.

    Raises ``ValueError`` where more than :data:`MAX_FAILED` of the chosen ones got no reply, and as the teacher does.
    """
    chosen = _choose(samples, recipe)
    requests = {number: request_for(sample, recipe) for number, sample in chosen.items()}
    distinct = {request.key: request for request in requests.values()}
    files = ReplyFiles(replies_uri)
    kept = files.find(list(distinct))
    missing = [request for key, request in distinct.items() if key not in kept]
    outcomes: dict[str, Reply | Failure] = {**kept, **_ask(missing, len(distinct), recipe, teacher, files, console)}

    turns = samples["turns"].to_pylist()
    rows: list[dict[str, Any]] = []
    counted: set[str] = set(kept)
    paid: set[str] = set()
    for number, sample in chosen.items():
        key = requests[number].key
        row, rewritten = _judge(sample, outcomes[key])
        reply = outcomes[key]
        if isinstance(reply, Reply) and key not in paid:
            row |= {"tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out, "cost": teacher.cost(reply)}
        rows.append({**row, "cached": key in counted})
        counted.add(key)
        paid.add(key)
        turns[number] = rewritten.to_row()["turns"]
    table = samples.set_column(samples.schema.get_field_index("turns"), "turns", pa.array(turns, pa.string()))
    return table, TeacherReport(pa.Table.from_pylist(rows, REPORT_SCHEMA))


def may_be_rewritten(sample: Sample) -> bool:
    """Whether patterns wrote the sample's last turn, and nothing else of it is learnt.

    A conversation in which the assistant tries a failed tool again and gets its result ends in a real answer, and
    questions for a missing argument are a real dialogue's own, but for the toolbox's.
    """
    *before, last = sample.turns
    is_real = sample.case == "missing_argument" and sample.source != TOOLBOX
    is_learnt_before = any(part.capability for turn in before for part in turn.parts)
    return not (is_real or is_learnt_before) and len(last.parts) == 1 and last.parts[0].capability in WORDS


def _choose(samples: pa.Table, recipe: TeacherRecipe) -> dict[int, Sample]:
    """Row numbers and samples of those to rewrite."""
    chosen: dict[int, Sample] = {}
    columns = (samples[name].to_pylist() for name in ("id", "form", "case", "turns"))
    for number, (identity, form, case, turns) in enumerate(zip(*columns, strict=True)):
        if form != "chat" or case not in recipe.cases or turns is None:
            continue
        if stable_share(recipe.seed, "teacher", identity) < recipe.share:
            sample = Sample.from_row(samples.slice(number, 1).to_pylist()[0])
            if may_be_rewritten(sample):
                chosen[number] = sample
    return chosen


def _ask(
    missing: Sequence[Request],
    num_distinct: int,
    recipe: TeacherRecipe,
    teacher: Teacher,
    files: ReplyFiles,
    console: Console,
) -> dict[str, Reply | Failure]:
    """Outcomes of the requests that no file answers; each reply is kept as it arrives."""
    outcomes: dict[str, Reply | Failure] = {}
    if not missing:
        return outcomes
    failures: list[Failure] = []
    with counting_bar(console) as progress:
        bar = progress.add_task(f"Asking {recipe.model}", total=len(missing))
        for key, outcome in teacher.answer(missing, recipe):
            outcomes[key] = outcome
            progress.advance(bar)
            if isinstance(outcome, Reply):
                files.keep(key, outcome, recipe.model)
                continue
            failures.append(outcome)
            is_dead = len(failures) == len(outcomes) >= MAX_FAILED_AT_FIRST
            if is_dead or len(failures) > MAX_FAILED * num_distinct:
                raise ValueError(
                    f"{len(failures)} of {num_distinct} requests to the teacher {recipe.model!r} failed "
                    f"({MAX_FAILED:.0%} may); the last one with: {outcome.sentence}. Mend that and run the same "
                    f"command again: the replies so far are kept in {files.uri}."
                )
    return outcomes


def _judge(sample: Sample, outcome: Reply | Failure) -> tuple[dict[str, Any], Sample]:
    """The beginning of the sample's row in the report, and the sample as it goes on."""
    row: dict[str, Any] = {"id": sample.id, "case": sample.case, "cost": 0.0}
    if isinstance(outcome, Failure):
        return {**row, "written_by": "pattern", "reason": "endpoint_error", "reply": outcome.sentence}, sample
    text = tidy(outcome.text)
    reason = reject(sample, text)
    if reason is not None:
        return {**row, "written_by": "pattern", "reason": reason, "reply": text}, sample
    reply = Turn("assistant", (Part(text, sample.turns[-1].parts[0].capability),))
    rewritten = replace(sample, turns=(*sample.turns[:-1], reply))
    return {**row, "written_by": "teacher", "reason": None, "reply": text}, rewritten


def _sum_of_costs(rows: Sequence[dict[str, Any]]) -> float | None:
    """None where some reply's cost is not known."""
    costs = [row["cost"] for row in rows]
    return None if None in costs else round(sum(costs), 6)
