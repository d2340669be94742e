"""The collectives between two real ranks."""

import json
import sys
from dataclasses import replace

from mindformers_vit.tools import launch, ranks
from mindformers_vit.tools.launch_ranks import ranks_of
from tests.parallel.conftest import ROOT


def test_collectives(bench, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = [str(bench.configs["mae"]), "[0,2]", "train"]
    given = launch.build_parser().parse_args(words)
    found = launch.read_launch(given, ["--device_target=CPU", f"--output_dir={bench.root / 'c'}"])
    scheduler, *both = ranks_of(found, 0)
    script = str(ROOT / "tests" / "parallel" / "collectives.py")
    both = [replace(rank, command=(sys.executable, script, str(i))) for i, rank in enumerate(both)]
    assert ranks.run(lambda attempt: [scheduler, *both]) == 0
    for rank in both:
        (line,) = [x for x in rank.log.read_text().splitlines() if x.startswith("FOUND ")]
        assert json.loads(line.removeprefix("FOUND ")) == {
            "gather": True,
            "odd": [7, 8],
            "joined": True,
            "single": True,
            "statistic": [2.0, 2.0, 2.0],
            "same": [],
            "different": [1],
        }
