"""A network out into the world: a file that others read, checked against the model it is of.

network: `export_network` · inputs: what a network is called with · formats: the kinds of files ·
conversion: torch.export and ONNX · runtime: onnxruntime · check: file = model · about: what it says
"""

from prunelab.export.formats import FORMATS, check_format, name_beside
from prunelab.export.network import Exported, export_network
from prunelab.export.runtime import open_converted

__all__ = ["FORMATS", "Exported", "check_format", "export_network", "name_beside", "open_converted"]
