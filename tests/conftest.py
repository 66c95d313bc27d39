"""Makes the asserts of the shared laws tell what they compared, and keeps torch to one thread: the tests' models are tiny, and
threads that wait for each other make them ten times as slow where the machine is busy. Tests of threads ask for them."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the processes that tests start inherit it

pytest.register_assert_rewrite("laws")
