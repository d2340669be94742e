"""`from mindformers_vit import pipeline` and `from mindformers_vit.pipeline import pipeline`.

MindFormers' users write both. Importing this module makes the package's attribute `pipeline` the
module, so the module can be called as the function.
"""

import sys
from types import ModuleType
from typing import Any

from mindformers_vit.pipelines.factory import pipeline as pipeline


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return pipeline(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
