"""Commands on a board over the system's own ``ssh``: its keys, its known hosts, its configuration.

``EDGEWRIGHT_SSH`` replaces the command, for example ``ssh -F my-config``.  Nothing ever asks:
a password or an unknown host key is an error that says what to do.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from device_profiles.errors import DependencyError, DeviceError, OptionError

from .address import Address

COMMAND = "EDGEWRIGHT_SSH"
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "LogLevel": "ERROR",
}
_FAILED = 255
_SHOWN = 4


@dataclass(frozen=True)
class Done:
    """A command that ran on the board to its end."""

    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """The last lines of its error output, as one."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return " / ".join(lines[-_SHOWN:]) or f"exit code {self.code}"


@dataclass(frozen=True)
class Link:
    """A board that commands can be sent to.

    Args:
        address: Where it is.
        identity: Private key file; None: what the ssh configuration says.
    """

    address: Address
    identity: Path | None = None

    def run(
        self,
        script: str,
        *arguments: str,
        step: str,
        timeout_s: float,
        send: Callable[[IO[bytes]], None] | None = None,
    ) -> Done:
        """Runs a POSIX shell script on the board.

        Args:
            script: Its text.
            arguments: ``$1`` and following.
            step: What it does, for the message of an error.
            timeout_s: It is ended after so many seconds.
            send: Writes its standard input.

        Raises:
            DependencyError: There is no ssh on this machine.
            DeviceError: The board cannot be reached, refuses the login, or the connection was cut.
        """
        remote = shlex.join(["sh", "-c", script, "edgewright", *arguments])
        done, late = _run([*self._command(), "--", self.address.host, remote], send, timeout_s)
        if late:
            raise DeviceError(f"{self.address}: no answer within {timeout_s:.0f} s while {step}; try again")
        if done.code == _FAILED or done.code < 0:
            raise DeviceError(_fault(self.address, step, done))
        return done

    def _command(self) -> list[str]:
        command = shlex.split(os.environ.get(COMMAND, "")) or ["ssh"]
        if shutil.which(command[0]) is None:
            raise DependencyError(f"there is no {command[0]!r} on this machine; install the OpenSSH client")
        command += ["-T", *(part for key, value in _OPTIONS.items() for part in ("-o", f"{key}={value}"))]
        command += ["-p", str(self.address.port)] if self.address.port else []
        command += ["-l", self.address.user] if self.address.user else []
        return command + self._key()

    def _key(self) -> list[str]:
        if self.identity is None:
            return []
        if not self.identity.is_file():
            raise OptionError(f"--identity {self.identity}: no such key file")
        escaped = os.path.abspath(self.identity).replace("%", "%%")
        return ["-i", escaped, "-o", "IdentitiesOnly=yes"]


def _run(command: list[str], send: Callable[[IO[bytes]], None] | None, timeout_s: float) -> tuple[Done, bool]:
    late = threading.Event()
    with TemporaryFile() as out, TemporaryFile() as err:
        stdin = subprocess.DEVNULL if send is None else subprocess.PIPE
        environment = {**os.environ, "LC_ALL": "C"}
        with subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err, env=environment) as process:

            def stop() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(timeout_s, stop)
            timer.start()
            try:
                _feed(process, send)
                process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                timer.cancel()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return Done(process.returncode, *texts), late.is_set()


def _feed(process: subprocess.Popen[bytes], send: Callable[[IO[bytes]], None] | None) -> None:
    """Writes standard input; a far end that stops reading says why by its exit code."""
    if send is None or process.stdin is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):
        send(process.stdin)
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.close()


_FAULTS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key has changed; find out why, then: ssh-keygen -R {host}"),
    (r"Host key verification failed|host key is known", "its host key is not known here; accept it once: {login}"),
    (
        r"Permission denied|Too many authentication failures|UNPROTECTED PRIVATE KEY",
        "it refuses the login; put a key there with ssh-copy-id, or name one with --identity",
    ),
    (r"Could not resolve hostname", "there is no such host name; check it, or use the board's number"),
    (
        r"ssh: connect to host|banner exchange|kex_exchange_identification",
        "it cannot be reached; check that it is on, on this network, and that ssh listens on that port",
    ),
)


def _fault(address: Address, step: str, done: Done) -> str:
    said = done.err.strip()
    for pattern, advice in _FAULTS:
        if re.search(pattern, said):
            return f"{address}: {advice.format(host=address.host, login=address.login)} ({done.reason})"
    return f"{address}: the connection was cut while {step}; try again ({done.reason})"
