"""Names of users and identifiers, as they may come from a caller."""

from __future__ import annotations

from typing import Any, cast

import pytest
from grpc.aio import ServicerContext

from services.common import ids
from services.common.caller import USER_KEY, as_user, has_control_characters, is_id, user_of
from services.common.errors import DomainError, Reason


class Call:
    """The one side of a call that names its user."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


def user(*metadata: tuple[str, str | bytes]) -> str:
    return user_of(cast(ServicerContext[Any, Any], Call(*metadata)))


@pytest.mark.parametrize(
    "name", ["anna", "A", "_", "0", "anna.b@example.com", "a+b-c_d.e", "u" * 128]
)
def test_user_is_the_one_in_the_metadata(name: str) -> None:
    assert user(("other", "x"), (USER_KEY, name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "a..b",
        "a/b",
        "../b",
        "a\\b",
        "a b",
        "a\nb",
        "a\x00b",
        "anna\n",
        "é",
        "u" * 129,
    ],
)
def test_user_that_cannot_be_a_step_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(DomainError) as raised:
        user((USER_KEY, name))
    assert raised.value.reason is Reason.INVALID_REQUEST
    assert [item.field for item in raised.value.violations] == [USER_KEY]


def test_call_without_a_user_is_unauthenticated() -> None:
    with pytest.raises(DomainError) as raised:
        user(("other", "x"))
    assert raised.value.reason is Reason.USER_REQUIRED


def test_as_user_names_the_user() -> None:
    assert user(*as_user("anna")) == "anna"


@pytest.mark.parametrize(
    ("make", "prefix"),
    [
        (ids.export_id, "exp"),
        (ids.video_id, "vid"),
        (ids.task_id, "tsk"),
        (ids.run_id, "run"),
        (ids.preview_id, "prv"),
    ],
)
def test_new_ids_are_ids_and_never_the_same(make: Any, prefix: str) -> None:
    assert is_id(make(), prefix)
    assert len({make() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exp_",
        "vid_" + "0" * 32,  # another kind
        "exp_" + "0" * 31,
        "exp_" + "0" * 33,
        "exp_" + "A" * 32,
        "exp_" + "g" * 32,
        "exp_" + "0" * 32 + "\n",
        " exp_" + "0" * 32,
        "exp_../" + "0" * 29,
    ],
)
def test_what_is_not_an_export_id(text: str) -> None:
    assert not is_id(text, "exp")


@pytest.mark.parametrize("text", ["\x00", "a\nb", "a\x7f", "\x85", "a\u202eb", "\u2028", "\u200b"])
def test_control_characters_are_found(text: str) -> None:
    # Direction marks and invisible characters included: they make a name look like another.
    assert has_control_characters(text)


def test_text_of_any_script_has_no_control_characters() -> None:
    assert not has_control_characters("Ünïcödé 映画 🎬 (1).mp4")
