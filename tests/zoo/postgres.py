"""A PostgreSQL server of one's own: started on a free port in a folder of its own, and gone afterwards."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

USER = "searcher"


class Server(NamedTuple):
    """What a client needs: the address without the password, and libpq's variable that holds it."""

    url: str
    environment: dict[str, str]


def find_binaries() -> Path | None:
    """The folder of ``initdb``, ``pg_ctl`` and ``postgres``: in PATH, or where Debian installs them."""
    found = [Path(path).resolve().parent for name in ("pg_ctl", "postgres") if (path := shutil.which(name))]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    complete = (path for path in [*found, *debian] if all((path / name).exists() for name in ("initdb", "pg_ctl", "postgres")))
    return next(complete, None)


def _account() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: arguments of ``subprocess`` for another user then."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    name = "postgres" if "postgres" in names else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def postgres_server(binaries: Path) -> Iterator[Server]:
    """
    A fresh server that asks for a password.

    :param binaries: see :func:`find_binaries`
    """
    # Not in pytest's folder, which other users may not enter; a short path, since it is that of a socket too
    folder = Path(tempfile.mkdtemp(prefix="sb3_tom_pg_"))
    account, password, port = _account(), secrets.token_hex(16), _free_port()
    data, password_file = folder / "data", folder / "password"
    password_file.write_text(password)
    if account:
        for path in (folder, password_file):
            shutil.chown(path, account["user"], account["group"])

    def run(name: str, *arguments: str) -> None:
        command = [str(binaries / name), "-D", str(data), *arguments]
        # A file, not a pipe: the server would hold a pipe open, and the call would wait for the server's end
        with (folder / "output").open("a+") as output:
            result = subprocess.run(command, cwd=folder, stdout=output, stderr=output, timeout=120, **account)
            output.seek(0)
            assert result.returncode == 0, output.read()

    try:
        run("initdb", "-U", USER, "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync", "--encoding=UTF8")
        run("pg_ctl", "-w", "-o", f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -F", "start")
        try:
            yield Server(f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres", {"PGPASSWORD": password})
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
