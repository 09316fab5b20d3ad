"""Every measured figure of the READMEs is that of a result file."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the scripts that make the tables export PyTorch models")

from tests.native import benchmark, benchmark_open, parity, readme, web_benchmark
from tests.quantization import benchmark as quantization
from tests.sparsity import benchmark as sparsity
from tests.sparsity import inside as sparse_inside
from tests.sparsity import linear_s8
from tests.sparsity import quality as sparse_quality
from tests.sparsity import transformer as sparse_transformer
from tests.sparsity import web_benchmark as sparsity_web


@pytest.mark.parametrize(
    ("path", "mark", "text"),
    [
        (readme.NATIVE, "speed", benchmark.text),
        (readme.NATIVE, "sparse", sparsity.text),
        (readme.NATIVE, "sparse_transformer", sparse_transformer.text),
        (readme.NATIVE, "sparse_linear_s8", linear_s8.text),
        (sparse_inside.README, "inside", sparse_inside.text),
        (readme.NATIVE, "opening", benchmark_open.text),
        (readme.NATIVE, "parity", parity.text),
        (readme.WEB, "speed", web_benchmark.text),
        (readme.WEB, "sparse", sparsity_web.text),
        (readme.WEB, "sparse_linear_s8", linear_s8.web_text),
        (sparse_quality.README, "quality", sparse_quality.text),
        (quantization.README, "quality", quantization.quality_table),
        (quantization.README, "speed", quantization.speed_table),
    ],
)
def test_a_table_is_made_from_the_result_files(path, mark, text):
    assert readme.table_of(path, mark) == text()
