"""`python -m mindformers_vit ...` is `mindformers-vit ...`."""

import sys

from mindformers_vit.cli import main

if __name__ == "__main__":
    sys.exit(main())
