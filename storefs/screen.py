"""What `storefs status` shows a person, from the status document of a mount. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TROUBLE = ("pending", "refused", "conflicts", "held_deletions", "found")
"""Counts of what waits for somebody; any of them makes a mount degraded."""

_SHOWN = 5
"""Lines of each list on the screen."""

_LISTED = {
    "only_in_backup": "only in backup",
    "skipped": "not shown",
    "too_large": "too large",
    "warnings": "warning",
}


def is_degraded(state: Mapping[str, Any]) -> bool:
    """Whether somebody should look: offline, refused by the backend, or something waits."""
    wrong = not state.get("online") or state.get("error")
    return bool(wrong) or any(state.get(name) for name in _TROUBLE)


def render(state: Mapping[str, Any], now: float) -> str:
    """One screen for a person, from the status document."""
    part = f" (only {state['subdir']}/)" if state.get("subdir") else ""
    lines = [
        f"{state.get('mountpoint')}{part}: {_condition(state)}",
        _line("backend", f"{state.get('backend')}, {state.get('identity')}"),
        _line(
            "online since" if state.get("online") else "offline since",
            _ago(state.get("turned"), now),
        ),
        *(_line(name, text) for name, text in (state.get("traits") or {}).items()),
        _line("documents", f"{state.get('documents')}"),
        _line("received", _ago(state.get("last_in"), now)),
        _line("sent", _ago(state.get("last_out"), now)),
    ]
    lines += [_trouble(state, name, now) for name in _TROUBLE if state.get(name)]
    if state.get("error"):
        lines.append(_line("error", state["error"]))
    for name, title in _LISTED.items():
        lines += [_line(title, text) for text in _first(state.get(name) or ())]
    started = f"{_ago(state.get('since'), now)}, storefs {state.get('version')}"
    lines += [
        _line("started", f"{started}, process {state.get('pid')}"),
        _line("root", state.get("root")),
        _line("log", state.get("log")),
    ]
    return "\n".join(lines)


def render_store(store: Mapping[str, Any], now: float) -> list[str]:
    """Lines for a person, from what a store says of itself."""
    lines = ["store:"]
    for title, value in store.items():
        if title.endswith("time"):
            lines.append(_line(title, _ago(value, now)))
        elif isinstance(value, list):
            lines += [
                _line(title, f"{item['path']}, {_ago(item['time'], now)}, {item['size']} bytes")
                for item in value
            ]
        else:
            lines.append(_line(title, value))
    return lines


def _trouble(state: Mapping[str, Any], name: str, now: float) -> str:
    text = str(state[name])
    if name == "pending" and state.get("pending_since") is not None:
        text += f", the oldest {_ago(state['pending_since'], now)}"
    return _line(name.replace("_", " "), text)


def _condition(state: Mapping[str, Any]) -> str:
    words = ["online" if state.get("online") else "OFFLINE"]
    if state.get("online") and is_degraded(state):
        words.append("needs a look")
    if state.get("read_only"):
        words.append("read-only")
    return ", ".join(words)


def _line(title: str, text: object) -> str:
    return f"  {title:<14} {text}"


def _first(texts: Sequence[object]) -> list[object]:
    """As many as fit on a screen."""
    more = len(texts) - _SHOWN
    return [*texts[:_SHOWN], f"and {more} more, see --json"] if more > 0 else list(texts)


def _ago(moment: float | None, now: float) -> str:
    """How long ago, in the largest unit of which there are two or more."""
    if moment is None:
        return "never"
    seconds = max(0, int(now - moment))
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
