"""The promises of every adapter as a suite of tests; a new adapter gets them all by giving one factory.

In a test module of the adapter:

    class TestPromises(Promises):
        @pytest.fixture
        def subject(self) -> Subject:
            return Subject(create_pipeline=..., sample=..., ...)
"""

from motioncache.testing.promises import Promises
from motioncache.testing.subject import Subject

__all__ = ["Promises", "Subject"]
