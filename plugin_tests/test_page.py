"""docs/mindformers.md: its Python runs as it stands, but for names and paths."""

import re
from pathlib import Path

from mindformers_vit.trainer import Trainer
from tests.test_python_surface import NAME, check_reconstruction, run
from tests.test_python_surface import images as images
from tests.test_python_surface import names as names

PAGE = Path(__file__).parents[1] / "docs" / "mindformers.md"


def test_the_python_of_the_page(workplace, names, images):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for old, new in (
        ("mae_vit_base_p16", NAME),
        ("imageNet-1k/train", str(images["train"])),
        ("imageNet-1k/val", str(images["val"])),
        ("sunflower.png", str(images["picture"])),
    ):
        assert old in code
        code = code.replace(old, new)
    found = run(code)
    assert isinstance(found["trainer"], Trainer)
    assert found["model"].config == found["config"]
    assert found["metrics"]["Loss"] > 0
    check_reconstruction(found["pictures"][0])
