"""What holds for every test: chance has a fixed seed, so that a failure comes back."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")
