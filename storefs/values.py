"""Turns the text of one option into its value. Each function raises ValueError with what is
expected, never with the text itself: a DSN in the wrong variable would be a secret in a log.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

from storefs.errors import Exit, Quit

if TYPE_CHECKING:
    from collections.abc import Callable


def flag(text: str) -> bool:
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be a path without control characters")
    return text


def size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or not int(match[1]):
        raise ValueError("must be a size above 0 such as 64M, 1G or a number of bytes")
    return int(match[1]) << (10 * " KMGT".index(match[2].upper() or " "))


def seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError("must be a number of seconds above 0, such as 2.5")
    return value


def age(text: str) -> float:
    """Seconds from a number of hours, days or weeks."""
    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text.strip())
    if match is None or not int(match[1]):
        raise ValueError("must be an age such as 90d, 12w or 36h")
    return int(match[1]) * {"h": 3600.0, "d": 86400.0, "w": 604800.0}[match[2]]


def microseconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise ValueError("must be a whole number of microseconds from 0 to 999999, such as 50")
    return int(text)


def owner(text: str) -> tuple[int, int]:
    """User and group id from USER[:GROUP]. Raises Quit for anyone but root."""
    if os.geteuid() != 0:
        raise Quit(Exit.SETTINGS, "--owner needs root; without it the files are your own")
    import grp  # both modules only here: most mounts name no owner
    import pwd

    user, _, group = text.partition(":")
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError("there is no such user; write USER[:GROUP], names or numbers") from None
    try:
        if not group:
            return uid, pwd.getpwuid(uid).pw_gid
        return uid, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError("the group is not known; write USER:GROUP, names or numbers") from None
