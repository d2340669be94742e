"""The compiled operators are tested where there are any."""

from mindformers_vit.kernels import library

NEED_THEM = ["test_cells.py", "test_compiled.py", "test_networks.py"]
collect_ignore = [] if library.compiled() else NEED_THEM
