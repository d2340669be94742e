"""The type of flags that count something."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A whole number from 1 on; argparse shows the error and ends with exit code 2."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' given, a number from 1 on is expected")
    return int(text)
