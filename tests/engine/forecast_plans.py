"""Plans of MAE and ViT of any size."""

from mindformers_vit.engine.plan import Plan, make_plan


def plan_of(kind: str, width: int, depth: int, heads: int, image: int, batch: int, **run) -> Plan:
    """A run with patches of 16 and, for MAE, a decoder of half the width and a third as deep."""
    settings = {"image_size": image, "patch_size": 16, "hidden_size": width}
    settings |= {"num_hidden_layers": depth, "num_attention_heads": heads}
    settings |= {"intermediate_size": 4 * width}
    arch, task = "ViTForImageClassification", "image_classification"
    if kind == "mae":
        arch, task = "ViTMAEForPreTraining", "masked_image_modeling"
        settings |= {"decoder_hidden_size": width // 2, "decoder_num_hidden_layers": depth // 3}
        settings |= {"decoder_num_attention_heads": heads // 2}
        settings |= {"decoder_intermediate_size": 2 * width}
    else:
        settings |= {"num_labels": 100}
    values = {"trainer": {"type": task}, "runner_config": {"batch_size": batch}, **run}
    return make_plan({**values, "model": {"arch": {"type": arch}, "model_config": settings}})
