"""A real vLLM server: ten items through Inspect over loopback, against transformers' own greedy answers.

Needs the environment that `make serve` sets up (`STAR1_VLLM` names another Python with vLLM in it).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from star1lib.models import chat, checkpoints, generate, serving

PYTHON = Path(os.environ.get("STAR1_VLLM") or Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python")
NEW = 48
TIE = 1e-3
QUESTIONS = [
    "What is 17 + 25?",
    "What is 48 + 31?",
    "Anna has 12 apples and buys 7 more. How many apples does Anna have now?",
    "Name the capital of France.",
    "Write a sentence about the sea.",
    "How do I boil an egg?",
    "Which planet is the largest?",
    "Give me three words that rhyme with cat.",
    "Explain in one sentence why the sky is blue.",
    "Translate 'good morning' into Spanish.",
]
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM here: run `make serve` once, or set STAR1_VLLM"),
]


def served(checkpoint: Path, folder: Path) -> list[str]:
    """The answers of a vLLM server, asked by an Inspect evaluation; says what it cost."""
    from inspect_ai import Task
    from inspect_ai import eval as run_inspect
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import get_model
    from inspect_ai.solver import generate as ask

    samples = [Sample(id=place, input=text) for place, text in enumerate(QUESTIONS)]
    begin = time.perf_counter()
    with serving.serve(checkpoint, python=PYTHON, timeout=3600) as server:
        ready, start = time.perf_counter() - begin, cpu_of_children()
        model = get_model(server.model, base_url=server.base_url, api_key=server.api_key, memoize=False)
        [log] = run_inspect(
            Task(name="ten", dataset=MemoryDataset(samples), solver=ask()),
            model=model, log_dir=str(folder), display="none", temperature=0.0, max_tokens=NEW,
        )  # fmt: skip
        spent = cpu_of_children() - start
    print(f"start {start:.0f} CPU s ({ready:.0f} s), ten answers {spent:.1f} CPU s of the server")
    assert log.status == "success", log.error
    return [sample.output.completion for sample in sorted(log.samples or [], key=lambda sample: int(sample.id))]


def cpu_of_children() -> float:
    """Processor seconds of the server's processes so far."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(spent.user + spent.system for spent in times)


def gap(model, prompt: list[int], first: list[int], second: list[int]) -> float:
    """How far below the best logit the two tokens are at the place where two answers part."""
    import torch

    place = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if place is None:
        return float("inf")
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *first[:place]]])).logits[0, -1]
    return float(logits.max() - logits[[first[place], second[place]]].min())


def test_ten_answers_equal_those_of_transformers_or_part_at_a_tie(tmp_path):
    import torch

    answers = served(Path(checkpoints.resolve(checkpoints.SMOLLM2)), tmp_path)
    assert not [process for process in psutil.Process().children(recursive=True) if "vllm" in process.name().lower()]
    model, tokenizer = checkpoints.load(checkpoints.SMOLLM2)
    stops = generate.stop_tokens(model, tokenizer)
    equal = 0
    for question, answer in zip(QUESTIONS, answers, strict=True):
        prompt = chat.prompt_tokens(tokenizer, [{"role": "user", "content": question}])
        with torch.inference_mode():
            made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW)[0, len(prompt) :]
        tokens = [token for token in made.tolist() if token not in stops]
        if tokenizer.decode(tokens, skip_special_tokens=True).strip() == answer.strip():
            equal += 1
        else:
            assert gap(model, prompt, tokens, tokenizer(answer, add_special_tokens=False)["input_ids"]) <= TIE
    print(f"{equal} of {len(QUESTIONS)} answers equal")
