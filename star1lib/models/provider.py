"""An Inspect model provider for local checkpoints: batched, greedy, with real token counts and stop reasons.

The model's name carries a fingerprint of its weights, so Inspect's caches and logs never take two
checkpoints for the same. Inspect calls once per sample; the calls are gathered by a :class:`Batcher`, grouped by
settings and given to :func:`star1lib.models.generate.generate` together.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from inspect_ai._util.content import ContentReasoning, ContentText
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from star1lib.errors import UserError
from star1lib.models import chat, checkpoints, generate
from star1lib.models.generate import Generation

PENALTY = "repetition_penalty"
START = "start"
_EVERY = 1 << 20
QUIET_SECONDS = 0.2
ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")


class Batcher(Generic[ItemT, ValueT]):
    """Single calls gathered into batches: collects items until none has arrived for a moment, then works on all.

    `work(items, done)` runs in a thread and calls `done(position, value)` as results come in; what it leaves undone
    fails, and what it raises reaches every waiting caller. Items that arrive meanwhile form the next batch.
    """

    def __init__(self, work: Callable[[Sequence[ItemT], Callable[[int, ValueT], None]], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._waiting: list[tuple[ItemT, Future[ValueT]]] = []
        self._thread: threading.Thread | None = None

    async def submit(self, item: ItemT) -> ValueT:
        """The value of `item`."""
        future: Future[ValueT] = Future()
        with self._lock:
            self._waiting.append((item, future))
            self._arrived.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="batcher", daemon=True)
                self._thread.start()
        return await asyncio.wrap_future(future)

    def _serve(self) -> None:
        while True:
            while self._arrived.is_set():
                self._arrived.clear()
                self._arrived.wait(QUIET_SECONDS)
            with self._lock:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._thread = None
                    return
            # A future that its caller gave up on cannot take a result any more.
            if live := [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]:
                self._run(live)

    def _run(self, batch: list[tuple[ItemT, Future[ValueT]]]) -> None:
        futures = [future for _, future in batch]
        error: BaseException = RuntimeError("the batch ended without a result for this item")
        try:
            self._work([item for item, _ in batch], lambda position, value: futures[position].set_result(value))
        except BaseException as err:
            error = err
        for future in futures:
            if not future.done():
                future.set_exception(error)


class _Call(NamedTuple):
    messages: list[dict[str, str]]
    settings: generate.Settings
    start: str


@modelapi(name="star1")
class LocalModel(ModelAPI):
    """A local causal model: `path` and `dtype` are what `checkpoints.load` takes, `thinking` opens the thinking.

    `extra_body` may hold a repetition penalty, and words that the response starts with in place of the opening.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        path: str = "",
        thinking: bool = False,
        dtype: str = "float32",
        **_: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if not path:
            raise UserError(f"model {model_name}: no checkpoint named; give `path`.")
        self.path, self.thinking, self.dtype = path, thinking, dtype
        self._loaded: tuple[Any, Any] | None = None
        self._batcher: Batcher[_Call, ModelOutput] = Batcher(self._work)

    def max_connections(self) -> int:
        """Everything at once: the batcher decides what runs together."""
        return _EVERY

    def connection_key(self) -> str:
        """One pool per checkpoint."""
        return self.model_name

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer one conversation greedily. Tools and sampling are a :class:`UserError`."""
        if tools:
            raise UserError("a local model is asked for text only; leave the tools out.")
        if config.temperature:
            raise UserError(f"temperature: {config.temperature} given; a local model decodes greedily (temperature 0).")
        messages = [{"role": message.role, "content": message.text} for message in input]
        extra = config.extra_body or {}
        settings = generate.Settings(config.max_tokens or 2048, float(extra.get(PENALTY, 1.0)))
        return await self._batcher.submit(_Call(messages, settings, str(extra.get(START, ""))))

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch

            model, tokenizer = checkpoints.load(self.path, self.dtype)
            model.train(False)
            if torch.cuda.is_available():
                model = model.to("cuda")
            self._loaded = model, tokenizer
        return self._loaded

    def _work(self, calls: Sequence[_Call], done: Callable[[int, ModelOutput], None]) -> None:
        model, tokenizer = self._model()
        groups: dict[generate.Settings, list[int]] = defaultdict(list)
        for place, call in enumerate(calls):
            groups[call.settings].append(place)
        for settings, places in groups.items():
            prompts = [self._prompt(tokenizer, calls[place]) for place in places]

            def finished(index: int, result: Generation, places: list[int] = places) -> None:
                done(places[index], self._output(tokenizer, result, calls[places[index]].start))

            stops = generate.stop_tokens(model, tokenizer)
            generate.generate(model, prompts, settings, stop_ids=stops, on_done=finished)

    def _prompt(self, tokenizer: Any, call: _Call) -> list[int]:
        tokens = chat.prompt_tokens(tokenizer, call.messages, self.thinking and not call.start)
        return tokens + list(tokenizer(call.start, add_special_tokens=False)["input_ids"]) if call.start else tokens

    def _output(self, tokenizer: Any, result: Generation, start: str) -> ModelOutput:
        text = start + tokenizer.decode(result.tokens, skip_special_tokens=True)
        thought = chat.split_thinking(text, self.thinking and not start)
        thinking = [ContentReasoning(reasoning=thought.thinking)] if thought.state != "none" else []
        content: list[Any] = [*thinking, ContentText(text=thought.answer)]
        message = ChatMessageAssistant(content=content, model=self.model_name, source="generate")
        asked, made = result.prompt_tokens, len(result.tokens)
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=result.stop_reason)],
            usage=ModelUsage(input_tokens=asked, output_tokens=made, total_tokens=asked + made),
            metadata={"thinking": thought.state},
        )


def local_model(variant: str, path: str, thinking: bool, dtype: str = "float32") -> Model:
    """An Inspect model over a local checkpoint, loaded when it is first asked.

    Its name tells weights, thinking or not, the version of the decoding, and another dtype than float32.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1" if os.path.isdir(checkpoints.resolve(path)) else "0")  # noqa: PTH112
    how = f"{'thinking' if thinking else 'direct'}-v{generate.VERSION}" + ("" if dtype == "float32" else f"-{dtype}")
    name = f"star1/{variant}@{checkpoints.weights_fingerprint(path)}-{how}"
    # Inspect would start with few calls at once and feel its way up, as against a remote server.
    config = GenerateConfig(max_connections=_EVERY, adaptive_connections=False)
    return get_model(name, config=config, memoize=False, path=path, thinking=thinking, dtype=dtype)
