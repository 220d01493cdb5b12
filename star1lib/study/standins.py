"""What plays a part in a rehearsal: tiny models of the real architectures, generated rows, and roles on loopback.

Nothing here is real but the form: a model has two layers of seeded random weights under the chat template of the model
that it stands in for, a set a handful of harmless rows, and a role answers by rote in the form it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.files import read_json, write_jsonl
from star1lib.models import answers, checkpoints, pins
from star1lib.models.roles import Role
from star1lib.policies import CATEGORIES
from star1lib.records import Question, Record, Scores
from star1lib.training.stage0 import harmless

# Chat templates in our own words, of the shape that each family publishes: thinking of earlier turns is cut off, this
# turn's is opened; a system message of its own stands before every conversation.
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
QWEN = (
    "{% for m in [{'role': 'system', 'content':"
    "'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.'}] + messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in [{'role': 'system', 'content':"
    "'Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n'}] + messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
R1_TOKENS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
LLAMA_TOKENS = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
QWEN_TOKENS = ["<|im_end|>", "<|im_start|>"]


class Family(NamedTuple):
    """What a tiny model takes over: architecture, chat template, tokens outside words, which begin and end a text."""

    model_type: str
    template: str | None
    special: list[str]
    begin: str | None
    end: str
    own: bool = False


# By a pattern of the model's name, the first that fits.
FAMILIES = {
    r"R1-Distill-Llama|STAR1-R1-Distill-8B": Family("llama", R1, R1_TOKENS, R1_TOKENS[0], R1_TOKENS[1]),
    r"R1-Distill": Family("qwen2", R1, R1_TOKENS, R1_TOKENS[0], R1_TOKENS[1]),
    r"Qwen2\.5-.*Instruct": Family("qwen2", QWEN, QWEN_TOKENS, None, QWEN_TOKENS[0]),
    r"Llama-3\.\d-.*Instruct": Family("llama", LLAMA, LLAMA_TOKENS, LLAMA_TOKENS[0], LLAMA_TOKENS[1]),
}


def family(name: str) -> Family:
    """Architecture and template of a model: its own where the user has them, of a pinned model without its weights.

    Raises :class:`UserError` for a model that is neither at hand nor of a known family.
    """
    if (own := _own(checkpoints.TINY if name == checkpoints.SMOLLM2 else name)) is not None:
        return own
    for pattern, known in FAMILIES.items():
        if re.search(pattern, name):
            return known
    raise UserError(f"model '{name}': its chat template is unknown here; record its pin by `python -m star1lib "
                    f"pin-model {name}`, or name a folder with its config.json and tokenizer.")  # fmt: skip


def _own(name: str) -> Family | None:
    try:
        where = pins.model_folder(name, weights=False) if pins.is_hub_model(name) else Path(checkpoints.resolve(name))
        tokenizer = checkpoints.load_tokenizer(str(where))
        kind = str(read_json(where / "config.json")["model_type"])
    except (UserError, KeyError):
        return None
    special = list(tokenizer.added_tokens_encoder)
    return Family(kind, tokenizer.chat_template, special, tokenizer.bos_token, tokenizer.eos_token, own=True)


def tiny_model(name: str, folder: Path) -> Family:
    """Write the stand-in of the model `name` to `folder`, about 200,000 random weights; returns what it took over."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    kin = family(name)
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        harmless(), trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    )
    words.add_tokens([AddedToken(token, normalized=False, special="think" not in token) for token in kin.special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=kin.begin, eos_token=kin.end,
                                        pad_token=kin.end, chat_template=kin.template)  # fmt: skip
    config = AutoConfig.for_model(
        kin.model_type, vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(name.encode()))  # every model has weights of its own
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return kin


_ROWS = {"train": 3, "decontaminate": 2, "evaluate": 2, "released": 6}  # of a set, by its kind
_GOLD: dict[str, dict[str, Any]] = {
    "AIME2024": {"answer": "12"},
    "MATH500": {"answer": "12", "subject": "Algebra", "level": 1},
    "MMLU-Pro": {"options": ["one", "two"], "answer": "A", "category": "other"},
    "GPQA-Diamond": {"correct": "one", "incorrect": ["two", "three", "four"]},
    "GSM8K": {"expected": "12"},
    "ASDiv": {"answer": 12},
    "HumanEval": {"task_id": "T", "entry_point": "one", "test": "def check(one):\n    assert one() == 1\n"},
}


def write_rows(mirror: Path) -> int:
    """Write a handful of rows for every set of the sources table; returns how many sets.

    Questions are the harmless prompts of this repository, each once, so that no set overlaps another. The last ones are
    left to the role that rewrites.
    """
    prompts = iter(harmless()[:-_REWRITES])
    for name, source in sources.SOURCES.items():
        rows = []
        for place in range(_ROWS[source.kind]):
            marks = dict.fromkeys(("Content_Safety_Compliance", "Relevancy_and_No_Redundant_Content",
                                   "Accuracy_of_Thinking_Process"), 10 - 4 * (place % 2))  # fmt: skip
            meta = _GOLD.get(name) or {
                "id": str(place), "label": ("safe", "unsafe")[place % 2], "type": "made", "score": marks,
                "category": [CATEGORIES[place % len(CATEGORIES)]], "response": f"<think>\n{_SAID}\n</think>\n\n{_SAID}",
            }  # fmt: skip
            text = f"def one():\n    # {place}\n" if name == "HumanEval" else next(prompts)
            rows.append(Question.make(text, name, **(meta if source.kind != "train" else {})))
        write_jsonl(mirror / sources.STAND_INS / f"{name}.jsonl", rows)
    return len(sources.SOURCES)


_SAID = "This stands in for what a model would say, and a model that reads it learns nothing from it."
_REWRITES = 80
_FORMS: dict[str, type[Record]] = {
    "classifier": answers.Tags, "scorer": Scores, "benign_rewriter": answers.Rewrite,
    "benign_scorer": answers.BenignScores, "refusal_judge": answers.Refusal, "yes_no": answers.Harm,
    "rubric": answers.Rubric,
}  # fmt: skip


def say(role: Role, body: Mapping[str, Any]) -> str:
    """What a role answers to a request: by rote, in the form that it is asked for."""
    asked = json.dumps(body["messages"], sort_keys=True)
    number = int(hashlib.sha256(asked.encode()).hexdigest()[:8], 16)
    if role.name == "teacher":
        return f"<think>\n{_SAID}\n</think>\n\n{_SAID}"
    kind = role.asks if role.name.endswith("_judge") and role.name != "refusal_judge" else role.name
    if kind == "guard":
        return "unsafe\nS1" if number % 2 else "safe"
    return json.dumps(_of(_FORMS[kind].model_json_schema(), number))


def _of(schema: Mapping[str, Any], number: int) -> Any:
    """A value of a JSON schema, another one for another `number`; three in four have full marks."""
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    match schema["type"]:
        case "object":
            return {name: _of(part, number) for name, part in schema["properties"].items()}
        case "array":
            return [_of(schema["items"], number)]
        case "integer":
            return schema["maximum"] - (number % 4 == 0)
        case "boolean":
            return bool(number % 2)
    return harmless()[-1 - number % _REWRITES]


class Players(ThreadingHTTPServer):
    """A server with OpenAI's interface; the first part of a path names the role that answers, `calls` counts them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, roles: Mapping[str, Role], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.roles, self.calls = roles, Counter[str]()

    @property
    def url(self) -> str:
        """Where it is; a role's `base_url` is this and the role's name and `v1`."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Players

    def do_POST(self) -> None:
        """Answer one chat completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        role = self.server.roles[self.path.split("/")[1]]
        self.server.calls[role.name] += 1
        said = say(role, body)
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        sizes = [len(json.dumps(body["messages"])) // 4, len(said) // 4]
        usage = dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), [*sizes, sum(sizes)], strict=True))
        answer = {"id": "rehearsal", "object": "chat.completion", "created": 0, "model": body["model"]}
        data = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the calls are counted."""


@contextmanager
def players(roles: Mapping[str, Role], port: int = 0) -> Iterator[Players]:
    """:class:`Players` of `roles` for as long as the block lasts, on `port` where it is free."""
    try:
        server = Players(roles, port)
    except OSError:
        server = Players(roles)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# Accelerate shares models out by FSDP on accelerators alone; torch's FSDP2 itself runs on a CPU too. A launched process
# that finds this as `sitecustomize` has Accelerate's state say FSDP.
FSDP_ON_CPU = """
import os
if "LOCAL_RANK" in os.environ:
    import accelerate.state
    from accelerate.utils import DistributedType

    plain = accelerate.state.AcceleratorState.__init__

    def shared(self, *args, fsdp_plugin=None, **rest):
        plain(self, *args, fsdp_plugin=fsdp_plugin, **rest)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            accelerate.state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    accelerate.state.AcceleratorState.__init__ = shared
"""
