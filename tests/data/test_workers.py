"""Worker processes: the same batches, errors that arrive, and nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mindformers_vit.data.fields import Transform
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.mixup import Mixup
from mindformers_vit.data.pool import WorkerError
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import Compose, build_transforms
from mindformers_vit.errors import ConfigError, DataError
from tests.data.helpers import EVAL, TRAIN, Sleep, TellModules, class_folders, same

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
SETTINGS = {"seed": 0, "shuffle": True, "drop_last": True}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=5.0):
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


def test_results_do_not_depend_on_the_workers(source):
    settings = {
        "mixup": Mixup(cutmix_alpha=1.0, num_classes=3), "noise_length": 9, "drop_noise_length": 4,
        "token_grid": (8, 8),
    }  # fmt: skip
    transforms = build_transforms(TRAIN)
    found = []
    for workers in (0, 1, 2):
        with Loader(source, transforms, 4, num_workers=workers, **SETTINGS, **settings) as loader:
            batches = [*loader.epoch(0), *loader.epoch(1, 2)]
            pids = loader.worker_pids
            batches += loader.epoch(0, 4)
            assert loader.worker_pids == pids  # they live on over epochs
            assert len(pids) == workers
        assert gone(pids, 0)
        found.append(batches)
    assert len(found[0]) == 5 + 3 + 1
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_evaluation_with_workers(source):
    settings = {"seed": 0, "shuffle": False, "drop_last": False}
    transforms = build_transforms(EVAL)
    plain = list(Loader(source, transforms, 4, num_workers=0, **settings).epoch(0))
    with Loader(source, transforms, 4, num_workers=2, **settings) as loader:
        assert same(list(loader.epoch(0)), plain)


def test_leaving_and_restarting_an_epoch(source):
    """Breaking out is harmless; kept batches stay; a forgotten loader ends its workers."""
    transforms = build_transforms(TRAIN)
    expected = list(Loader(source, transforms, 2, num_workers=0, **SETTINGS).epoch(0))
    loader = Loader(source, transforms, 2, num_workers=2, **SETTINGS)
    for batch in loader.epoch(0):
        kept = batch
        break
    stale = loader.epoch(5)
    next(stale)
    kept_all = list(loader.epoch(0))
    assert same(kept_all, expected)
    assert same([kept], expected[:1])
    with pytest.raises(WorkerError, match="a newer epoch of the same loader was begun"):
        next(stale)
    assert same(list(loader.epoch(0)), kept_all)  # not overwritten, and in the same place
    pids = loader.worker_pids
    assert len(pids) == 2
    del loader, stale
    gc.collect()
    assert gone(pids)
    assert same(kept_all, expected)  # the memory outlives the loader


def test_a_bad_file_is_named_in_its_turn(tmp_path):
    root = class_folders(tmp_path, {"a": 6, "b": 6})
    (root / "b" / "3.png").write_bytes(b"not an image")
    settings = {"seed": 0, "shuffle": False, "drop_last": False}
    loader = Loader(open_source(root), build_transforms(EVAL), 2, num_workers=2, **settings)
    with loader:
        batches = loader.epoch(0)
        assert [next(batches)["index"][0] for _ in range(4)] == [0, 2, 4, 6]
        with pytest.raises(DataError, match=r"b/3\.png: cannot be read as an image"):
            next(batches)
        again = loader.epoch(0)
        assert [next(again)["index"][0] for _ in range(4)] == [0, 2, 4, 6]  # it goes on


def test_a_killed_worker_is_an_error_and_not_a_hang(source):
    transforms = Compose([Sleep(seconds=0.05), *build_transforms(EVAL).steps])
    with Loader(source, transforms, 4, num_workers=2, **SETTINGS) as loader:
        batches = loader.epoch(0)
        next(batches)
        pids = loader.worker_pids
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(
            WorkerError, match=rf"input worker \(process {pids[0]}\) ended: killed by signal 9; s"
        ):
            list(batches)
        assert gone(pids, 0)
        with pytest.raises(WorkerError, match="the loader was closed"):
            list(loader.epoch(0))


def test_workers_never_import_mindspore_or_the_main_module(source):
    transforms = Compose([TellModules(parent=os.getpid()), *build_transforms(EVAL).steps])
    with (
        Loader(source, transforms, 4, num_workers=1, **SETTINGS) as loader,
        pytest.raises(DataError, match="mindspore=False main=None"),
    ):
        next(loader.epoch(0))


def test_the_package_does_not_import_mindspore():
    code = (
        "import sys; import mindformers_vit.data.loader; "
        "sys.exit('mindspore' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


class Local(Transform):
    """Cannot be found by a worker under the name it is pickled with."""


def test_transforms_that_a_worker_cannot_load(source, monkeypatch):
    transforms = build_transforms(EVAL)
    lost = Compose([Local(), *transforms.steps])
    monkeypatch.setattr(Local, "__call__", lambda self, image, rng: image)
    monkeypatch.setattr(Local, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Local", Local, raising=False)
    with (
        Loader(source, lost, 4, num_workers=1, **SETTINGS) as loader,
        pytest.raises(WorkerError, match="define them in a module that can be imported, not in"),
    ):
        next(loader.epoch(0))

    class Inner(Local):
        pass

    with (
        Loader(
            source, Compose([Inner(), *transforms.steps]), 4, num_workers=1, **SETTINGS
        ) as other,
        pytest.raises(ConfigError, match=r"cannot be sent to a worker process: .*Inner"),
    ):
        other.epoch(0)


SCRIPT = """
import os, sys, time
from mindformers_vit.data.loader import Loader
from mindformers_vit.data.sources import open_source
from mindformers_vit.data.transforms import build_transforms
from tests.data.helpers import EVAL
loader = Loader(open_source(sys.argv[1]), build_transforms(EVAL), 4,
                seed=0, shuffle=True, drop_last=True, num_workers=2)
batches = loader.epoch(0)
next(batches)
print(*loader.worker_pids, flush=True)
if sys.argv[2] == "sleep":
    time.sleep(60)
elif sys.argv[2] == "read":
    for epoch in range(100000):
        for batch in loader.epoch(epoch):
            pass
"""


@pytest.mark.parametrize("case", ["end", "interrupt", "kill"])
def test_a_script_without_a_main_guard_leaves_nothing(source, tmp_path, case):
    """Its end, Ctrl-C while reading and SIGKILL while sleeping."""
    script = tmp_path / "run_mindformer.py"
    script.write_text(SCRIPT)
    before = set(Path("/dev/shm").iterdir())
    what = {"end": "end", "interrupt": "read", "kill": "sleep"}[case]
    process = subprocess.Popen(
        [sys.executable, script, Path(source.paths[0]).parents[1], what],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2, process.stderr.read()
    if case == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: the workers get it too
    elif case == "kill":
        process.kill()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == {"end": 0, "interrupt": -2, "kill": -9}[case]
    assert ("KeyboardInterrupt" in errors) == (case == "interrupt")
    assert errors.count("Traceback") == (case == "interrupt")  # the workers say nothing
    assert gone(pids)
    assert set(Path("/dev/shm").iterdir()) <= before


def test_batches_are_views_of_shared_memory(source):
    """No copy between the worker and the user in a plain loop."""
    with Loader(source, build_transforms(EVAL), 4, num_workers=1, **SETTINGS) as loader:
        places = [batch["image"].ctypes.data for batch in loader.epoch(0)]
        assert len(set(places)) < len(places)
        base = np.frombuffer(loader._pool._ring.memory, np.uint8)
        start = base.ctypes.data
        assert all(start <= place < start + base.size for place in places)
        del base
