"""wkdc: smaller, faster image-to-image generators that keep what they generate.

The names below are the public API. They are imported at first use, so `import wkdc` is light.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wkdc.system.version import __version__

if TYPE_CHECKING:
    from wkdc.analyze import AnalyzeResult, analyze
    from wkdc.benchmark.model_profile import ModelProfile
    from wkdc.checkpoints.checkpoint import Generator, load_generator
    from wkdc.compare import CompareResult, compare
    from wkdc.deploy.phone import PhoneResult, export_phone
    from wkdc.deploy.triton import TritonResult, export_triton
    from wkdc.deploy.web_page import WebResult, export_web
    from wkdc.distill import DistillResult, Recipe, distill, resume
    from wkdc.evaluate import EvaluateResult, evaluate
    from wkdc.export import ExportResult, export
    from wkdc.info import InfoResult, info
    from wkdc.profile import ProfileResult, profile
    from wkdc.prune import PruneResult, prune
    from wkdc.report import ReportResult, report
    from wkdc.train import TrainResult, resume_training, train
    from wkdc.translate import TranslateResult, translate

_HOMES = {
    "AnalyzeResult": "analyze",
    "analyze": "analyze",
    "Generator": "checkpoints.checkpoint",
    "load_generator": "checkpoints.checkpoint",
    "CompareResult": "compare",
    "compare": "compare",
    "DistillResult": "distill",
    "Recipe": "distill",
    "distill": "distill",
    "resume": "distill",
    "EvaluateResult": "evaluate",
    "evaluate": "evaluate",
    "ExportResult": "export",
    "export": "export",
    "InfoResult": "info",
    "info": "info",
    "ModelProfile": "benchmark.model_profile",
    "ProfileResult": "profile",
    "profile": "profile",
    "PruneResult": "prune",
    "prune": "prune",
    "ReportResult": "report",
    "report": "report",
    "TrainResult": "train",
    "resume_training": "train",
    "train": "train",
    "TranslateResult": "translate",
    "translate": "translate",
    "PhoneResult": "deploy.phone",
    "export_phone": "deploy.phone",
    "TritonResult": "deploy.triton",
    "export_triton": "deploy.triton",
    "WebResult": "deploy.web_page",
    "export_web": "deploy.web_page",
}

__all__ = [
    "AnalyzeResult",
    "CompareResult",
    "DistillResult",
    "EvaluateResult",
    "ExportResult",
    "Generator",
    "InfoResult",
    "ModelProfile",
    "PhoneResult",
    "ProfileResult",
    "PruneResult",
    "Recipe",
    "ReportResult",
    "TrainResult",
    "TranslateResult",
    "TritonResult",
    "WebResult",
    "__version__",
    "analyze",
    "compare",
    "distill",
    "evaluate",
    "export",
    "export_phone",
    "export_triton",
    "export_web",
    "info",
    "load_generator",
    "profile",
    "prune",
    "report",
    "resume",
    "resume_training",
    "train",
    "translate",
]


class _Package(ModuleType):
    """`wkdc.prune` is the function, also once something has imported the module of that name.

    Importing a submodule binds it on the package; for the names above that is not wanted.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'wkdc' has no attribute {name!r}")
        value = getattr(import_module(f"wkdc.{_HOMES[name]}"), name)
        setattr(self, name, value)
        return value


sys.modules[__name__].__class__ = _Package
