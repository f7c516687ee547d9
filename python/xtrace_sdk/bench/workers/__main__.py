"""Run one worker in an interpreter that may know another xtrace_sdk, or none."""

import importlib
import sys
from pathlib import Path

folder = Path(__file__).resolve().parent
sys.path[0] = str(folder.parent)
importlib.import_module(folder.name)
del sys.path[0]  # nothing else of ours may stand in the way of an implementation's own modules
importlib.import_module(f"{folder.name}.{sys.argv[1]}").start()
