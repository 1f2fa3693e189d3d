#!/usr/bin/env python3
"""One command for everything: it sets up what it needs in this folder, then does its work. See `--help`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said in words, before anything that an older Python cannot parse
    sys.exit("Python 3.11 or newer is needed; this one is {}.{}".format(*sys.version_info))

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.verbs import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
