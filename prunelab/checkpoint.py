"""Files that survive: safetensors with a JSON header, written whole or not at all, never pickle."""

import errno
import hashlib
import json
import os
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prunelab import processes

if TYPE_CHECKING:
    from prunelab.plan import PruningPlan

FORMAT = "prunelab 1"


def write_whole(path: str | Path, content: bytes | str | Callable[[str], None]) -> Path:
    """Write a file whole or not at all: to a temporary file beside it, then rename.

    content: bytes, text, or a function that writes to the path it is given. A full disk or a kill leaves
    what was there before. Raises OSError with the path and the reason.
    """
    path = Path(path)
    if processes.rank():  # the first process of several writes for all
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if callable(content):
            content(temporary)
        else:
            Path(temporary).write_bytes(content.encode() if isinstance(content, str) else content)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None) or errno.EIO
        raise OSError(number, f"{path} was not written ({error}); what was there before is untouched") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A hex digest of names, dtypes, shapes and values: equal exactly when the weights are."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> Path:
    """Write tensors and a JSON header as one safetensors file, with a digest of both."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        shared = any(own.data_ptr() == other.data_ptr() for other in plain.values() if own.numel())
        plain[name] = own.clone() if shared else own
    text = json.dumps(header)
    digest = hashlib.blake2b(text.encode() + hash_tensors(plain).encode(), digest_size=16).hexdigest()
    about = {"format": FORMAT, "header": text, "digest": digest}
    return write_whole(path, lambda temporary: save_file(plain, temporary, about))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file of `write_tensors`; a torn, foreign or altered one is refused."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); it was torn or is something else"
        ) from error
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by prunelab (format {about.get('format')!r}, not {FORMAT!r})")
    text = about.get("header", "")
    if hashlib.blake2b(text.encode() + hash_tensors(tensors).encode(), digest_size=16).hexdigest() != about.get(
        "digest"
    ):
        raise ValueError(f"{path} was altered after it was written: its digest does not match")
    return tensors, json.loads(text)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.pt`, `.pth`, `.th` or `.safetensors` file.

    Wrappers (`state_dict`, `model_state_dict`, `model`, `net`) are opened, `module.` prefixes dropped.
    Pickles are read with `weights_only=True`: one that holds code is refused, and nothing in it runs.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no state dict (names and tensors), but {_describe(content)}")
    state = OrderedDict((str(name).removeprefix("module."), tensor) for name, tensor in content.items())
    if isinstance(versions := getattr(content, "_metadata", None), dict):
        state._metadata = {str(name).removeprefix("module."): v for name, v in versions.items()}  # type: ignore[attr-defined]
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") == FORMAT and "plan" in json.loads(about["header"]):
                raise ValueError(f"{path} is a pruned model; open it with load_pruned({str(path)!r})")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is torn, or a pickle that holds code; only plain tensors are read (weights_only=True). "
            "If you trust its origin, save its state_dict() from there"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is torn or not a torch file ({str(error).splitlines()[0]})") from error


def _describe(content: object) -> str:
    return f"keys {list(content)[:3]}" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def save_pruned(
    path: str | Path, model: nn.Module, plan: "PruningPlan", *, info: Mapping[str, Any] | None = None
) -> Path:
    """Write a pruned model as one safetensors file and return its path.

    The file holds the tensors and a JSON header: the plan, the architecture's name (for models of
    `load_model`) and `info` (plain JSON: normalisation, classes, scores, …). Written whole or not at all.
    Raises ValueError when `model` does not have the widths of `plan`; OSError when the disk is full.

    >>> save_pruned("small.safetensors", small, plan)
    >>> same = load_pruned("small.safetensors")
    """
    plan.check_pruned(model)
    header = {
        "plan": json.loads(plan.to_json()),
        "architecture": getattr(model, "architecture", None),
        "info": dict(info or {}),
    }
    return write_tensors(path, model.state_dict(), header)


def save_weights(
    path: str | Path, model: nn.Module, *, half: bool = False, info: Mapping[str, Any] | None = None
) -> Path:
    """Write an unpruned model's tensors as one safetensors file, for `load_model(..., weights=path)`.

    half: in float16, half as large; loading turns them back to float32.
    """
    state = model.state_dict()
    if half:
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    return write_tensors(path, state, {"architecture": getattr(model, "architecture", None), "info": dict(info or {})})


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> Any:
    """`load_state_dict`, with the modules' versions, which some ask for (torchvision's MNASNet)."""
    state = OrderedDict(tensors)
    state._metadata = getattr(tensors, "_metadata", model.state_dict()._metadata)  # type: ignore[attr-defined]
    return model.load_state_dict(state, strict=strict)


def read_header(path: str | Path) -> dict[str, Any]:
    """What `save_pruned` wrote beside the tensors: `plan`, `architecture`, `info`."""
    return read_tensors(path)[1]


def load_pruned(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The pruned model of a file, in evaluation mode on the CPU.

    model: an unpruned instance of the same network, left untouched; needed only when the network did not
    come from `load_model`. Raises ValueError for a torn, foreign or altered file, or another network.
    """
    from prunelab.models import load_model
    from prunelab.plan import PruningPlan
    from prunelab.surgery import prune

    tensors, header = read_tensors(path)
    if "plan" not in header:
        raise ValueError(f"{path} holds no pruned model; it was not written by save_pruned")
    plan = PruningPlan.from_json(json.dumps(header["plan"]))
    architecture = header["architecture"]
    if model is None and architecture is None:
        raise ValueError(f"{path} holds a network of your own: pass an unpruned instance, load_pruned(path, MyNet())")
    if model is None:
        with torch.random.fork_rng(devices=[]):
            model = load_model(architecture["name"], num_classes=architecture["num_classes"])
    small = prune(model, plan)
    load_tensors(small, tensors)
    return small.cpu().eval()
