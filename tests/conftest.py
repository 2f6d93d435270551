"""What all tests have: fixtures by subject, in ``support``."""

import hypothesis
import pytest

# Their assertions are shown like those of a test.
pytest.register_assert_rewrite("support")
pytest_plugins = ("support.options", "support.servers", "support.credentials")

# Examples are small, and how long one takes says more about who else is using the machine.
hypothesis.settings.register_profile("snowmelt", deadline=None)
hypothesis.settings.load_profile("snowmelt")
