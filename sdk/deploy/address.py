"""Where a board is: an ``ssh://`` address and a folder there, both safe to pass on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from device_profiles.errors import OptionError

_SCHEME = "ssh://"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]")
_EXAMPLE = "expected ssh://user@host or ssh://user@host:port"


@dataclass(frozen=True)
class Address:
    """One board.

    Args:
        user: Login name; None: what the ssh configuration says.
        host: Name, alias of the ssh configuration, or number.
        port: TCP port; None: what the ssh configuration says.
    """

    user: str | None
    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_SCHEME}{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    @property
    def login(self) -> str:
        """The ``ssh`` command that a person types to get there."""
        return f"ssh {f'-p {self.port} ' if self.port else ''}{f'{self.user}@' if self.user else ''}{self.host}"


def parse_address(text: str) -> Address:
    """Reads ``ssh://user@host:port``.

    Raises:
        OptionError: Another scheme, a password, a folder, or anything that ssh could take for an option.
    """
    if not text.startswith(_SCHEME):
        raise OptionError(f"--board {text!r}: only ssh is spoken; {_EXAMPLE}")
    user, at, place = text.removeprefix(_SCHEME).removesuffix("/").rpartition("@")
    if ":" in user:
        raise OptionError(f"--board ssh://...@{place}: passwords are not taken; use a key: --identity FILE")
    if "/" in place:
        raise OptionError(f"--board {text!r}: name the folder on the board with --dir; {_EXAMPLE}")
    host, colon, port = place.rpartition(":") if re.search(r":[^:\]]*$", place) else (place, "", "")
    problems = []
    if at and not _USER.fullmatch(user):
        problems.append(f"{user!r} is no login name")
    if not _HOST.fullmatch(host):
        problems.append(f"{host!r} is no host name")
    if colon and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        problems.append(f"{port!r} is no port in 1..65535")
    if problems:
        raise OptionError(f"--board {text!r}: {'; '.join(problems)}; {_EXAMPLE}")
    return Address(user or None, host.strip("[]"), int(port) if colon else None)


def remote_folder(text: str) -> str:
    """A folder on the board, checked; relative to the login's home, where it starts with ``./``.

    Raises:
        OptionError: Empty, a root, with ``..`` or control characters.
    """
    path = text.removeprefix("~/")
    parts = PurePosixPath(path).parts
    reasons = (
        (any(ord(c) < 32 or ord(c) == 127 for c in path), "it has control characters"),
        (".." in parts, "it leaves its folder by '..'"),
        (path.startswith("~"), "'~' is only understood as '~/'"),
        (not parts or parts[-1] == "/" or str(PurePosixPath(path)) == "//", "it is no folder of its own"),
    )
    wrong = [reason for bad, reason in reasons if bad]
    if wrong:
        raise OptionError(
            f"--dir {text!r}: {'; '.join(wrong)}; name a folder to create, such as edgewright-bundles/model"
        )
    normal = str(PurePosixPath(path))
    return normal if normal.startswith("/") else f"./{normal}"
