"""Contradictions between the settings of special recipes; part of `engine/contradictions.py`."""

from __future__ import annotations

from typing import Any

from mindformers_vit.config.schema import RunConfig


def recipe_problems(run: RunConfig, network: Any) -> list[str]:
    """Every problem, with its dotted path."""
    found = [*_training_only(run), *_label_maps(run, network), *_linear_probe(run, network)]
    return found + _knn(run)


def _training_only(run: RunConfig) -> list[str]:
    """What evaluation would silently not do."""
    dataset, found = run.eval_dataset, []
    if dataset is not None and dataset.repeated_augmentation > 1:
        found.append(
            f"eval_dataset.repeated_augmentation: {dataset.repeated_augmentation} given, but "
            "evaluation sees every image once; it belongs to train_dataset"
        )
    if dataset is not None and dataset.data_loader.label_map_dir is not None:
        found.append(
            "eval_dataset.data_loader.label_map_dir: only training learns from label maps; it "
            "belongs to train_dataset"
        )
    return found


def _label_maps(run: RunConfig, network: Any) -> list[str]:
    path = "train_dataset.data_loader.label_map_dir"
    dataset = run.train_dataset
    if dataset is None or dataset.data_loader.label_map_dir is None:
        return []
    found = []
    if not hasattr(network, "dense_weight"):
        found.append(f"{path}: a {type(network).__name__} has no loss of its tokens; LV-ViT has")
    if dataset.mixup_op is not None:
        found.append(f"{path}: label maps go with MixToken, not with train_dataset.mixup_op")
    return found


def _linear_probe(run: RunConfig, network: Any) -> list[str]:
    if not getattr(network, "linear_probe", False) or run.run_mode != "train":
        return []
    return [
        "model.model_config.linear_probe: it measures a pretrained encoder, run_mode train has "
        "none; give --run_mode finetune --load_checkpoint WEIGHTS"
    ]


def _knn(run: RunConfig) -> list[str]:
    if run.metric.type != "KNN" or run.trainer.type == "masked_image_modeling":
        return []
    return [
        f"metric.type: KNN measures the encoder of masked_image_modeling; '{run.trainer.type}' has "
        "Accuracy"
    ]
