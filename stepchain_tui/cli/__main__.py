"""`python -m stepchain_tui.cli`: the same as `stepchain`."""

import sys

from stepchain_tui.cli.border import main

if __name__ == "__main__":
    sys.exit(main())
