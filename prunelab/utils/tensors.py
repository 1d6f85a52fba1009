"""Tensors on disk: safetensors with a JSON header, written whole or not at all, never pickle."""

import errno
import hashlib
import json
import os
import pickle
import re
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prunelab.utils import processes
from prunelab.utils.checks import Claims, check_claims

FORMAT = "prunelab 1"
DEEPEST = 50  # lists within lists of a JSON text
LEFT_OUT: Any = None  # of a key that need not be there, but must not be null
GROWTH = 16  # times its own size: the most that the tensors of a file of others may take


class Training(Claims):
    """What a training's checkpoint says of its settings, among others."""

    epochs: Annotated[int, Field(ge=0)]


class Part(Claims):
    """What it says of an epoch that is not done."""

    batches: Annotated[int, Field(ge=0)]
    seen: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]


class Header(Claims):
    """What any room reads of a file's header; the rest is the business of those who wrote it."""

    info: dict[str, Any] | None = None
    plan: dict[str, Any] = LEFT_OUT
    training: Training = LEFT_OUT
    rows: list[dict[str, Any]] = LEFT_OUT
    part: Part = LEFT_OUT

    @model_validator(mode="after")
    def _have_rows(self) -> "Header":
        if self.training and self.rows is None:
            raise ValueError("it has no rows of its training's epochs")
        return self


def parse_json(text: str, what: str) -> Any:
    """What a JSON text of a file says; ValueError for what `json` takes and nobody means.

    Those are keys that are there twice, and lists within lists without end.
    """
    try:
        found = json.loads(text, object_pairs_hook=_take_pairs)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON that can be read ({error})") from error
    if _is_deep(found, DEEPEST):
        raise ValueError(f"{what} is nested more than {DEEPEST} deep")
    return found


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _is_deep(value: object, left: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return False
    return not left or any(_is_deep(each, left - 1) for each in inner)  # type: ignore[attr-defined]


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror})") from error
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
        number = getattr(error, "errno", None) or _find_number(str(error))
        raise OSError(
            number, f"{path} was not written ({error}); what was there before is untouched"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _find_number(text: str) -> int:
    """Of an error that safetensors tells by its text alone."""
    found = re.search(r"os error (\d+)", text)
    return int(found[1]) if found else errno.EIO


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
        tensor = _take_plain(name, tensors[name])
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take_plain(name: str, tensor: Tensor) -> Tensor:
    """A tensor as numbers in a row, on the CPU; ValueError for one that is none."""
    kinds = {
        "on the device meta, without numbers: load its weights first": tensor.is_meta,
        "sparse or nested: to_dense() makes a plain one": tensor.layout != torch.strided
        or tensor.is_nested,
        "quantised: dequantize() makes a plain one": tensor.is_quantized,
    }
    for what, found in kinds.items():
        if found:
            raise ValueError(f"{name} must be a plain tensor; it is {what}")
    return tensor.detach().cpu().contiguous()


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write tensors and a JSON header as one safetensors file, with a digest of both.

    ValueError for what could not be read again.
    """
    plain: dict[str, Tensor] = {}
    storages = set()
    for name, tensor in tensors.items():
        own = _take_plain(name, tensor)
        storage = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if storage in storages else own
        storages.add(storage)
    text = write_json(header, "what is to be kept with the tensors")
    _read_header(text, str(path))
    about = {"format": FORMAT, "header": text, "digest": _digest(text, plain)}
    try:
        return write_whole(path, lambda temporary: save_file(plain, temporary, about))
    except KeyError as error:
        raise ValueError(f"safetensors files hold no tensors of {error}; convert them") from error


def write_json(given: Mapping[str, Any], what: str) -> str:
    """A JSON text; ValueError for what is no plain JSON."""
    try:
        return json.dumps(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{what} must be plain JSON values ({error})") from error


def _read_header(text: str, what: str) -> dict[str, Any]:
    header = parse_json(text, f"the header of {what}")
    if not isinstance(header, dict):
        raise ValueError(f"the header of {what} must be a JSON object, not {_say_kind(header)}")
    check_claims(Header, header, f"the header of {what} lies")
    return header


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    both = header.encode() + hash_tensors(tensors).encode()
    return hashlib.blake2b(both, digest_size=16).hexdigest()


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file of `write_tensors`; a torn or altered one is refused."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    about, tensors = _read_safetensors(path)
    if about.get("format") != FORMAT:
        raise ValueError(
            f"{path} was not written by prunelab (format {about.get('format')!r}, not {FORMAT!r})"
        )
    text = about.get("header", "")
    if _digest(text, tensors) != about.get("digest"):
        raise ValueError(f"{path} was altered after it was written: its digest does not match")
    return tensors, _read_header(text, str(path))


def is_ours(path: str | Path) -> bool:
    """Whether a file has any mark of `write_tensors`; a torn one may have none.

    One mark is enough: an altered file of ours must not be read as one of others.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError):
        return False
    return about.get("format", "").startswith("prunelab") or not {"header", "digest"}.isdisjoint(
        about
    )


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.pt`, `.pth`, `.th` or `.safetensors` file of others.

    Wrappers (`state_dict`, `model_state_dict`, `model`, `net`) are opened, `module.` prefixes
    dropped. Pickles are read with `weights_only=True`: one that holds code is refused, and nothing
    in it runs. Tensors that would take `GROWTH` times the file's size (expanded ones, a packed
    zip) are refused before memory is asked for.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    content = _read_safetensors(path)[1] if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values())
    if not tensors or not content:
        raise ValueError(
            f"{path} holds no state dict (names and tensors), but {_say_kind(content)}"
        )
    _check_growth(path, sum(tensor.numel() * tensor.itemsize for tensor in content.values()))
    state = _strip(content)
    if len(state) < len(content):
        raise ValueError(f"{path} holds a tensor twice, with module. before its name and without")
    for name, tensor in state.items():
        try:
            _take_plain(name, tensor)
        except ValueError as error:
            raise ValueError(f"{path} holds no plain weights: {error}") from error
    if isinstance(versions := getattr(content, "_metadata", None), dict):
        state._metadata = _strip(versions)  # type: ignore[attr-defined]
    return state


def _strip(content: Mapping[str, Any]) -> OrderedDict[str, Any]:
    return OrderedDict((str(name).removeprefix("module."), v) for name, v in content.items())


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a file says of itself, and its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); it was torn or is something else"
        ) from error


def _read_pickle(path: Path) -> Any:
    if _is_scripted(path):
        raise ValueError(
            f"{path} is a TorchScript file, which holds code: save the state_dict() of "
            "torch.jit.load(…) to another file"
        )
    try:
        size = _find_unpacked_size(path)
        fits = size <= GROWTH * path.stat().st_size
        content = torch.load(path, map_location="cpu", weights_only=True) if fits else None
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is torn, or a pickle that holds code; only plain tensors are read "
            "(weights_only=True). If you trust its origin, save its state_dict() from there"
        ) from error
    except Exception as error:  # of any kind, by the bytes that are there
        said = str(error).partition("\n")[0]
        why = f"{type(error).__name__}: {said}" if said else "it is empty"
        raise ValueError(f"{path} is torn or not a torch file ({why})") from error
    _check_growth(path, size)
    return content


def _is_scripted(path: Path) -> bool:
    with suppress(Exception), zipfile.ZipFile(path) as archive:  # what is torn is told later
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
    return False


def _find_unpacked_size(path: Path) -> int:
    """Of a zip, as torch writes; 0 for another file, which is not packed."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _check_growth(path: Path, size: int) -> None:
    if size > GROWTH * path.stat().st_size:
        raise ValueError(
            f"{path} would take {size} bytes of memory, more than {GROWTH} times its own size: "
            "save plain tensors (clone() what is expanded), and do not pack the file"
        )


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
            return _read_header(about["header"], "it") if about.get("format") == FORMAT else {}
    except (SafetensorError, OSError, ValueError, KeyError):
        return {}
