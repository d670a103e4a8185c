"""``python -m sb3_tom.train``: like ``python -m rl_zoo3.train``, also where ``.pth`` files are not executed."""

from sb3_tom.zoo.command import run_command

if __name__ == "__main__":
    run_command("train")
