"""Requests, answers, and the backends that turn one into the other.

Two shapes: a served backend answers one request at a time and many at once (:mod:`.served`); a local
one answers a batch (vLLM, transformers, and the offline stand-ins). Thinking has one representation
for all of them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from star1lib.errors import UserError, shorten
from star1lib.files import sha256_bytes, sha256_file
from star1lib.models.chat import split_thinking
from star1lib.models.roles import Role

log = logging.getLogger(__name__)

CallOutcome = Literal["ok", "cut_off", "filtered", "error", "withheld", "over_budget"]
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: an id of the caller's, chat messages, and the schema of a structured answer.

    `screen` is the text to check for what must never be sent, when the prompt carries policy text that
    would trigger the check by itself; by default it is what the user messages say. `sample` tells apart
    several draws of the same prompt.
    """

    id: str
    messages: Messages
    schema: dict[str, Any] | None = None
    screen: str | None = None
    sample: int = 0


# Offline players by name; the modules that own them (taggers, teachers, benign variants) enter them here.
STANDINS: dict[str, Callable[[Request], str]] = {}


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request; `text` is the answer after the thinking. Only `ok` is a success."""

    id: str
    text: str
    thinking: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    outcome: CallOutcome
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A backend's answer; token counts are None where the server gives none."""

    text: str
    thinking: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    outcome: CallOutcome = "ok"
    error: str | None = None


@dataclass(eq=False)
class CallFailed(Exception):
    """A call without an answer: whether to try again, whether to stop the run, and what it cost all the same."""

    message: str
    retryable: bool = False
    fatal: bool = False
    filtered: bool = False
    paid: bool = False
    throttled: bool = False
    retry_after: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0

    def __str__(self) -> str:
        return self.message


class LocalBackend(Protocol):
    """A backend in this process: a batch in, an answer or a failure for each request out."""

    def complete_many(self, requests: Sequence[Request]) -> list[Answer | CallFailed]:
        """Answer all `requests`, in order."""
        ...


def split_reasoning(content: str, reasoning: str = "") -> tuple[str, str]:
    """(thinking, answer) from `<think>` tags in `content` or from the server's separate `reasoning` field."""
    # Half of a surrogate pair can be neither hashed nor written.
    thought = split_thinking(content.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return reasoning.strip() or thought.thinking, thought.answer


def identity(role: Role) -> str:
    """What besides its name tells a local model or stand-in apart: its weights or its code; empty for servers."""
    if role.backend == "transformers":
        from star1lib.models.checkpoints import weights_fingerprint

        return weights_fingerprint(role.model)
    if role.backend == "standin":
        _standin(role.model)
        return _package_fingerprint()
    return ""


@functools.cache
def _package_fingerprint() -> str:
    """Names the code and data that stand-ins are made of; their answers are free, so any change asks them again."""
    folder = Path(__file__).parents[2]
    files = sorted(file for suffix in ("py", "json", "jsonl") for file in folder.rglob(f"*.{suffix}"))
    parts = [f"{file.relative_to(folder)} {sha256_file(file)}" for file in files]
    return sha256_bytes("\n".join(parts).encode())[:16]


def make_local(role: Role) -> LocalBackend:
    """The local backend of `role`; :class:`UserError` when it cannot be had here."""
    if role.backend == "standin":
        return StandIn(role)
    if role.backend == "transformers":
        return LocalTransformers(role)
    return OfflineVllm(role)


def _standin(name: str) -> Callable[[Request], str]:
    if name not in STANDINS:
        raise UserError(f"stand-in '{name}' is not known; choose one of {', '.join(sorted(STANDINS))}.")
    return STANDINS[name]


@dataclass
class StandIn:
    """An offline rule or small model registered by name, in the place of a paid model."""

    role: Role

    def complete_many(self, requests: Sequence[Request]) -> list[Answer | CallFailed]:
        """Answer each request by a call of the registered function."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Answer | CallFailed:
        try:
            raw = _standin(self.role.model)(request)
        except UserError:
            raise
        except Exception as err:
            log.debug("stand-in %s failed", self.role.model, exc_info=True)
            return CallFailed(f"the stand-in failed ({type(err).__name__}: {shorten(str(err), 80)})")
        thinking, text = split_reasoning(raw)
        return Answer(text, thinking, "stop", 0, 0)


class LocalTransformers:
    """A causal model in this process, greedy at temperature 0 and sampled above it."""

    def __init__(self, role: Role) -> None:
        from star1lib.models.checkpoints import load

        self._role = role
        self._model, self._tokenizer = load(role.model)
        self._model.train(False)
        self._tokenizer.padding_side = "left"

    def complete_many(self, requests: Sequence[Request]) -> list[Answer | CallFailed]:
        """Answer a batch; a prompt that leaves no room in the context window fails alone."""
        prompts = [
            self._tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
            for request in requests
        ]
        lengths = [len(ids) for ids in self._tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        window = int(getattr(self._model.config, "max_position_embeddings", 0) or 1 << 30)
        fits = [index for index, length in enumerate(lengths) if length < window]
        answers: list[Answer | CallFailed] = [
            CallFailed(f"the prompt has {length} tokens, the model's window {window}") for length in lengths
        ]
        if fits:
            room = min(self._role.max_tokens, window - max(lengths[index] for index in fits))
            for index, answer in zip(fits, self._generate([prompts[i] for i in fits], room), strict=True):
                answers[index] = answer
        return answers

    def _generate(self, prompts: list[str], room: int) -> list[Answer | CallFailed]:
        import torch

        batch = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        sampled = bool(self._role.temperature)
        options: dict[str, Any] = {"do_sample": sampled, "max_new_tokens": room}
        if sampled:
            options |= {"temperature": self._role.temperature, "top_p": self._role.top_p or 1.0}
            torch.manual_seed((self._role.seed or 0) + int(batch["input_ids"].sum()))
        with torch.inference_mode():
            output = self._model.generate(
                **batch.to(self._model.device), pad_token_id=self._tokenizer.pad_token_id, **options
            )
        width = batch["input_ids"].shape[1]
        return [
            self._answer(row[width:].tolist(), int(mask.sum()))
            for row, mask in zip(output, batch["attention_mask"], strict=True)
        ]

    def _answer(self, tokens: list[int], prompt_tokens: int) -> Answer | CallFailed:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        count = len(tokens) if stop is None else stop + 1
        thinking, text = split_reasoning(self._tokenizer.decode(tokens[:count], skip_special_tokens=True))
        return _finished(text, thinking, "length" if stop is None else "stop", prompt_tokens, count)


class OfflineVllm:
    """vLLM in this process: it schedules a whole batch on the GPU by itself."""

    def __init__(self, role: Role) -> None:
        try:
            from vllm import LLM, SamplingParams
        except ImportError as err:
            raise UserError(
                f"role '{role.name}': vLLM is not installed here; install the 'vllm' extra in an environment of its "
                "own, or start `vllm serve` and use backend 'openai' with its base_url."
            ) from err
        self._role = role
        self._sampling = SamplingParams
        self._engine = LLM(model=role.model, **role.extra)

    def _parameters(self, request: Request) -> Any:
        options: dict[str, Any] = {"max_tokens": self._role.max_tokens}
        for name in ("temperature", "top_p", "seed"):
            if (value := getattr(self._role, name)) is not None:
                options[name] = value
        if self._role.structured and request.schema is not None:
            from vllm.sampling_params import StructuredOutputsParams

            options["structured_outputs"] = StructuredOutputsParams(json=request.schema)
        return self._sampling(**options)

    def complete_many(self, requests: Sequence[Request]) -> list[Answer | CallFailed]:
        """Answer a batch of chats."""
        outputs = self._engine.chat(
            [request.messages for request in requests],
            sampling_params=[self._parameters(request) for request in requests],
            use_tqdm=False,
        )
        answers: list[Answer | CallFailed] = []
        for output in outputs:
            first = output.outputs[0]
            thinking, text = split_reasoning(first.text, getattr(first, "reasoning_content", None) or "")
            counts = len(output.prompt_token_ids or ()), len(first.token_ids)
            answers.append(_finished(text, thinking, str(first.finish_reason or ""), *counts))
        return answers


def _finished(text: str, thinking: str, finish: str, prompt_tokens: int, output_tokens: int) -> Answer | CallFailed:
    if finish == "length":
        return Answer(text, thinking, finish, prompt_tokens, output_tokens, "cut_off", "cut off at the token limit")
    if not text:
        return CallFailed("the answer is empty", input_tokens=prompt_tokens, output_tokens=output_tokens)
    return Answer(text, thinking, finish, prompt_tokens, output_tokens)
