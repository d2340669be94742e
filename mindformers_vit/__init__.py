"""MindFormers' vision models: MAE and ViT, from pretraining to prediction.

The names below are imported when first used, so that `import mindformers_vit` needs no MindSpore.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mindformers_vit.models.auto import AutoConfig, AutoModel, AutoProcessor
    from mindformers_vit.pipeline import pipeline
    from mindformers_vit.trainer import Trainer

_HOMES = {
    "AutoConfig": "mindformers_vit.models.auto",
    "AutoModel": "mindformers_vit.models.auto",
    "AutoProcessor": "mindformers_vit.models.auto",
    "Trainer": "mindformers_vit.trainer",
    "pipeline": "mindformers_vit.pipeline",
}
__all__ = ["AutoConfig", "AutoModel", "AutoProcessor", "Trainer", "pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mindformers_vit' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
