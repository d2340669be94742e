"""The compiled operators are tested where there are any."""

from mindformers_vit.kernels import library

collect_ignore = [] if library.compiled() else ["test_cells.py", "test_compiled.py"]
