"""The command of MindFormers' users; all of it is in mindformers_vit/cli.py."""

import sys

from mindformers_vit.cli import main

if __name__ == "__main__":
    sys.exit(main())
