"""A process that answers lines with lines: what is measured there shares nothing with this one, and both may take turns."""

import subprocess
from collections.abc import Sequence
from typing import Any


class LineProcess:
    """
    Started at once; it says a line when it is ready, and one for each line that it is sent.

    :param words: of its command line
    :param what: it is, for the message
    :param options: of ``subprocess.Popen``
    :raises RuntimeError: if it ends before it has answered, then and with each call
    """

    def __init__(self, words: Sequence[str], what: str, **options: Any) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: subprocess.Popen[str] = subprocess.Popen(words, **pipes, **options)
        self._what = what
        self.first = self._line()

    def ask(self) -> str:
        """What it answers to one more line."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._what} ended with exit code {self._process.wait()}")
        return line.strip()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()
