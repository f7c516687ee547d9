"""Coverage-guided fuzzing of one target: ``python tests/fuzz/run.py TARGET [libFuzzer options] [FOLDER]``.

Starts from the kept corpus (``tests/fuzz/corpus/TARGET``, which stays as it is) and extends a folder of one's
own. Stops at the first finding, with a status other than 0, and writes its input to the working directory.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["xtrace_sdk", "msgpack", "targets"]):
    from targets import TARGETS  # type: ignore[import-not-found, unused-ignore]


def main() -> None:
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"TARGET: one of {', '.join(TARGETS)}")
    corpus = Path(__file__).parent / "corpus" / name
    folders = [option for option in options if not option.startswith("-")]
    with TemporaryDirectory() as folder:
        # libFuzzer extends the first folder.
        arguments = [option for option in options if option.startswith("-")]
        atheris.Setup([sys.argv[0], *arguments, *(folders or [folder]), str(corpus)], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
