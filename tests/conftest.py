"""Makes the asserts of the shared laws tell what they compared."""

import pytest

pytest.register_assert_rewrite("laws")
