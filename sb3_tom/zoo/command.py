"""The zoo's commands with the algorithms of sb3_tom registered: ``python -m sb3_tom.train`` and ``sb3_tom.enjoy``."""

from importlib import import_module

from sb3_tom.zoo.registration import register_all


def run_command(name: str) -> None:
    """
    Run one of the zoo's commands with the arguments of this process.

    :param name: "train" or "enjoy"
    :raises SystemExit: with a message, if the zoo is not installed
    """
    register_algorithms(name)
    getattr(import_module(f"rl_zoo3.{name}"), name)()


def register_algorithms(name: str) -> None:
    """
    Register the algorithms with the zoo, also where ``.pth`` files are not executed.

    :param name: of the command, for the message
    :raises SystemExit: with a message, if the zoo is not installed
    """
    try:
        register_all()
    except ModuleNotFoundError as error:
        raise SystemExit(f"python -m sb3_tom.{name} needs the RL Zoo ({error}): pip install 'sb3_tom[zoo]'") from error
