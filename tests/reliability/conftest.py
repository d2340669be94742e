"""The engine tests' data, configurations and compiled steps."""

from tests.engine.conftest import (  # noqa: F401
    _process,
    eval_dir,
    mae_yaml,
    run_flags,
    shared_steps,
    train_dir,
    unbroken,
    vit_yaml,
)
