"""A process that answers lines with lines."""

import sys

import pytest
from line_process import LineProcess

PROGRAM = """
import sys
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    print(number, line.strip(), flush=True)
"""


def test_it_answers_each_line_until_it_is_closed() -> None:
    process = LineProcess([sys.executable, "-c", PROGRAM], "it")
    assert (process.first, process.ask(), process.ask()) == ("ready", "0 go", "1 go")
    process.close()
    assert process._process.returncode == 0


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "print('ready', flush=True); input(); raise SystemExit(3)"])
def test_one_that_ends_early_says_how(code: str) -> None:
    with pytest.raises(RuntimeError, match=r"^the worker ended with exit code 3$"):
        LineProcess([sys.executable, "-c", code], "the worker").ask()
