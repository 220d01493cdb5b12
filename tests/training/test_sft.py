"""Training on TRL with a small model: the loss, the cache, the resume, and the sentence for an empty set."""

from __future__ import annotations

import ctypes
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.models import checkpoints as model
from star1lib.study import profiles, standins
from star1lib.training import sft as train
from star1lib.training.rows import TrainRow, tokenize

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "micro_batch_size": 2,
    "max_length": 96,
    "dtype": "float32",
    "votes": "token",
}
PAPER = train.TrainConfig()
ROWS = [
    TrainRow(id=str(i), prompt=f"Question number {i}?", completion=f"Answer {i}, in a few words.", source="s")
    for i in range(6)
]


def config(**changes: Any) -> train.TrainConfig:
    return train.TrainConfig.model_validate({**SETTINGS, **changes})


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(next(folder.glob("*.safetensors"))))


def at_step(number: int, act: Callable[[], None]) -> Callable[[str], Any]:
    """The bar of a training that does something at the end of a step."""
    real = train._progress

    def progress(name: str) -> Any:
        callback = real(name)
        step_end = callback.on_step_end

        def on_step_end(args: Any, state: Any, control: Any, **rest: Any) -> None:
            step_end(args, state, control, **rest)
            if state.global_step == number:
                act()

        callback.on_step_end = on_step_end
        return callback

    return progress


def test_defaults_are_the_papers() -> None:
    paper = train.TrainConfig()
    assert (paper.epochs, paper.learning_rate, paper.batch_size) == (5, 1e-5, 128)
    assert (paper.schedule, paper.warmup_ratio, paper.max_length) == ("cosine", 0.05, 8192)
    arguments = train.training_arguments(paper.model_copy(update={"micro_batch_size": 1}), Path("x"))
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.weight_decay) == (0.9, 0.95, 1e-4)
    assert (arguments.bf16, arguments.max_grad_norm, arguments.gradient_accumulation_steps) == (True, 0.0, 128)


def moved(small: str, work: Path, dtype: str) -> float:
    """How far a run at the paper's rate moves the weights."""
    import torch

    before, _ = model.load(small)
    chosen = config(dtype=dtype, learning_rate=1e-5, schedule="constant", warmup_ratio=0.0, epochs=4)
    after = train.run(ROWS, small, work, "moved", chosen, 50).model
    # From where they started: weights of bfloat16 have already moved when they are rounded to it.
    kind = next(after.parameters()).dtype
    pairs = zip(after.parameters(), before.parameters(), strict=True)
    return float(torch.cat([(new.float() - old.to(kind).float()).detach().flatten() for new, old in pairs]).norm())


def test_a_lora_adapter_is_merged_into_the_weights(small: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    chosen = config(lora_rank=2, learning_rate=1e-2)
    before, after = weights(Path(small)), weights(train.train("low", ROWS, small, tmp_path, chosen))
    moved = {name for name, tensor in before.items() if not tensor.equal(after[name])}
    assert moved == {name for name in before if "_proj" in name}


def test_bfloat16_arithmetic_moves_the_weights_as_far_as_float32_and_pure_bfloat16_does_not(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = moved(small, tmp_path / "full", "float32")
    assert moved(small, tmp_path / "mixed", "bfloat16") == pytest.approx(full, rel=0.05)
    real = model.load
    monkeypatch.setattr(train.checkpoints, "load", lambda base, _="": real(base, "bfloat16"))
    assert moved(small, tmp_path / "pure", "bfloat16") != pytest.approx(full, rel=0.05)


def test_one_vote_an_example(small: str, tmp_path: Path) -> None:
    """Rows of one and of many answer tokens weigh alike: the logged loss is the mean of the rows' own losses."""
    import torch

    rows = [ROWS[0].model_copy(update={"id": "long", "completion": "word " * 40}), ROWS[1]]
    chosen = config(votes="example", micro_batch_size=1, epochs=1)
    loss = train.run(rows, small, tmp_path, "votes", chosen, 50).state.log_history[0]["loss"]
    network, tokenizer = model.load(small)
    own = []
    for row in rows:
        tokens = tokenize(row, tokenizer, 96)
        ids = torch.tensor([tokens["input_ids"]])
        labels = torch.where(torch.tensor([tokens["completion_mask"]]) == 1, ids, -100)
        own.append(float(network(input_ids=ids, labels=labels).loss.detach()))
    assert loss == pytest.approx(sum(own) / 2, rel=1e-3)
    with pytest.raises(ValueError, match="micro_batch_size 1"):
        config(votes="example")


def test_a_prompt_that_leaves_no_room_is_left_out_by_id(
    small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = ROWS[0].model_copy(update={"id": "too-long", "prompt": "word " * 200})
    train.run([long, *ROWS[1:]], small, tmp_path / "a", "room", config(epochs=1), 50)
    assert "too-long" in caplog.text
    with pytest.raises(UserError, match="raise max_length"):
        train.run([long], small, tmp_path / "b", "room", config(epochs=1), 50)


def test_trains_once_and_learns(small: str, tmp_path: Path) -> None:
    first = train.train("variant", ROWS, small, tmp_path, config())
    losses = [entry["loss"] for entry in train.history(first)]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    stamp = (first / io.MANIFEST).stat().st_mtime_ns
    assert train.train("variant", ROWS, small, tmp_path, config()) == first
    assert (first / io.MANIFEST).stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob(".*partial"))
    manifest = io.read_json(first / io.MANIFEST)
    assert manifest["rows"] == 6
    assert manifest["kinds"] == {"safety": 6}


def test_a_run_that_is_stopped_early_has_gone_the_first_steps_of_the_whole_one(small: str, tmp_path: Path) -> None:
    whole = train.history(train.train("whole", ROWS, small, tmp_path, config()))
    stopped = train.history(train.train("stopped", ROWS, small, tmp_path, config(stop_after=2)))
    assert stopped == whole[:2]
    assert len({entry["learning_rate"] for entry in stopped}) == 2, "the schedule is that of the whole run"


def test_a_trained_model_leaves_memory(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study trains one after another in a process; what holds itself (trainer, callbacks) waits for the collector."""
    real, seen = train.run, []

    def run(*given: Any) -> Any:
        trainer = real(*given)
        seen.append(weakref.ref(trainer.model))
        return trainer

    monkeypatch.setattr(train, "run", run)
    train.train("variant", ROWS, small, tmp_path, config(epochs=1))
    assert len(seen) == 1 and seen[0]() is None


def test_name_changes_with_rows_settings_and_base(small: str) -> None:
    keys = {
        train.key_of(ROWS, small, config()),
        train.key_of(ROWS[1:], small, config()),
        train.key_of(ROWS, small, config(learning_rate=2e-3)),
        train.key_of(ROWS, "tiny", config()),
        train.key_of(ROWS, small, config(joined=True)),
        train.key_of(ROWS, small, config(stop_after=2)),
    }
    assert len(keys) == 6


@pytest.mark.attack("kills")
def test_a_killed_run_goes_on_and_ends_at_the_same_weights(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    chosen = config()
    undisturbed = weights(train.train("variant", ROWS, small, tmp_path / "a", chosen, save_steps=2))

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    real = train._progress
    monkeypatch.setattr(train, "_progress", at_step(5, kill))
    with pytest.raises(Killed):
        train.train("variant", ROWS, small, tmp_path / "b", chosen, save_steps=2)
    [work] = (tmp_path / "b").glob(".*partial")
    assert not list((tmp_path / "b").glob("variant-*"))
    torn = work / "checkpoint-99"
    shutil.copytree(work / "checkpoint-4", torn)
    (torn / "trainer_state.json").write_text('{"half')
    monkeypatch.setattr(train, "_progress", real)
    caplog.set_level("INFO")
    resumed = weights(train.train("variant", ROWS, small, tmp_path / "b", chosen, save_steps=2))
    assert "going on from checkpoint-4" in caplog.text
    for name, tensor in undisturbed.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-6), name


@pytest.mark.attack("environments")
def test_a_disk_that_fills_up_at_a_checkpoint_is_one_sentence_and_keeps_the_one_before(
    small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the limit on a file's size: a write that goes beyond it fails as on a full disk."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="the disk is full; free some") as caught:
        patch.setattr(train, "_progress", at_step(3, full))
        try:
            train.train("variant", ROWS, small, tmp_path, config(), save_steps=2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("variant-*"))
    caplog.set_level("INFO")
    done = train.train("variant", ROWS, small, tmp_path, config(), save_steps=2)
    assert "going on from checkpoint-2" in caplog.text and len(train.history(done)) == 6


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory; lower micro_batch_size .now 2"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory; lower micro_batch_size"),
        (MemoryError(), "out of memory; lower micro_batch_size"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk is full"),
    ],
)
def test_what_ran_out_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train, "run", fails)
    with pytest.raises(UserError, match=sentence):
        train.fit(ROWS, "tiny", tmp_path, "v", config(), 2)
    error = KeyError("something else")
    with pytest.raises(KeyError):
        train.fit(ROWS, "tiny", tmp_path, "v", config(), 2)


def test_ours_beside_the_papers_recipe(repository: Path) -> None:
    """`recipe` chooses what is not given, changes no name of a model, and is what the profiles name."""
    ours = train.TrainConfig(recipe="ours")
    assert (ours.votes, ours.max_grad_norm, ours.adam_beta2, ours.weight_decay) == ("token", 1.0, 0.999, 0.0)
    assert train.TrainConfig(recipe="ours", weight_decay=0.1).weight_decay == 0.1
    assert train.TrainConfig(recipe="paper") == train.TrainConfig()
    for name, wanted in (("smoke", ours), ("mini", ours), ("star1", ours), ("doses", ours), ("paper", PAPER)):
        given = profiles.load(name, repository).common["training"]
        made = train.TrainConfig.model_validate(given)
        assert {key: getattr(made, key) for key in train.OURS} == {key: getattr(wanted, key) for key in train.OURS}
    assert given["seed"] == 2002 and given["batch_size"] == 128
    written = ours.model_copy(update={"recipe": "paper"})
    assert train.key_of(ROWS, "tiny", ours) == train.key_of(ROWS, "tiny", written)


def test_weight_decay_spares_biases_and_norms(tmp_path: Path) -> None:
    """Of the paper's recipe, on a model that has both."""
    standins.tiny_model("Qwen/Qwen2.5-1.5B-Instruct", tmp_path / "qwen")
    trainer = train.run(ROWS[:1], str(tmp_path / "qwen"), tmp_path / "work", "v", PAPER.model_copy(
        update={"epochs": 1, "dtype": "float32", "max_length": 96}), 50)  # fmt: skip
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    decay = {names[id(parameter)]: group["weight_decay"] for group in trainer.optimizer.param_groups
             for parameter in group["params"]}  # fmt: skip
    assert set(decay) == set(names.values()) and set(decay.values()) == {0.0, 1e-4}
    assert all((size == 0) == ("bias" in name or "norm" in name) for name, size in decay.items())


def test_batches_are_a_plain_shuffle_whatever_the_lengths() -> None:
    lengths = [5] * 20 + [50] * 20
    order = train.shuffled(lengths, 4, "0-1")
    assert sorted(order) == list(range(40))
    assert order == train.shuffled(lengths, 4, "0-1") != train.shuffled(lengths, 4, "0-2")
    batches = [[lengths[i] for i in order[start : start + 4]] for start in range(0, 40, 4)]
    assert sum(len(set(batch)) == 2 for batch in batches) > 5
    assert all(batch == sorted(batch, reverse=True) for batch in batches)


@pytest.mark.attack("damaged files")
def test_a_damaged_checkpoint_is_no_trained_one(small: str, tmp_path: Path) -> None:
    folder = train.train("variant", ROWS[:2], small, tmp_path, config(epochs=1))
    assert train._complete(folder)
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    [weights] = folder.glob("*.safetensors")
    half = len(whole[weights]) // 2
    damages = {
        weights: [b"", whole[weights][:100], whole[weights][:half] + bytes(len(whole[weights]) - half)],
        folder / "config.json": [b"", None],
        folder / "tokenizer.json": [b"", None],
        folder / io.MANIFEST: [b"", b"{}", b"[]", b'{"files": {"config.json": 3}}', None],
    }
    for path, contents in damages.items():
        for content in contents:
            path.unlink() if content is None else path.write_bytes(content)
            assert not train._complete(folder), (path.name, content and content[:20])
            path.write_bytes(whole[path])
            assert train._complete(folder)
    weights.write_bytes(damages[weights][2])
    assert train.train("variant", ROWS[:2], small, tmp_path, config(epochs=1)) == folder
    assert train._complete(folder) and weights.read_bytes() != damages[weights][2]


def test_empty_training_set_and_unknown_base(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training rows"):
        train.train("variant", [], "tiny", tmp_path, config())
    with pytest.raises(UserError, match="cannot be loaded"):
        model.load(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="did not finish"):
        train.history(tmp_path)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc keeps freed memory, others may not")
def test_memory_goes_back_between_trainings():
    blocks = [bytearray(50_000) for _ in range(4_000)]  # 200 MB in pieces that glibc takes from its heap
    pinned = blocks[-1]
    held = psutil.Process().memory_info().rss
    blocks.clear()
    train.give_back()
    assert held - psutil.Process().memory_info().rss > 150e6 and pinned
