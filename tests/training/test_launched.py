"""Training shared out over two processes (gloo): the loss curve and the weights of one, an exact resume, its errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tinymodel
import yaml

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.study import standins
from star1lib.training import sft
from star1lib.training.rows import TrainRow

ROWS = [
    TrainRow(id=str(i), prompt=f"Question {i}?", completion=f"Answer {i} " + "word " * (3 * i), source="s")
    for i in range(8)
]


def config(**changes: Any) -> sft.TrainConfig:
    settings = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "max_length": 96, "dtype": "float32"}
    return sft.TrainConfig.model_validate({**settings, **changes})


# Each launched process ends at a step where a test asks for it.
DYING = """
if "LOCAL_RANK" in os.environ:
    import accelerate.optimizer

    step, steps = accelerate.optimizer.AcceleratedOptimizer.step, []

    def dying(self, *args, **rest):
        steps.append(step(self, *args, **rest))
        if str(len(steps)) == os.environ.get("DIE_AT_STEP"):
            os._exit(9)

    accelerate.optimizer.AcceleratedOptimizer.step = dying
"""


@pytest.fixture
def launch(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The committed FSDP2 configuration on two processes of this CPU."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(standins.FSDP_ON_CPU + DYING, encoding="utf-8")
    paths = [str(tmp_path / "site"), str(repository), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = yaml.safe_load((repository / "params" / "accelerate" / "fsdp2.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({**given, "num_processes": 2, "use_cpu": True}), encoding="utf-8")
    return str(path)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(next(folder.glob("*.safetensors"))))


def test_two_processes_give_the_loss_curve_of_one_and_resume_exactly(
    launch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    tiny = str(tinymodel.save(tmp_path / "tiny"))
    one = sft.train("v", ROWS, tiny, tmp_path / "one", config(), save_steps=2)
    monkeypatch.setenv("DIE_AT_STEP", "4")
    with pytest.raises(UserError, match=r"the launched training ended with code .* goes on from its last checkpoint"):
        sft.train("v", ROWS, tiny, tmp_path / "two", config(launch=launch), save_steps=2)
    [work] = (tmp_path / "two").glob(".*partial")
    assert not list((tmp_path / "two").glob("v-*")), "nothing half-trained bears the model's name"
    assert (work / "checkpoint-2" / "optimizer_0" / ".metadata").exists(), "the optimizer is shared out"
    monkeypatch.setenv("DIE_AT_STEP", "4")  # two are left, and loading the optimizer takes one: beginning again dies
    two = sft.train("v", ROWS, tiny, tmp_path / "two", config(launch=launch), save_steps=2)
    assert two.name == one.name, "how many processes train does not name another model"
    curves = [[entry["loss"] for entry in sft.history(folder)] for folder in (one, two)]
    assert len(curves[0]) == 4 and curves[1] == pytest.approx(curves[0], abs=1e-4)
    for name, tensor in weights(one).items():
        assert torch.allclose(tensor, weights(two)[name], atol=1e-5), name


@pytest.mark.parametrize(("name", "kind"), [("fsdp2", "FSDP"), ("zero3", "DEEPSPEED")])
def test_accelerate_reads_the_committed_configurations(name: str, kind: str, repository: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(repository / "params" / "accelerate" / f"{name}.yaml"))
    assert found.distributed_type == kind and found.num_machines == 1 and not found.use_cpu
    if kind == "DEEPSPEED":
        assert found.deepspeed_config["zero_stage"] == 3
    else:
        assert found.fsdp_config["fsdp_version"] == 2


def test_the_command_on_one_machine_and_on_four_nodes() -> None:
    work = Path("build/models/.v.partial")
    one = sft.command("c.yaml", work, {"STAR1_PROCESSES": "4"})
    assert one[1:] == ["-m", "accelerate.commands.launch", "--config_file", "c.yaml", "--num_processes", "4",
                       "-m", "star1lib.training.sft", str(work)]  # fmt: skip
    four = sft.command("c.yaml", work, {"SLURM_JOB_NUM_NODES": "4", "MASTER_ADDR": "10.0.0.1"}, 8)
    assert four[:4] == ["srun", "--nodes=4", "--ntasks=4", "--ntasks-per-node=1"]
    assert "--num_processes 32 --num_machines 4" in four[-1] and "--main_process_ip 10.0.0.1" in four[-1]
    assert "--machine_rank $SLURM_NODEID" in four[-1]


def test_the_batch_stays_whatever_the_number_of_processes() -> None:
    paper = sft.TrainConfig()
    assert [sft.accumulation(paper, n) * n for n in (1, 2, 8, 64)] == [128] * 4
    with pytest.raises(UserError, match="batch_size 128 is not shared out evenly over 3 processes"):
        sft.accumulation(paper, 3)


def test_out_of_memory_says_which_setting_to_lower() -> None:
    said = [str(sft.out_of_memory(config(**change))) for change in (
        {"votes": "token", "micro_batch_size": 2}, {}, {"gradient_checkpointing": True})]  # fmt: skip
    for sentence, setting in zip(said, ("micro_batch_size (now 2)", "gradient_checkpointing", "max_length (now 96)"),
                                 strict=True):  # fmt: skip
        assert f"{setting}" in sentence and "out of memory" in sentence


def test_a_launch_that_fails_is_one_sentence_and_keeps_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"training.launch: .*none.yaml does not exist"):
        sft.fit_launched(ROWS, "tiny", tmp_path, "v", config(launch="none.yaml"), 2)
    (tmp_path / "c.yaml").touch()
    asked = config(launch=str(tmp_path / "c.yaml"))
    for text, sentence in (("ValueError: no such thing", r"ended with code 1 \(no such thing\); its log is"),
                           ("torch.OutOfMemoryError: CUDA out of memory", "set gradient_checkpointing")):  # fmt: skip
        failing = ["python3", "-c", f"import sys; sys.exit({text!r})"]
        monkeypatch.setattr(sft, "command", lambda *_, failing=failing: failing)
        with pytest.raises(UserError, match=sentence):
            sft.fit_launched(ROWS, "tiny", tmp_path / "work", "v", asked, 2)
    assert len(io.read_jsonl(tmp_path / "work" / "rows.jsonl")) == len(ROWS)
