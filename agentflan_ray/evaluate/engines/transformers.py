"""Continuous batching of a transformers model, on a CPU or one GPU.

A row of the batch is a conversation being answered. Rows that are done leave after each forward pass and waiting ones
join it, so the batch stays full while replies have unequal lengths. A pass takes one token of each row that is being
answered, and with them up to ``chunk`` tokens of new prompts: no padding is computed
(:mod:`~agentflan_ray.evaluate.engines.attention`). Keys and values of finished conversations stay until their place is
needed; a prompt that begins like one of them (the next turn of an episode, the same examples before another question)
computes only what is new.

Decoding is greedy. In float32 the rows of a pass change each other's numbers by rounding alone; where two tokens are
likely to the last digits, another batch may choose the other one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agentflan_ray.evaluate.benchmark import Finish, Reply, Request
from agentflan_ray.evaluate.engines.attention import POOLED, Pool, Span, Step
from agentflan_ray.evaluate.engines.pool import Ranges
from agentflan_ray.evaluate.engines.prompts import Choices, Prompter, Tokens, common_beginning
from agentflan_ray.evaluate.memory import free_memory
from agentflan_ray.tokens.tokenizer import load_tokenizer

_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}

_LONGEST = 16_384
"""Tokens of a conversation unless more is asked for: models name limits of up to ten million."""

_WORTH_WAITING = 32
"""Tokens of a beginning that another row is just computing, for which a prompt waits a pass or more. Below it stands
what most prompts of a model share anyway, such as a default system text."""

_CPU_MEMORY = 4 * 2**30
"""What is reserved is taken as it is written to: of several engines on a machine each sees all of it free."""

SHARED_CPU_GIB = 2.0
"""``memory_gib`` of an engine on a CPU that others share: copies of it, trials."""

_KEPT_ROWS = 256
"""Finished conversations kept at most. Looking for a common beginning takes about 3 µs for each."""


@dataclass(frozen=True)
class TransformersSettings:
    """How the engine runs. The first three decide replies and are identity.

    Attributes:
        max_length: Tokens of prompt and reply together; None takes the model's own limit, 16,384 at most, and with
            longrope no more than it was first trained with.
        seconds_per_reply: A reply is cut off after this time in the batch.
        template: Name of a chat template, for a model without one.
        num_slots: Rows answered at once; None is 64 on a CPU, 128 on a GPU.
        chunk: Tokens of new prompts in one pass; None is 512 on a CPU, 4,096 on a GPU.
        memory_gib: For keys and values; None is 60 % of what is free on a GPU, and on a CPU a quarter, 4 GiB at most.
            One conversation of ``max_length`` always fits.
    """

    max_length: int | None = None
    seconds_per_reply: float | None = None
    template: str | None = None
    num_slots: int | None = None
    chunk: int | None = None
    memory_gib: float | None = None


@dataclass(frozen=True)
class TransformersPlan:
    """The engine of a model folder or hub id, loaded when it is opened.

    ``fingerprint`` identifies its content. ``dtype`` is ``float32`` or ``bfloat16``, and is named where another machine
    opens the engine. None is bfloat16 where this machine has a GPU and else float32, also on a CPU that is quicker in
    bfloat16: there 9 of 22 replies of a tuned SmolLM2-135M depended on their batch, in float32 none of 30.
    """

    path: str
    fingerprint: str
    settings: TransformersSettings = field(default_factory=TransformersSettings)
    dtype: str | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """See :meth:`agentflan_ray.evaluate.engine.Plan.identity`."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.path, trust_remote_code=False)
        return _identity(config, self.fingerprint, self._torch_dtype(), self.settings)

    def open(self) -> TransformersEngine:
        """Load model and tokenizer, on a GPU where there is one."""
        from transformers import AutoModelForCausalLM

        tokenizer = load_tokenizer(self.path, self.settings.template)
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.path, dtype=self._torch_dtype(), use_safetensors=True, trust_remote_code=False
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return TransformersEngine(model.to(device), tokenizer, self.fingerprint, self.settings)

    def _torch_dtype(self) -> torch.dtype:
        name = self.dtype or default_dtype(torch.cuda.is_available())
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def default_dtype(on_gpu: bool) -> str:
    """The number format unless another is asked for."""
    return "bfloat16" if on_gpu else "float32"


@dataclass
class Work:
    """What the engine has done so far."""

    passes: int = 0
    rows: int = 0
    """Rows that had a part in a pass, summed over passes."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Tokens of prompts that were not computed again."""
    new_tokens: int = 0
    busy_seconds: float = 0.0

    def occupancy(self, num_slots: int) -> float:
        """Share of the slots that had work, over all passes."""
        return self.rows / (self.passes * num_slots) if self.passes else 0.0


@dataclass
class _Weighing:
    """Choices being weighed: their log-likelihoods, and how many rows still compute one."""

    logprobs: list[float]
    rows_left: int


@dataclass(eq=False)
class _Row:
    """A conversation in the batch, or waiting for a place in it.

    ``tokens[:known]`` are given or chosen, ``computed`` of them lie in the pool. With ``targets`` nothing is chosen:
    ``(choice, its tokens)`` are looked up in the distributions from position ``known - len(target)`` on.
    """

    request: Request
    future: Future[Reply]
    tokens: Tokens
    known: int
    num_prompt: int
    targets: list[tuple[int, Tokens]] = field(default_factory=list)
    weighing: _Weighing | None = None
    first_needed: int = 0
    start: int = -1
    computed: int = 0
    deadline: float = float("inf")
    pieces: list[torch.Tensor] = field(default_factory=list)

    @property
    def prompt(self) -> Tokens:
        return self.tokens[: self.known]


@dataclass(eq=False)
class _Kept:
    """Keys and values that stay after their row is done."""

    start: int
    length: int
    tokens: Tokens


class TransformersEngine:
    """The engine of a loaded model. ``close`` leaves the model as it was found.

    Args:
        model: A causal language model of transformers, on its device.
        tokenizer: Its tokenizer, with a chat template.
        name: What identifies the model's content, such as ``agentflan_ray.train.models.fingerprint``.
        settings: See :class:`TransformersSettings`.

    Raises ``ValueError`` for a model that does not attend to earlier tokens in the ordinary way, and for one whose
    logits are not numbers.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, settings: TransformersSettings | None = None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._prompter = Prompter(tokenizer)
        self._settings = settings or TransformersSettings()
        self.identity: Mapping[str, Any] = _identity(model.config, name, model.dtype, self._settings)
        self._max_length: int = self.identity["max_length"]
        on_gpu = model.device.type == "cuda"
        self._num_slots = self._settings.num_slots or (128 if on_gpu else 64)
        self._chunk = self._settings.chunk or (4096 if on_gpu else 512)
        self.work = Work()
        self._ends = frozenset(_end_tokens(tokenizer, model))
        self._found_attention: str = model.config._attn_implementation
        self._was_training: bool = model.training
        model.eval()
        try:
            self._pool = self._make_pool()
        except BaseException:
            self._restore()
            raise
        self._ranges = Ranges(self._pool.places)
        self._inbox: queue.SimpleQueue[tuple[Request, Future[Reply]] | None] = queue.SimpleQueue()
        self._waiting: deque[_Row] = deque()
        self._active: list[_Row] = []
        self._kept: deque[_Kept] = deque()  # the most recently used last
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_slots(self) -> int:
        """Rows answered at once."""
        return self._num_slots

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.submit`."""
        future: Future[Reply] = Future()
        if self._failure is not None:
            future.set_exception(self._failure)
        elif self._closed:
            raise ValueError("The engine is closed; nothing can be asked any more.")
        else:
            self._inbox.put((request, future))
        return future

    def close(self) -> None:
        """See :meth:`agentflan_ray.evaluate.engine.Engine.close`."""
        if not self._closed:
            self._closed = True
            self._inbox.put(None)
            self._thread.join()
            self._restore()

    def _restore(self) -> None:
        self._model.set_attn_implementation(self._found_attention)
        self._model.train(self._was_training)

    def _make_pool(self) -> Pool:
        """The pool for keys and values, once a few tokens computed in two passes came out as in one."""
        model = self._model
        name = type(model).__name__
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        wrong = ValueError(
            f"{name} does not attend to earlier tokens in the way that this engine keeps them; use --engine vllm."
        )
        if model._is_stateful or kinds - _ATTENTION_LAYERS or not model.is_backend_compatible():
            raise wrong
        ids = torch.arange(5, 13, device=model.device)[None] % model.config.get_text_config().vocab_size
        with torch.inference_mode():
            expected = model(input_ids=ids, use_cache=False).logits[0, -1].float()
            if not torch.isfinite(expected).all():
                raise ValueError(
                    f"The model's weights ({name}, {model.dtype}) give NaN or infinite logits for a few tokens; did "
                    "its training diverge? Take an earlier checkpoint, or another number format with --dtype."
                )
            model.set_attn_implementation(POOLED)
            trial = Pool(places=ids.shape[1])
            self._forward(Step(trial, [Span(0, 0, 5)], model.device), ids[0, :5], torch.tensor([4]))
            found = self._forward(Step(trial, [Span(0, 5, 3)], model.device), ids[0, 5:], torch.tensor([2]))[0]
        # bfloat16 rounds at 2^-8; what a wrong attention gives is far beyond.
        tolerance = (1e-3 if model.dtype == torch.float32 else 5e-2) * float(expected.abs().max())
        if not torch.allclose(found.float(), expected, rtol=0, atol=max(tolerance, 1e-6)):
            raise wrong
        return Pool(places=max(self._max_length, self._memory_bytes() // trial.bytes_per_place()))

    def _memory_bytes(self) -> int:
        if self._settings.memory_gib is not None:
            return int(self._settings.memory_gib * 2**30)
        if self._model.device.type == "cuda":
            return int(0.6 * torch.cuda.mem_get_info(self._model.device)[0])
        return min(free_memory() // 4, _CPU_MEMORY)

    def _forward(self, step: Step, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Logits (wanted, vocabulary) at those tokens of the pass."""
        output = self._model(
            input_ids=ids[None].to(self._model.device),
            position_ids=step.positions[None],
            use_cache=False,
            logits_to_keep=wanted.to(self._model.device),
            step=step,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    # What follows runs in the engine's own thread.

    def _serve(self) -> None:
        try:
            with torch.inference_mode():
                while self._receive():
                    self._admit()
                    if self._active:
                        began = time.perf_counter()
                        self._pass()
                        self.work.busy_seconds += time.perf_counter() - began
        except BaseException as error:
            self._failure = error
        rows = [*self._active, *self._waiting]
        futures = [row.future for row in rows]
        while not self._inbox.empty():
            if (asked := self._inbox.get()) is not None:
                futures.append(asked[1])
        for future in futures:
            if future.done():
                continue
            if self._failure is not None:
                future.set_exception(self._failure)
            else:
                future.cancel()

    def _receive(self) -> bool:
        """Take in what was asked; wait for it where there is nothing to do. False where the engine was closed."""
        idle = not (self._active or self._waiting)
        while idle or not self._inbox.empty():
            asked = self._inbox.get()
            if asked is None:
                return False
            request, future = asked
            try:
                rows = self._rows(request, future)
            except ValueError as error:
                future.set_exception(error)
            else:
                self._waiting += rows
            idle = not (self._active or self._waiting) and self._inbox.empty()
        return True

    def _rows(self, request: Request, future: Future[Reply]) -> list[_Row]:
        """The rows that answer a request; none where its prompt is too long, and the reply says so."""
        text = self._prompter.text(request)
        prompt = self._prompter.encode(text)
        if request.choices:
            return self._choice_rows(request, future, len(prompt), self._prompter.choices(text, request.choices))
        room = min(request.max_new_tokens, self._max_length - len(prompt))
        if room < 1:
            finish: Finish = "context" if len(prompt) >= self._max_length else "length"
            _answer(future, Reply("", finish, len(prompt)))
            return []
        tokens = np.concatenate([prompt, np.zeros(room, dtype=np.int64)])
        return [_Row(request, future, tokens, len(prompt), len(prompt), first_needed=len(prompt) - 1)]

    def _choice_rows(self, request: Request, future: Future[Reply], num_prompt: int, choices: Choices) -> list[_Row]:
        """One row for each beginning that all but the last token of a choice make, with the choices read off there."""
        if max(map(len, choices.wholes)) > self._max_length:
            _answer(future, Reply("", "context", num_prompt))
            return []
        weighing = _Weighing([0.0] * len(choices.wholes), 0)
        rows: dict[bytes, _Row] = {}
        for number, whole in enumerate(choices.wholes):
            given = whole[:-1]
            row = rows.setdefault(
                given.tobytes(),
                _Row(
                    request, future, given, len(given), num_prompt, weighing=weighing, first_needed=choices.shared - 1
                ),
            )
            row.targets.append((number, whole[choices.shared :]))
        weighing.rows_left = len(rows)
        return list(rows.values())

    def _admit(self) -> None:
        """Let waiting rows join while there are slots, places, and prompt tokens left of this pass's chunk."""
        left = self._chunk - sum(row.known - row.computed for row in self._active if _reads(row))
        skipped: list[_Row] = []
        while self._waiting and len(self._active) < self._num_slots and left > 0:
            row = self._waiting.popleft()
            if row.future.done():
                continue
            source, shared = self._beginning(row)
            soon = max(
                (common_beginning(row.prompt, other.prompt) for other in self._active if _reads(other)), default=0
            )
            if min(soon, row.first_needed) - shared >= _WORTH_WAITING:
                skipped.append(row)
                continue
            if not self._place(row, source, shared):
                skipped.append(row)
                break
            self._active.append(row)
            if self._settings.seconds_per_reply is not None:
                row.deadline = time.monotonic() + self._settings.seconds_per_reply
            self.work.prompt_tokens += row.known
            self.work.reused_tokens += row.computed
            left -= row.known - row.computed
        self._waiting.extendleft(reversed(skipped))

    def _beginning(self, row: _Row) -> tuple[_Row | _Kept | None, int]:
        """Where the longest computed beginning of a row lies, and its length, at most ``first_needed``."""
        best: _Row | _Kept | None = None
        longest = 0
        places: list[tuple[_Row | _Kept, Tokens]] = [(other, other.tokens[: other.computed]) for other in self._active]
        places += [(kept, kept.tokens) for kept in self._kept]
        for place, tokens in places:
            length = common_beginning(row.prompt, tokens)
            if length > longest:
                best, longest = place, length
        return best, min(longest, row.first_needed)

    def _place(self, row: _Row, source: _Row | _Kept | None, shared: int) -> bool:
        """Give the row its range, with the beginning in it; kept conversations make room, the longest unused first."""
        needed = len(row.tokens)
        if isinstance(source, _Kept):
            self._kept.remove(source)
            self._kept.append(source)
        start = self._ranges.take(needed)
        while start is None and self._kept:
            oldest = self._kept.popleft()
            self._ranges.give_back(oldest.start, oldest.length)
            if oldest is source:
                # Its place is needed before it can be copied: the row computes everything.
                source, shared = None, 0
            start = self._ranges.take(needed)
        if start is None:
            return False
        row.start = start
        if source is not None and shared:
            self._pool.copy(source.start, start, shared)
            row.computed = shared
        return True

    def _pass(self) -> None:
        """One forward pass: a token of each row that is answered, and up to a chunk of prompts."""
        left = self._chunk
        parts: list[tuple[_Row, Span]] = []
        for row in self._active:
            count = row.known - row.computed
            if _reads(row):
                count = min(count, left)
                left -= count
            if count:
                parts.append((row, Span(row.start, row.computed, count)))
        ids = torch.from_numpy(np.concatenate([row.tokens[span.begin : span.end] for row, span in parts]))
        wanted: list[int] = []
        slices: list[slice] = []
        at = 0
        for row, span in parts:
            first = max(span.begin, row.first_needed) if row.weighing else row.known - 1
            before = len(wanted)
            wanted += range(at + first - span.begin, at + span.count)
            slices.append(slice(before, len(wanted)))
            at += span.count
        step = Step(self._pool, [span for _, span in parts], self._model.device)
        logits = self._forward(step, ids, torch.tensor(wanted, dtype=torch.int64))
        chosen = logits.argmax(dim=-1).tolist()
        self.work.passes += 1
        self.work.rows += len(parts)
        now = time.monotonic()
        for (row, span), part in zip(parts, slices, strict=True):
            row.computed = span.end
            if row.future.cancelled():
                self._leave(row)
            elif row.weighing:
                if part.stop > part.start:
                    row.pieces.append(logits[part].float().log_softmax(dim=-1))
                if row.computed == row.known:
                    self._weigh(row)
            elif row.computed == row.known:
                self._take_token(row, chosen[part.start])
            if now > row.deadline and row in self._active and not row.weighing:
                self._finish(row, "time")

    def _weigh(self, row: _Row) -> None:
        """Read off the choices' likelihoods; the last row of a request answers it."""
        weighing = row.weighing
        assert weighing is not None
        logprobs = torch.cat(row.pieces)
        for number, target in row.targets:
            picked = logprobs[: len(target)].gather(1, torch.from_numpy(target)[:, None].to(logprobs.device))
            weighing.logprobs[number] = float(picked.sum())
        weighing.rows_left -= 1
        self._leave(row)
        if not weighing.rows_left:
            best = int(np.argmax(weighing.logprobs))
            text = row.request.choices[best]
            _answer(row.future, Reply(text, "choice", row.num_prompt, 0, tuple(weighing.logprobs)))

    def _take_token(self, row: _Row, token: int) -> None:
        self.work.new_tokens += 1
        if token in self._ends:
            self._finish(row, "stop")
            return
        row.tokens[row.known] = token
        row.known += 1
        if row.request.stop and self._find_stop(row):
            self._finish(row, "stop")
        elif row.known == len(row.tokens):
            self._finish(row, "length")

    def _find_stop(self, row: _Row) -> bool:
        """Whether a stop string ends in the last token. Each token but bytes of one character adds a character."""
        longest = max(map(len, row.request.stop))
        tail = row.tokens[max(row.num_prompt, row.known - longest - 4) : row.known]
        text = self._tokenizer.decode(tail, skip_special_tokens=True)
        return any(stop in text for stop in row.request.stop)

    def _finish(self, row: _Row, finish: Finish) -> None:
        new = row.tokens[row.num_prompt : row.known]
        text: str = self._tokenizer.decode(new, skip_special_tokens=True)
        cuts = [place for stop in row.request.stop if (place := text.find(stop)) >= 0]
        if cuts:
            text, finish = text[: min(cuts)], "stop"
        self._leave(row)
        _answer(row.future, Reply(text.strip(), finish, row.num_prompt, len(new)))

    def _leave(self, row: _Row) -> None:
        """Out of the batch; what was computed is kept, the rest of its range is free again."""
        self._active.remove(row)
        if row.computed < len(row.tokens):
            self._ranges.give_back(row.start + row.computed, len(row.tokens) - row.computed)
        self._kept.append(_Kept(row.start, row.computed, row.tokens[: row.computed].copy()))
        if len(self._kept) > _KEPT_ROWS:
            oldest = self._kept.popleft()
            self._ranges.give_back(oldest.start, oldest.length)


def _answer(future: Future[Reply], reply: Reply) -> None:
    """Give the reply, unless nobody waits for it any more."""
    if future.set_running_or_notify_cancel():
        future.set_result(reply)


def _reads(row: _Row) -> bool:
    """Whether the row still has more to read than the token chosen last."""
    return row.computed < row.num_prompt or row.weighing is not None


def _identity(config: Any, name: str, dtype: torch.dtype, settings: TransformersSettings) -> dict[str, Any]:
    own_limit: int = getattr(config.get_text_config(), "max_position_embeddings", None) or _LONGEST
    first_limit = min(own_limit, _longrope_limit(config.get_text_config()) or own_limit)
    max_length = settings.max_length or min(first_limit, _LONGEST)
    if not 2 <= max_length <= own_limit:
        raise ValueError(f"max_length is {max_length}, but the model {name} takes from 2 to {own_limit} tokens.")
    if max_length > first_limit:
        raise ValueError(
            f"max_length is {max_length}, but with more than {first_limit} tokens the model {name} turns all positions "
            "otherwise (longrope), which one long conversation would do to every other of its batch; ask for at most "
            f"{first_limit}, or use --engine vllm."
        )
    return {
        "engine": "transformers",
        "model": name,
        "dtype": str(dtype).removeprefix("torch."),
        "template": settings.template,
        "max_length": max_length,
        "seconds_per_reply": settings.seconds_per_reply,
        "decoding": "greedy",
    }


def _longrope_limit(config: Any) -> int | None:
    """The length beyond which a longrope model takes its long factors; None for every other model.

    ``transformers.modeling_rope_utils.dynamic_rope_update`` (5.17 to 5.23) chooses between short and long factors by
    the largest position of a forward call, for all of its rows. The other kind that heeds it, ``dynamic``, changes
    only beyond ``max_position_embeddings``, where this engine never gets.
    """
    found: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    # One for all layers, or one for each kind of layer.
    each_kind = [found, *(value for value in found.values() if isinstance(value, Mapping))]
    limits = [kind["original_max_position_embeddings"] for kind in each_kind if kind.get("rope_type") == "longrope"]
    return min(limits, default=None)


def _end_tokens(tokenizer: Any, model: Any) -> list[int]:
    """Every token that ends a turn: the tokenizer's, and those that the model's generation settings name."""
    named = model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({tokenizer.eos_token_id, *more})
