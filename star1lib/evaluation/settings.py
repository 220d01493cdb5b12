"""How a study evaluates its variants: one mapping of a profile, the same for every notebook that evaluates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from star1lib.records import Record

Kind = Literal["safety", "over_refusal", "reasoning"]
PAPER_SAFETY_TOKENS = 8_000
PAPER_REASONING_TOKENS = {
    "AIME2024": 16_384,
    "MATH500": 16_384,
    "HumanEval": 16_384,
    "GPQA-Diamond": 32_768,
    "MMLU-Pro": 4_096,
    "ASDiv": 4_096,
    "GSM8K": 4_096,
    "Probe": 4_096,
    "Sums": 4_096,
}
# What an assistant's turn begins with, for a model that thinks (ZeroThink and LessThink of SafeChain, 2025).
BEGINNINGS = {
    "zero": "<think>\n\n</think>\n\n",
    "less": "<think>\nThis needs little thought, I answer at once.\n</think>\n\n",
}
Tokens = Annotated[int, Field(ge=1, strict=True)]
_NAMED: dict[str, dict[str, Any]] = {
    "paper": {"repetition_penalty": 1.2},
    "plain": {"repetition_penalty": 1.0},
    "small": {"repetition_penalty": 1.0, "answer_tokens": 128, "thinking_tokens": 384},
}


class Generation(Record):
    """How responses are generated, always greedily: the penalty and the budget of each benchmark.

    `name` chooses the settings that are not given: "paper" has a repetition penalty of 1.2 and the paper's budgets
    (3.2), "plain" the same without a penalty, "small" no penalty, 128 tokens for an answer and 384 for thinking.
    `answer_tokens` None stands for the paper's budgets; else every response has `answer_tokens`
    (`reasoning_tokens` on reasoning benchmarks, where given), and a thinking model `thinking_tokens` on top.
    With `close_thinking` a thinking that the model did not close within all of that is closed for it, and the answer
    generated after it within `answer_tokens` (budget forcing, Muennighoff et al., 2025): its outcome is
    "thinking_cut". Of local checkpoints alone.

    `dtype` is that of local checkpoints' arithmetic: in float32 an answer does not depend on what is asked beside it,
    in bfloat16 it may; `auto` is the latter where the machine multiplies it natively.
    """

    name: Literal["paper", "plain", "small"] = "small"
    repetition_penalty: float = Field(default=1.0, gt=0)
    answer_tokens: Tokens | None = None
    thinking_tokens: int = Field(default=0, ge=0, strict=True)
    reasoning_tokens: Tokens | None = None
    close_thinking: bool = False
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {**_NAMED.get(str(given.get("name", "small")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _closing(self) -> Generation:
        if self.close_thinking and self.answer_tokens is None:
            raise ValueError("close_thinking: needs answer_tokens, the budget of the answer that follows")
        return self

    def budget(self, benchmark: str, kind: Kind, thinking: bool) -> int:
        """The most tokens of a response to one benchmark."""
        if self.answer_tokens is not None:
            answer = self.reasoning_tokens if kind == "reasoning" and self.reasoning_tokens else self.answer_tokens
            return answer + (self.thinking_tokens if thinking else 0)
        return PAPER_REASONING_TOKENS[benchmark] if kind == "reasoning" else PAPER_SAFETY_TOKENS


class Serving(Record):
    """How vLLM serves each checkpoint in turn: the Python of its environment and what `serving.serve` takes.

    With `guard` a harm judge on this machine (its role's `base_url`) is served the same way, after the answers.
    """

    python: str = ".venv-vllm/bin/python"
    tensor_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_model_len: int = Field(default=36_864, ge=16)
    max_num_seqs: int = Field(default=256, ge=1)
    timeout: float = Field(default=1800, gt=0)
    guard: bool = False


class Evaluation(Record):
    """What a profile says of its evaluations.

    `limits` caps a benchmark's questions (a seeded sample; all without an entry). `engine` says who generates:
    transformers in this process, or a vLLM server that is started for each checkpoint as `serving` says.

    `judge_text` is what judges read: the answer after the thinking, or the full response, thinking included, closed or
    not, as in the paper; the answer's own label then stands beside it (metric `safe_answer`). `reading` is how final
    answers of the paper's reasoning benchmarks are asked for and read: as we do, or as the authors' parsers do
    (:mod:`star1lib.evaluation.benchmarks.upstream`), with our reading beside it (metric `correct_ours`).

    Switches, all off by default, of local checkpoints alone: `thinking` begins the turn with an empty ("zero") or a
    short ("less") trace, or has a closed one go on once ("more"); `prefill` puts words into the model's mouth, an
    attack that also skips the thinking. Either makes other responses, so variants are then named with the switch,
    "star1+zero". `forced` scores a forced answer beside the plain one where a benchmark has a final answer;
    `thoughts` has the harm judge read the thinking beside the answer to harmful prompts.
    """

    generation: Generation = Generation()
    limits: dict[str, Tokens] = Field(default_factory=dict)
    engine: Literal["transformers", "vllm"] = "transformers"
    serving: Serving = Serving()
    judge_text: Literal["answer", "full"] = "answer"
    reading: Literal["ours", "upstream"] = "ours"
    thinking: Literal["free", "zero", "less", "more"] = "free"
    prefill: str = ""
    forced: bool = False
    thoughts: bool = False

    @property
    def start(self) -> str:
        """What every response begins with."""
        return BEGINNINGS.get(self.thinking, "") + self.prefill

    @property
    def suffix(self) -> str:
        """What the switches add to a variant's name."""
        parts = [self.thinking] * (self.thinking != "free") + ["prefill"] * bool(self.prefill)
        return "".join(f"+{part}" for part in parts)
