"""``python -m sb3_tom.enjoy``: like ``python -m rl_zoo3.enjoy``, also where ``.pth`` files are not executed."""

from sb3_tom.zoo.command import run_command

if __name__ == "__main__":
    run_command("enjoy")
