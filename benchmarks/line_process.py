"""A process that answers lines with lines, so that measurements in it share nothing with this process and can alternate."""

import subprocess
from collections.abc import Sequence
from typing import Any

SECONDS_TO_END = 10.0
"""How long a process may finish what it is doing."""


class LineProcess:
    """
    Starts a process, which writes a line when it is ready, and one for each line that it gets.

    :param words: of its command line
    :param what: name of the process, for the message
    :param options: of ``subprocess.Popen``
    :raises RuntimeError: if the process ends before it has answered; also from :meth:`ask`
    """

    def __init__(self, words: Sequence[str], what: str, **options: Any) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process: subprocess.Popen[str] = subprocess.Popen(words, **pipes, **options)
        self._what = what
        self.first = self._line()

    def ask(self) -> str:
        """Send a line and return the answer."""
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
        """Close its input and wait for its end, but not for ever."""
        try:
            self._process.communicate(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
