"""Lets torchvision's Python code load beside a CPU build of torch (installed into the venv by setup_cpu.sh).

torchvision's wheel on the public index is linked against CUDA; beside a CPU torch its C++ operators are absent and
``import torchvision`` fails on registering fake kernels for two of them. Declaring their schemas is enough: nothing
in sailrl calls ``nms``. The import hook keeps torch from being loaded by interpreters that never need torchvision.
"""

import importlib.abc
import importlib.machinery
import sys

_library = None  # kept alive: torch drops a library's definitions when the object dies


class _DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        global _library
        if fullname == "torchvision" and _library is None:
            import torch

            _library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None  # the ordinary finders do the importing


sys.meta_path.insert(0, _DeclareOperators())
