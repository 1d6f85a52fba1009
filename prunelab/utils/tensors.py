"""Tensors on disk: safetensors with a JSON header, written whole or not at all, never pickle."""

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
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prunelab.utils import processes

FORMAT = "prunelab 1"


def write_whole(path: str | Path, content: bytes | str | Callable[[str], None]) -> Path:
    """Write a file whole or not at all: to a temporary file beside it, then rename.

    Args:
        path: where; its folders are made.
        content: bytes, text, or a function that writes to the path it is given.

    Raises:
        OSError: with the path and the reason. A full disk or a kill leaves what was there before.
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
        raise OSError(
            number, f"{path} was not written ({error}); what was there before is untouched"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def hash_text(text: str, letters: int = 32) -> str:
    """A digest of a text, of so many hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=letters // 2).hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A digest of weights: equal exactly when names, dtypes, shapes and values are.

    Args:
        tensors: `model.state_dict()`, say.

    Returns:
        32 hex digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write tensors and a JSON header as one safetensors file, with a digest of both."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        shared = any(own.data_ptr() == other.data_ptr() for other in plain.values() if own.numel())
        plain[name] = own.clone() if shared else own
    text = json.dumps(header)
    about = {"format": FORMAT, "header": text, "digest": _digest(text, plain)}
    return write_whole(path, lambda temporary: save_file(plain, temporary, about))


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    both = header.encode() + hash_tensors(tensors).encode()
    return hashlib.blake2b(both, digest_size=16).hexdigest()


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file of `write_tensors`; a torn or altered one is refused."""
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
        raise ValueError(
            f"{path} was not written by prunelab (format {about.get('format')!r}, not {FORMAT!r})"
        )
    text = about.get("header", "")
    if _digest(text, tensors) != about.get("digest"):
        raise ValueError(f"{path} was altered after it was written: its digest does not match")
    return tensors, json.loads(text)


def is_ours(path: str | Path) -> bool:
    """Whether a file was written by `write_tensors`; a torn one may not look so."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.pt`, `.pth`, `.th` or `.safetensors` file of others.

    Wrappers (`state_dict`, `model_state_dict`, `model`, `net`) are opened, `module.` prefixes
    dropped. Pickles are read with `weights_only=True`: one that holds code is refused, and nothing
    in it runs.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values())
    if not tensors or not content:
        raise ValueError(
            f"{path} holds no state dict (names and tensors), but {_say_kind(content)}"
        )
    state = _strip(content)
    if isinstance(versions := getattr(content, "_metadata", None), dict):
        state._metadata = _strip(versions)  # type: ignore[attr-defined]
    return state


def _strip(content: Mapping[str, Any]) -> OrderedDict[str, Any]:
    return OrderedDict((str(name).removeprefix("module."), v) for name, v in content.items())


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is torn, or a pickle that holds code; only plain tensors are read "
            "(weights_only=True). If you trust its origin, save its state_dict() from there"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        why = str(error).partition("\n")[0] or "it is empty"
        raise ValueError(f"{path} is torn or not a torch file ({why})") from error


def _say_kind(content: object) -> str:
    if isinstance(content, Mapping):
        return f"keys {list(content)[:3]}"
    return f"a {type(content).__name__}"


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> Any:
    """`load_state_dict`, with the modules' versions, which some ask for (torchvision's MNASNet)."""
    state = OrderedDict(tensors)
    versions = model.state_dict()._metadata  # type: ignore[attr-defined]
    state._metadata = getattr(tensors, "_metadata", versions)  # type: ignore[attr-defined]
    return model.load_state_dict(state, strict=strict)


def read_header(path: str | Path) -> dict[str, Any]:
    """What was written beside the tensors: of `save_pruned`, `plan`, `architecture` and `info`."""
    return read_tensors(path)[1]


def peek_header(path: str | Path) -> dict[str, Any]:
    """What a file of ours says, without its tensors and unchecked; nothing of any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            return json.loads(about["header"]) if about.get("format") == FORMAT else {}
    except (SafetensorError, OSError, ValueError, KeyError):
        return {}
