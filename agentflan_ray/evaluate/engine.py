"""What answers requests: the protocol of engines, and greedy generation in static batches for a search's trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from agentflan_ray.evaluate.benchmark import Reply, Request
from agentflan_ray.tokens.templates import render

Conversation = list[dict[str, str]]
"""Messages as a chat template takes them."""


class Engine(Protocol):
    """Answers requests, many at once. :meth:`submit` may be called by any thread."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides its replies: the model's content, number format, template, limits. JSON values."""

    @property
    def num_slots(self) -> int:
        """How many requests it answers at the same time; with more waiting it is always busy."""

    def submit(self, request: Request) -> Future[Reply]:
        """Asks. A prompt that is too long or takes too long is a reply that says so in ``finish``.

        What the future raises is a fault of the settings (``ValueError``: a template that refuses the conversation,
        an endpoint that knows no such model) or of the engine itself; nothing more can be asked then.
        """

    def close(self) -> None:
        """Ends it. Requests that are not answered yet are cancelled."""


class Plan(Protocol):
    """An engine that is not there yet: what it would be, known without loading a model. It can be pickled."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The identity of the engine that :meth:`open` makes."""

    def open(self) -> Engine:
        """Load the model, or reach the server. Raises ``ValueError`` where that can't be done."""


class LazyEngine:
    """The engine of a plan, opened when its first request is about to come. Where all is there already, it never is.

    ``num_slots`` opens it; a runner asks for that before it starts threads.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._engine: Engine | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """The plan's."""
        return self._plan.identity

    @property
    def num_slots(self) -> int:
        """The engine's."""
        if self._engine is None:
            self._engine = self._plan.open()
        return self._engine.num_slots

    def submit(self, request: Request) -> Future[Reply]:
        """See :meth:`Engine.submit`."""
        assert self._engine is not None, "num_slots opens the engine"
        return self._engine.submit(request)

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        if self._engine is not None:
            self._engine.close()


class Generator(Protocol):
    """Anything that replies to conversations, in their order."""

    def __call__(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]: ...


class TransformersGenerator:
    """Greedy generation with a loaded transformers model, in batches of conversations of like length.

    ``on_batch(num_done)`` is called after each batch. The model is left as it was found (training or not).
    """

    def __init__(
        self, model: Any, tokenizer: Any, batch_size: int = 16, on_batch: Callable[[int], None] | None = None
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._on_batch = on_batch

    def __call__(self, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
        import torch

        tokenizer = self._tokenizer
        texts = [
            render(tokenizer, [_stripped(message) for message in conversation], add_generation_prompt=True)
            for conversation in conversations
        ]
        prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        # Like lengths together: padding is computed like any token.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
        replies = [""] * len(prompts)
        was_training = self._model.training
        self._model.eval()
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            batch = tokenizer.pad(
                {"input_ids": [prompts[i] for i in chosen]}, padding=True, padding_side="left", return_tensors="pt"
            ).to(self._model.device)
            with torch.inference_mode():
                output = self._model.generate(
                    **batch,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    pad_token_id=tokenizer.pad_token_id,
                    eos_token_id=_end_tokens(tokenizer, self._model),
                )
            width = batch["input_ids"].shape[1]
            for i, text in zip(
                chosen, tokenizer.batch_decode(output[:, width:], skip_special_tokens=True), strict=True
            ):
                replies[i] = text.strip()
            if self._on_batch is not None:
                self._on_batch(len(chosen))
        self._model.train(was_training)
        return replies


def generation_dtype(on_gpu: bool) -> Any:
    """bfloat16 where the hardware computes in it, else float32.

    On a CPU with AVX512-BF16 it was 1.7 times (a step of 32 replies) to 3.9 times (prompts) faster than float32; on one
    without, ten times slower.
    """
    import torch

    has_bf16 = on_gpu or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def _stripped(message: dict[str, str]) -> dict[str, str]:
    """Without outer blanks, as training renders it."""
    return {**message, "content": message["content"].strip()}


def _end_tokens(tokenizer: Any, model: Any) -> list[int]:
    """Every token that ends a turn: the tokenizer's, and those that the model's generation settings name."""
    named = model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [] if named is None else [named]
    return sorted({tokenizer.eos_token_id, *more})
