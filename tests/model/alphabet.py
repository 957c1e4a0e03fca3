"""The few names and contents of which everything that happens in the model is made."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.machines import CONFIG

A, B = "auths/a.json", "auths/b.json"
DEEP = "auths/d/c.json"
ODD = "auths/odd"
"""A document only because a backend holds it; a local file otherwise."""
LOCAL = ["auths/a.json.bak", "auths/x.tmp"]

machines = st.integers(0, 1)
documents = st.sampled_from([A, A, B, CONFIG, DEEP])
shared = st.sampled_from([A, A, B, CONFIG, DEEP, ODD])
names = st.sampled_from([A, A, B, CONFIG, DEEP, ODD, *LOCAL])
numbers = st.integers(0, 30)
choices = st.integers(0, 7)


def valid(number: int) -> bytes:
    return b'{"n": "%02d"}' % number


contents = st.one_of(
    numbers.map(valid),
    numbers.map(valid),
    numbers.map(lambda n: valid(n)[:-1] + b" "),
    st.just(b""),
)
