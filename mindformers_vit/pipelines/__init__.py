"""Pictures in, answers out. `pipeline(task, model=...)` is the door; one file a task behind it.

A task is registered when its file is imported, so each has its line here.
"""

from mindformers_vit.pipelines import image_classification as image_classification
from mindformers_vit.pipelines import masked_image_modeling as masked_image_modeling
from mindformers_vit.pipelines.factory import pipeline as pipeline
