"""Networks in onnxruntime, on the CPU."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prunelab.export.conversion import need, say, to_onnx
from prunelab.export.inputs import Inputs

Run = Callable[..., list[Tensor]]  # from the tensors that a network takes to those that it gives


def open_session(content: str | bytes) -> Run:
    """The network of an ONNX file, or of its bytes, as a function; on as many threads as torch.

    ValueError where onnxruntime does not take it.
    """
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    # threads that wait, busily, for the next run would slow whatever runs meanwhile
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds
        raise ValueError(
            f"onnxruntime cannot run this network ({say(error)}); its layers run in float32"
        ) from error
    names = [given.name for given in session.get_inputs()]

    def run(*tensors: Tensor) -> list[Tensor]:
        given = {name: x.numpy() for name, x in zip(names, tensors, strict=True)}
        return [torch.from_numpy(found) for found in session.run(None, given)]

    return run


def open_converted(model: nn.Module, images: Tensor) -> Run:
    """A model in onnxruntime, converted in memory for batches as large as these images.

    Args:
        model: a network on the CPU, in evaluation mode.
        images: (n, 3, h, w).

    Returns:
        A function from such images to a list of the model's outputs.

    Raises:
        ValueError: the model cannot be converted, or a package is missing.
    """
    need("onnxruntime")
    proto, _ = to_onnx(model, Inputs((images,), dynamic=False))
    return open_session(proto.SerializeToString())
