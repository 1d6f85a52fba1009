"""The device that is asked for, and the state of its random generator."""

import torch
from torch import Tensor


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device asked for; "auto" is the GPU where there is one. ValueError when there is none."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; known: auto, cpu, cuda, cuda:1 …") from error
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(device)!r} was asked for, but torch sees {torch.cuda.device_count()} "
            "GPUs; use 'cpu' or 'auto'"
        )
    return picked


def random_state(device: torch.device) -> Tensor:
    """Of the device's own generator."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Put the device's own generator where it was."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
