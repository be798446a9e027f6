"""The manifests, rendered once."""

from __future__ import annotations

import pytest

from deploy.validate import FOLDERS, K8S, Object, render


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Object]]:
    """The objects of each Kustomize folder, by its path below deploy/k8s."""
    return {str(folder.relative_to(K8S)): render(folder) for folder in FOLDERS}


@pytest.fixture(params=[str(folder.relative_to(K8S)) for folder in FOLDERS])
def objects(rendered: dict[str, list[Object]], request: pytest.FixtureRequest) -> list[Object]:
    """The objects of one folder."""
    return rendered[request.param]
