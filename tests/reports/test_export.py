import sys
from io import BytesIO, StringIO

import pandas as pd
import pytest

from harness.errors import UserError
from harness.testing.records import make_memory, make_provenance, make_record
from reports.export import frame, to_csv, to_parquet


def with_method(**config):
    base = make_record().config
    return {**base, "method": {**base["method"], "config": config}}


def test_a_run_is_a_row_and_a_value_a_column():
    record = make_record(seed=3, score=0.5, memory=make_memory(2))
    [row] = frame([record]).to_dict("records")
    assert row["run_key"] == record.run_key
    assert (row["method"], row["task"], row["seed"]) == ("mp_ismoe", "vqa", 3)
    assert (row["primary"], row["score"]) == ("vqa_accuracy", 0.5)
    assert row["test.accuracy/shape"] == pytest.approx(0.48)
    assert row["val.accuracy"] == pytest.approx(0.504)
    assert row["baseline.majority"] == 0.373
    assert row["config.train.batch_size"] == 128
    assert row["config.method.config.bits"] == 8
    assert row["params.parts.head"] == 1_683
    assert row["memory.at_peak_bytes.saved_side"] == 28 * 2**20
    assert row["memory.train_peak_bytes"] == make_memory(2).train_peak_bytes
    assert row["time.train_seconds"] == 50.0
    assert row["provenance.data.rows.train"] == 34_000
    assert row["provenance.packages.torch"] == "2.11.0"


def test_whole_numbers_stay_whole_where_a_run_has_none():
    table = frame([make_record(), make_record(seed=1, memory=None, params=None, time=None)])
    peaks = table["memory.train_peak_bytes"]
    assert str(peaks.dtype) == "Int64"
    assert peaks[0] == make_memory().train_peak_bytes
    assert peaks[1] is pd.NA
    assert str(table["provenance.limited"].dtype) == "boolean"
    assert str(table["time.train_seconds"].dtype) == "Float64"


def test_a_setting_of_several_types_is_json():
    configs = [with_method(width=64), with_method(width="auto"), with_method(width=None)]
    table = frame([make_record(seed=n, config=config) for n, config in enumerate(configs)])
    assert list(table["config.method.config.width"]) == ["64", '"auto"', pd.NA]
    table = frame([make_record(config=with_method(layers=[1, 2], lr=1))])
    assert list(table["config.method.config.layers"]) == ["[1, 2]"]
    whole, half = with_method(scale=1), with_method(scale=0.5)
    table = frame([make_record(config=whole), make_record(seed=1, config=half)])
    assert list(table["config.method.config.scale"]) == [1.0, 0.5]


def test_failed_and_limited_runs_are_rows_too():
    failed = make_record(status="oom", error="no\nmemory, 'none'", memory=None)
    limited = make_record(seed=1, provenance=make_provenance(limited=True))
    table = frame([failed, limited])
    assert list(table["status"]) == ["oom", "done"]
    assert list(table["provenance.limited"]) == [False, True]


def test_no_records_are_a_table_without_rows():
    assert len(frame([])) == 0
    assert "run_key" in frame([]).columns


def test_csv_holds_the_same():
    records = [make_record(), make_record(seed=1, status="failed", error='a "b",\nc', memory=None)]
    table = frame(records)
    read = pd.read_csv(StringIO(to_csv(records).decode()))
    assert list(read.columns) == list(table.columns)
    assert list(read["run_key"]) == [record.run_key for record in records]
    assert read["error"][1] == 'a "b",\nc'
    assert read["memory.train_peak_bytes"][0] == make_memory().train_peak_bytes


def test_parquet_holds_the_same():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    records = [
        make_record(config=with_method(width=64, layers=[1])),
        make_record(seed=1, config=with_method(width="auto"), memory=None),
    ]
    pd.testing.assert_frame_equal(pd.read_parquet(BytesIO(to_parquet(records))), frame(records))


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        to_parquet([make_record()])
