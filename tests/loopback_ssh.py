"""A real OpenSSH server on 127.0.0.1 with its own keys, and a proxy that cuts connections."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_ALIAS = "edgewright-test-board"


@dataclass(frozen=True)
class Server:
    """A server that runs, and a client configuration that knows its host key."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{port}"

    @property
    def key(self) -> Path:
        return self.folder / "client key"

    def client(self, known: str = "known_hosts") -> str:
        """Value of ``EDGEWRIGHT_SSH``; the files of known hosts are made here on demand."""
        public = (self.folder / "host_key.pub").read_text().split()
        other = (self.folder / "client key.pub").read_text().split()
        lines = {"known_hosts": public, "changed_hosts": other, "no_hosts": []}[known]
        (self.folder / known).write_text(f"{_ALIAS} {' '.join(lines[:2])}\n" if lines else "")
        config = self.folder / f"{known}.config"
        config.write_text(
            f"Host *\n  UserKnownHostsFile {self.folder / known}\n  GlobalKnownHostsFile /dev/null\n"
            f"  HostKeyAlias {_ALIAS}\n  IdentityAgent none\n  IdentityFile none\n"
        )
        return shlex.join(["ssh", "-F", str(config)])


@contextmanager
def serve(folder: Path, environment: Mapping[str, str], *, tmpfs: tuple[Path, int] | None = None) -> Iterator[Server]:
    """Runs a server.

    Args:
        folder: Where its files go.
        environment: What every session there sees.
        tmpfs: A folder that is a file system of so many bytes, for the server alone.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    make_key(folder / "host_key")
    make_key(folder / "client key")
    shutil.copy(folder / "client key.pub", folder / "authorized_keys")
    settings = " ".join(f'"{key}={value}"' for key, value in environment.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"MaxStartups 100\nPrintMotd no\n{f'SetEnv {settings}' if settings else ''}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    command = [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
    if tmpfs is not None:
        mount = f"mount -t tmpfs -o size={tmpfs[1]} none {shlex.quote(str(tmpfs[0]))} && exec {shlex.join(command)}"
        command = ["unshare", "-m", "sh", "-c", mount]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(port, process, folder / "log")
        yield Server(folder, port)
    finally:
        process.terminate()
        process.wait()


def make_key(path: Path) -> None:
    """Writes a key pair without a passphrase."""
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"sshd did not start: {log.read_text(errors='replace')}")


@contextmanager
def cut_after(port: int, limit_bytes: int) -> Iterator[int]:
    """A port that leads to another one and drops each connection once so many bytes went in."""
    listener = socket.create_server(("127.0.0.1", 0))
    pipes: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                for source, sink, limit in ((client, server, limit_bytes), (server, client, None)):
                    pipes.append(threading.Thread(target=_pipe, args=(source, sink, limit), daemon=True))
                    pipes[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in (thread, *pipes):
            one.join(timeout=10)


def _pipe(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
    seen = 0
    with suppress(OSError), source, sink:
        while limit is None or seen < limit:
            data = source.recv(4096)
            if not data:
                break
            seen += len(data)
            sink.sendall(data)
        for end in (source, sink):
            end.shutdown(socket.SHUT_RDWR)
