"""Identifiers: a prefix that says of what, and 128 random bits in hexadecimal."""

from __future__ import annotations

from uuid import uuid4


def export_id() -> str:
    """Return a new export id."""
    return f"exp_{uuid4().hex}"


def video_id() -> str:
    """Return a new id for an uploaded video."""
    return f"vid_{uuid4().hex}"


def task_id() -> str:
    """Return a new task id."""
    return f"tsk_{uuid4().hex}"


def run_id() -> str:
    """Return a new id for one execution of a task."""
    return f"run_{uuid4().hex}"


def preview_id() -> str:
    """Return a new id for the result of a direct encode."""
    return f"prv_{uuid4().hex}"
