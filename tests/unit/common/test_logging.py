"""Logs tell what happened without telling secrets."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import structlog
from services.common.logging import configure_logging

def fetch(url):
    raise ValueError("it broke")

configure_logging("INFO", "test")
try:
    fetch("https://s3/object?X-Amz-Signature=secret")
except ValueError:
    structlog.get_logger().error("fetch failed", exc_info=True)
"""


def test_trace_is_logged_without_local_variables() -> None:
    # In a process of its own, because logging is configured for the whole process.
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    entry = json.loads(ran.stderr)
    assert entry["event"] == "fetch failed"
    assert entry["exception"][0]["exc_value"] == "it broke"
    assert entry["exception"][0]["frames"][-1]["name"] == "fetch"
    assert "X-Amz-Signature" not in ran.stderr
