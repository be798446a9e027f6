"""The media errors are rows of the one table of errors."""

import pytest

from services.common.errors import TABLE, Reason
from services.encoder.errors import MediaError


@pytest.mark.parametrize("kind", MediaError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_media_error_is_in_the_table_and_agrees_with_it(kind: type[MediaError]) -> None:
    assert TABLE[Reason(kind.reason)].retryable == kind.retryable
