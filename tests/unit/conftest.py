"""Settings of all unit tests."""

from hypothesis import settings

# A busy machine makes any single example slow; pytest-timeout bounds the test as a whole.
settings.register_profile("videoexport", deadline=None)
settings.load_profile("videoexport")
