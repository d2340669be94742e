"""Pictures in, answers out. `pipeline(task, model=...)` is the door; one file a task behind it."""

from mindformers_vit.pipelines.factory import pipeline

__all__ = ["pipeline"]
