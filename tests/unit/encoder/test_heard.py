"""Which sound is meant to be another one, and which says so by damage."""

from __future__ import annotations

import pytest

from services.encoder.inspection.heard import Form, Heard, meant_forms

STEREO, MONO, SURROUND = Form(48_000, "stereo"), Form(48_000, "mono"), Form(48_000, "5.1")


@pytest.mark.parametrize(
    ("runs", "meant"),
    [
        ([], set()),
        ([(STEREO, 50)], {STEREO}),
        # One frame, or forty of them that come to a second together.
        ([(STEREO, 50), (MONO, 1), (STEREO, 50)], {STEREO}),
        ([(STEREO, 3), (MONO, 1)] * 60 + [(STEREO, 3)], {STEREO}),
        # What lasts.
        ([(STEREO, 50), (SURROUND, 60), (STEREO, 50)], {STEREO, SURROUND}),
        # What goes on beyond an end, for all that is known.
        ([(STEREO, 50), (SURROUND, 2)], {STEREO, SURROUND}),
        ([(MONO, 1), (STEREO, 50)], {STEREO, MONO}),
    ],
)
def test_what_lasts_or_is_at_an_end_is_meant(
    runs: list[tuple[Form, int]], meant: set[Form]
) -> None:
    forms = [form for form, count in runs for _ in range(count)]
    heard = [Heard(n * 0.02, (n + 1) * 0.02, form) for n, form in enumerate(forms)]
    assert meant_forms(heard) == meant
