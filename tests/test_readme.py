"""The README's example runs exactly as it is printed, and prints what its last comment says."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs_and_prints_what_it_says():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    promised = example.rstrip().rpartition("  # ")[2]
    result = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert result.stdout == promised + "\n", result.stderr


def test_the_example_has_ten_lines():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert sum(bool(line.strip()) for line in example.splitlines()) == 10


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    local = [link for link in links if "://" not in link]
    assert local
    missing = [link for link in local if not (README.parent / link).exists()]
    assert missing == []
