"""`python bench run`, `python bench compare OLD NEW`, ...: the harness of this checkout."""

import sys
from pathlib import Path

from xtrace_bench.main import main

if __name__ == "__main__":
    sys.exit(main(home=Path(__file__).resolve().parent))
