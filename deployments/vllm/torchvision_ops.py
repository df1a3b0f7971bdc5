"""Makes torchvision importable beside the CPU build of torch.

PyPI has torchvision for CUDA only. Beside a CPU torch its compiled operators do not load, and its Python part
stops at the first of them that is not declared. Declaring them is enough: image processors call none of them.
`install.sh` puts this file into the CPU environment, where a .pth file imports it at every start; torch
itself is imported only when torchvision is.
"""

import importlib.abc
import sys

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries = []  # a library's declarations go when it goes


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing; declares the operators at the first import of torchvision."""

    def find_spec(self, name, path, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()
        return None


def _declare():
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)


sys.meta_path.insert(0, _BeforeTorchvision())
