"""`python -m mindformers_vit ...`: the command line."""

import sys

from mindformers_vit.cli import main

if __name__ == "__main__":
    sys.exit(main())
