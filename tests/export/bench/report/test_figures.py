"""Figures."""

from __future__ import annotations

from tfdistill.export.bench.report.figures import plain_kind


def test_kinds_of_both_runtimes_have_one_name():
    assert plain_kind("Fully Connected (NC, QD8, F32, QC8W) GEMM") == plain_kind("FULLY_CONNECTED") == "Fully Connected"
    assert plain_kind("UNIDIRECTIONAL_SEQUENCE_LSTM") == "Unidirectional Sequence LSTM"
    assert plain_kind("GELU (NC)") == "GELU"
