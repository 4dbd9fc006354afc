"""Every agent on a GPU: graphs, precision, synchronisation, resume, acting, a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.gpu.checks import Row, Where, rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.timeout(900),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name.replace(" ", "-"))
def test_on_a_gpu(row: Row) -> None:
    row.run(Where())
