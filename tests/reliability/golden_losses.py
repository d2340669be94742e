"""P12: the losses of the first 20 steps of every tiny recipe, on a small shapes data set.

    MINDFORMERS_VIT_KERNELS=0 python -m tests.reliability.golden_losses [NAME ...]

writes tests/goldens/losses/<recipe>.json anew: only for a change that is meant to move them. They
are those of MindSpore's own operators; compiled ones round as the machine's vectors are wide.
"""

import json
import sys
import tempfile
from pathlib import Path

from mindformers_vit import cli
from mindformers_vit.models.auto import AutoModel
from mindformers_vit.tools.shapes import ShapesSettings, make_shapes_dataset

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "goldens" / "losses"
RECIPES = {path.stem: path for path in sorted((ROOT / "configs").rglob("*_cpu.yaml"))}
STEPS = 20
CALLBACKS = "[{type: MetricsWriter, tensorboard: False}, {type: CheckpointMonitor}]"


def make_data(root: Path) -> Path:
    """168 pictures of 12 classes."""
    make_shapes_dataset(root, ShapesSettings(train=168, labelled_per_class=1, val_per_class=1))
    return root / "train"


def losses(recipe: str, data: Path, output: Path, steps: int = STEPS) -> list[float]:
    """Of the first steps of the recipe as it is, with batches of 8."""
    mode = ["--run_mode", "train"]
    if "linprobe" in recipe:
        encoder = AutoModel.from_config("mae_vit_tiny_p8", seed=0)
        mode = ["--run_mode", "finetune", "--load_checkpoint", str(output / "encoder")]
        encoder.save_pretrained(output / "encoder", save_name="encoder")
    flags = ["--config", str(RECIPES[recipe]), *mode, "--seed", "0"]
    flags += ["--train_dataset_dir", str(data), "--output_dir", str(output)]
    flags += ["--batch_size", "8", f"--runner_config.max_steps={steps}", "--device_target", "CPU"]
    flags += ["--train_dataset.num_parallel_workers=0", "--do_eval", "False"]
    flags += [f"--callbacks={CALLBACKS}"]
    assert cli.main(flags) == 0
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder) / "data")
        for name in names or RECIPES:
            found = losses(name, data, Path(folder) / name)
            GOLDENS.mkdir(parents=True, exist_ok=True)
            (GOLDENS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
