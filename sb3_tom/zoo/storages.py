"""Opens storages of Optuna by one name; trials of killed workers are queued again."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from optuna.exceptions import OptunaError
from optuna.storages import (
    BaseStorage,
    GrpcStorageProxy,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    run_grpc_proxy_server,
)
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from sb3_tom.checks.validation import check_integer

PROXY = "grpc"
"""Scheme of the address of a proxy."""

HEARTBEAT = 60
"""Seconds between two heartbeats of a worker."""

ALLOWED = "allowed: FILE.log, grpc://HOST:PORT or a database's URL"


def open_storage(name: str, retries: int = 2, heartbeat: int = HEARTBEAT) -> BaseStorage:
    """
    A storage that many processes can share.

    A database has heartbeats: if a worker has sent none for twice ``heartbeat``, its trial is queued again, with its reports
    so far, by the next worker that begins a trial. Journal files and proxies have none in Optuna 5: the trial of a killed
    worker stays "running" there.

    :param name: a journal file ending in ``.log``, ``grpc://HOST:PORT`` of a proxy (:func:`serve`), or the URL of a database,
        such as ``sqlite:///search.db``
    :param retries: how often a trial is queued again
    :param heartbeat: seconds between two heartbeats
    :raises ValueError: naming the argument, what came and what is allowed
    """
    check_integer("retries", retries, 0)
    check_integer("heartbeat", heartbeat, 1)
    try:
        return _open(name, retries, heartbeat)
    except (OSError, ImportError, RuntimeError, OptunaError, SQLAlchemyError) as error:
        shown = without_password(name)
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ValueError(f"storage={shown!r} cannot be opened: {reason}; {ALLOWED}, of what is there") from error


def without_password(name: str) -> str:
    """
    The name of a storage for messages: a password is nobody's business.

    :param name: see :func:`open_storage`
    """
    shown = re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", name)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", shown)


def _open(name: str, retries: int, heartbeat: int) -> BaseStorage:
    if name.endswith(".log"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(name))
    if urlsplit(name).scheme == PROXY:
        host, port = _address("storage", name.removeprefix(f"{PROXY}://"))
        proxy = GrpcStorageProxy(host=host, port=port)
        proxy.wait_server_ready(timeout=heartbeat)
        return proxy
    if "://" not in name:
        raise ValueError(f"storage={name!r} is not allowed; {ALLOWED}")
    again = RetryHeartbeatStaleTrialCallback(max_retry=retries, inherit_intermediate_values=True)
    return RDBStorage(name, heartbeat_interval=heartbeat, grace_period=2 * heartbeat, heartbeat_stale_trial_callback=again)


def serve(storage: str, address: str) -> None:
    """
    Run a proxy between a database and many workers, which then need neither its driver nor a connection to it. Returns when
    interrupted.

    :param storage: as for :func:`open_storage`
    :param address: ``HOST:PORT``. Anyone who can connect can read and write the studies: there is no password
    :raises ValueError: naming the argument, what came and what is allowed
    """
    host, port = _address("serve", address)
    opened = open_storage(storage)
    try:
        run_grpc_proxy_server(opened, host=host, port=port)
    except RuntimeError as error:
        raise ValueError(f"serve={address!r} is not allowed: {error}; allowed: a free port of this machine") from error


def _address(argument: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{argument}={address!r} is not allowed; allowed: HOST:PORT, for example localhost:13000")
    return host, int(port)
