"""A Llama of a few thousand weights with SmolLM2's tokenizer (without its weights), saved like any checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from star1lib.models import checkpoints as model


def save(folder: Path, seed: int = 0) -> Path:
    """Write the checkpoint; another seed gives other weights."""
    tokenizer = AutoTokenizer.from_pretrained(model.tiny_checkpoint())
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, eos_token_id=2, bos_token_id=1, tie_word_embeddings=True,
        initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
