"""Images and manifests: what can be told without a cluster, and what cannot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from checks.tool import BIN, ROOT, accepts, not_run_here, run
from deploy.validate import FOLDERS
from services.encoder.capabilities import prove_encoder
from services.encoder.ffmpeg.process import find_ffmpeg
from videoexport.v1 import export_pb2

pytestmark = pytest.mark.timeout(600)

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
CONTEXT_VARIABLE = "CHECK_KUBE_CONTEXT"


def test_hadolint() -> None:
    accepts(BIN / "hadolint", DOCKERFILE)


def test_manifests(remark: Callable[[str], None]) -> None:
    remark(accepts(BIN / "python", ROOT / "deploy/validate.py").rstrip())


@pytest.mark.parametrize("target", ["api", "encoder", "storage"])
def test_image(target: str) -> None:
    """Builds the image, and starts it as Kubernetes would: no root, nothing writable but /tmp."""
    if shutil.which("docker") is None or run("docker", "info").returncode != 0:
        not_run_here(f"building the image {target} needs a Docker daemon")
    tag = f"videoexport-{target}:check"
    accepts("docker", "build", "--file", DOCKERFILE, "--target", target, "--tag", tag, ".")
    confined = ("--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")
    accepts("docker", "run", "--rm", *confined, tag, "--help")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_cluster_accepts(folder: Path) -> None:
    """Has a real API server judge the objects, changing nothing; the namespace must exist."""
    context = os.environ.get(CONTEXT_VARIABLE)
    if context is None:
        not_run_here(f"asking a cluster about {folder.name} needs one named in {CONTEXT_VARIABLE}")
    kubectl = (BIN / "kubectl", "--context", str(context))
    accepts(*kubectl, "apply", "--dry-run=server", "--kustomize", folder)


async def test_gpu_encodes() -> None:
    """A trial encode as encoder pods do at start; everything else about GPUs is text here."""
    problem = await prove_encoder(find_ffmpeg(), export_pb2.ENCODER_FAMILY_NVENC)
    if problem is not None:
        not_run_here(f"encoding on a GPU: {problem}")
