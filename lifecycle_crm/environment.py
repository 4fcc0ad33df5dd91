"""Makes the virtual environment. Run by the Makefile with any Python 3.11 or newer, before anything is installed.

    python3 lifecycle_crm/environment.py .venv requirements.txt

Does nothing when the environment already holds exactly these requirements.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path


def say(text: str, start: float | None = None) -> None:
    print(f"  {text}" + ("" if start is None else f" ({time.monotonic() - start:.1f} s)"), flush=True)  # noqa: T201


def fingerprint(requirements: Path) -> str:
    """Of the file and of every file it includes."""
    text = requirements.read_text(encoding="utf-8")
    included = re.findall(r"^-r\s+(\S+)", text, flags=re.MULTILINE)
    inner = "".join(fingerprint(requirements.parent / name) for name in included)
    return hashlib.sha256((text + inner + f"{sys.version_info[:2]}").encode()).hexdigest()


def fail(sentence: str) -> None:
    say(sentence)
    sys.exit(1)


def main(folder: Path, requirements: Path) -> None:
    python = folder / "bin" / "python"
    stamp = folder / f".{'-'.join(requirements.with_suffix('').parts)}"
    wanted = fingerprint(requirements)
    if python.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if not (folder / "bin" / "pip").exists():
        start = time.monotonic()
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False
        )
        if made.returncode:
            fail(
                "Python's venv module could not make an environment. On Debian and Ubuntu: apt-get install python3-venv. "
                f"It said: {(made.stdout + made.stderr).strip()[-300:]}"
            )
        say(f"environment {folder} is made with Python {sys.version.split()[0]}", start)
    start = time.monotonic()
    say(f"installing {requirements} …")
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "-r"]
    if subprocess.run([*pip, str(requirements)], check=False).returncode:
        fail(f"{requirements} could not be installed (above: why). A second try continues where this one stopped.")
    stamp.write_text(wanted, encoding="utf-8")
    say(f"{requirements} is installed", start)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
