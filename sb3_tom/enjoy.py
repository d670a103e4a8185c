"""``python -m sb3_tom.enjoy`` is ``python -m rl_zoo3.enjoy`` where ``.pth`` files are not run, so that the zoo does not know sb3_tom."""

from sb3_tom.zoo.command import run_command

if __name__ == "__main__":
    run_command("enjoy")
