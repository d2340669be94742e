"""Contradictions between the settings of special recipes; part of `engine/plan.py`."""

from __future__ import annotations

from mindformers_vit.config.schema import RunConfig


def recipe_problems(run: RunConfig) -> list[str]:
    """Every problem, with its dotted path."""
    return _training_only(run)


def _training_only(run: RunConfig) -> list[str]:
    """What evaluation would silently not do."""
    dataset = run.eval_dataset
    if dataset is None or dataset.repeated_augmentation == 1:
        return []
    return [
        f"eval_dataset.repeated_augmentation: {dataset.repeated_augmentation} given, but "
        "evaluation sees every image once; it belongs to train_dataset"
    ]
