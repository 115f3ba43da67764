"""Measuring on a phone, against a stand-in for adb that prints what adb and benchmark_model print."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tfdistill.commands.app import app
from tfdistill.errors import UserError
from tfdistill.export.bench.phone import android
from tfdistill.export.bench.phone.android import PhoneOptions
from tfdistill.export.bench.report.terminal import show
from tfdistill.export.convert.convert import convert_model
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel

ADB = '''#!{python}
"""Replays a phone. state.json: devices, temperatures (taken in turn), outputs of benchmark_model (in turn)."""
import hashlib, json, pathlib, shlex, shutil, sys
place = pathlib.Path(__file__).parent
state = json.loads((place / "state.json").read_text())
with open(place / "log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
words = sys.argv[1:]
def take(name):
    values = state[name]
    value = values.pop(0) if len(values) > 1 else values[0]
    (place / "state.json").write_text(json.dumps(state))
    return value
def file(path):
    return place / "phone" / path.replace("/", "_")
if words == ["devices"]:
    print("List of devices attached\\n" + "".join(f"{{s}}\\t{{w}}\\n" for s, w in state["devices"].items()) + "\\n", end="")
    sys.exit()
assert words[:2] == ["-s", "P1"], words
words = words[2:]
if words[0] == "push":
    (place / "phone").mkdir(exist_ok=True)
    shutil.copy(words[1], file(words[2]))
    if state.get("damaged"):
        file(words[2]).write_bytes(b"cut")
    sys.exit()
words = shlex.split(words[1])
if words[0] == "sha256sum":
    print(hashlib.sha256(file(words[1]).read_bytes()).hexdigest(), words[1])
elif words[0] == "getprop":
    print({{"ro.product.manufacturer": "Maker", "ro.product.model": "Phone 1", "ro.build.version.release": "15"}}.get(words[1], ""))
elif words[0] == "dumpsys":
    print("Current Battery Service state:\\n  level: 80\\n  temperature: " + take("temperatures"), end="\\r\\n")
elif words[0] == "sh":
    print(state.get("tool", ""))
elif any(word.startswith("--graph=") for word in words):
    output = take("outputs")
    print(output)
    sys.exit(1 if "ERROR" in output else 0)
'''


def output(median: int = 6000, percentiles: bool = True) -> str:
    """Return what benchmark_model prints; older builds print no percentiles."""
    more = f" p5=5850 median={median} p95=6500" if percentiles else ""
    return (
        "INFO: STARTING!\n"
        f"INFO: count=83 first=9800 curr=6001 min=5900 max=9800 avg=6100.2 std=400{more}\n"
        f"INFO: count=50 first=6100 curr=6000 min=5800 max=7000 avg={median + 50.5} std=210{more}\n"
        "INFO: Memory footprint delta from the start of the tool (MB): init=20.5 overall=31.25\n"
    )


class Phone:
    """The stand-in: its folder goes to the front of the PATH."""

    def __init__(self, place: Path):
        self.place = place
        adb = place / "adb"
        adb.write_text(ADB.format(python=sys.executable))
        adb.chmod(adb.stat().st_mode | stat.S_IXUSR)
        self.set()

    def set(self, **state) -> None:
        usual = {"devices": {"P1": "device"}, "temperatures": ["312"], "outputs": [output()]}
        usual["tool"] = android.TOOL
        (self.place / "state.json").write_text(json.dumps({**usual, **state}))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.place / "log").read_text().splitlines()]


@pytest.fixture
def phone(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return Phone(tmp_path / "bin")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    model = TextModel(BertConfig(4, 16, 1, 2, 32, max_position_embeddings=16), 2)
    out = tmp_path_factory.mktemp("files")
    return convert_model(model, out, name="m", length=8, modes=["fp32"])["fp32"].path


@pytest.mark.heavy
def test_a_whole_measurement(phone, file):
    delegated = (
        "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.\n"
    )
    phone.set(outputs=[delegated + output(median) for median in (6000, 7000, 6100, 6200, 6050)])
    (found,) = android.bench_on_phone(
        [file], android.find_phone(), PhoneOptions(threads=4, runs=50, delegate="gpu", affinity="f0", repeats=3)
    )
    # The second one was slow: only the third to fifth lie within 5 %.
    assert found["medians_ms"] == [6.0, 7.0, 6.1, 6.2, 6.05] and found["agree"] and found["repeats"] == 5
    assert found["latency_ms"]["median"] == 6.1 and found["length"] == 8 and found["celsius"] == [31.2] * 5
    assert found["phone"] == {"maker": "Maker", "model": "Phone 1", "android": "15", "processor": "", "serial": "P1"}
    assert found["delegation"].startswith("Explicitly applied GPU delegate")
    call = next(words[-1] for words in phone.calls() if "--graph" in words[-1]).split()
    assert call[:3] == ["taskset", "f0", android.TOOL]
    assert {"--num_threads=4", "--num_runs=50", "--warmup_runs=5", "--use_gpu=true"} <= set(call)
    options = dict(word.split("=", 1) for word in call if "=" in word)
    names = options["--input_layer"].split(",")
    assert sorted(names) == ["padding_mask", "segment_ids", "token_ids"]
    assert options["--input_layer_shape"] == "1,8:1,8:1,8"
    assert set(options["--input_layer_value_range"].split(":")) == {
        "token_ids,0,3",
        "padding_mask,1,1",
        "segment_ids,0,0",
    }
    assert phone.calls()[-1][-1].startswith(f"rm -r {android.PLACE}-")


@pytest.mark.heavy
def test_operators_are_measured_apart(phone, file):
    table = (
        "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        "============================== Run Order ==============================\n"
        "\t FULLY_CONNECTED\t 6.0\t 5.9\t 97%\t 97%\t 0.0\t 1\t[logits]:0\n"
    )
    plain = output()
    phone.set(outputs=[plain])
    result = CliRunner().invoke(app, ["bench", str(file), "--adb", "--profile", "--json"])
    assert isinstance(result.exception, UserError) and "--profile" in str(result.exception)
    phone.set(outputs=[plain, plain, plain, output(7000) + table])
    result = CliRunner().invoke(app, ["bench", str(file), "--adb", "--profile", "--json"])
    (found,) = json.loads(result.stdout.splitlines()[-1]).values()
    assert found["latency_ms"]["median"] == 6.0 and found["profile"]["total_ms"] == 7.0505
    assert found["profile"]["kinds"][0]["kind"] == "FULLY_CONNECTED"
    assert found["minimum"] == {"warmup": True, "runs": True}
    profiled = ["--enable_op_profiling=true" in words[-1] for words in phone.calls() if "--graph" in words[-1]]
    assert profiled[-4:] == [False, False, False, True]


@pytest.mark.heavy
def test_only_the_last_repeats_count(phone, file):
    phone.set(outputs=[output(median) for median in (10000, 9000, 8000, 7000, 6000, 6000, 6000)])
    (found,) = android.bench_on_phone([file], android.find_phone())
    assert found["agree"] and found["repeats"] == 7 and found["latency_ms"]["median"] == 6.0


@pytest.mark.slow
def test_a_file_of_several_lengths_is_measured_at_the_longest(phone, tmp_path):
    model = TextModel(BertConfig(4, 16, 1, 2, 32, max_position_embeddings=16), 2)
    made = convert_model(model, tmp_path, name="m", length=(4, 8, 16), modes=["fp32"])["fp32"].path
    (found,) = android.bench_on_phone([made], android.find_phone(), PhoneOptions(repeats=2))
    call = next(words[-1] for words in phone.calls() if "--graph" in words[-1]).split()
    assert found["length"] == 16 and "--signature_to_run_for=serving_default" in call
    assert "--input_layer_shape=1,16:1,16:1,16" in call


@pytest.mark.heavy
def test_a_delegate_that_is_not_mentioned(phone, file):
    (found,) = android.bench_on_phone([file], android.find_phone(), PhoneOptions(delegate="gpu", repeats=2))
    assert "GPU" in android.remarks(["m"], [found])[0]


@pytest.mark.heavy
def test_nothing_is_left_on_the_phone_after_an_error(phone, file):
    phone.set(outputs=["ERROR: Failed to load model."])
    with pytest.raises(UserError):
        android.bench_on_phone([file], android.find_phone())
    assert phone.calls()[-1][-1].startswith(f"rm -r {android.PLACE}-")


@pytest.mark.heavy
def test_repeats_that_never_agree_are_said(phone, file):
    phone.set(outputs=[output(median, percentiles=False) for median in (6000, 7000) * 4])
    (found,) = android.bench_on_phone([file], android.find_phone())
    assert not found["agree"] and found["repeats"] == android.MOST_REPEATS
    assert "5%" in android.remarks(["m"], [found])[0]
    console = Console(width=200, record=True, file=io.StringIO())
    show({Path("m"): [found]}, console)
    text = console.export_text()
    assert "Maker Phone 1, Android 15, xnnpack" in text and "6.05" in text and "5%" in text


@pytest.mark.heavy
def test_a_warm_phone_may_cool(phone, file, monkeypatch):
    monkeypatch.setattr(android, "_COOLING_SECONDS", 0.02)
    monkeypatch.setattr(android, "_MOST_COOLING_SECONDS", 0.04)
    phone.set(temperatures=["415", "402", "390"])
    (found,) = android.bench_on_phone([file], android.find_phone(), PhoneOptions(repeats=2))
    assert found["celsius"] == [39.0, 39.0] and not android.remarks(["m"], [found])
    phone.set(temperatures=["450"])
    (found,) = android.bench_on_phone([file], android.find_phone(), PhoneOptions(repeats=2))
    assert "40 °C" in android.remarks(["m"], [found])[0]


@pytest.mark.heavy
def test_the_users_own_tool_is_pushed(phone, file, tmp_path):
    (tmp_path / "benchmark_model").write_bytes(b"tool")
    android.bench_on_phone([file], android.find_phone("P1"), PhoneOptions(tmp_path / "benchmark_model", repeats=2))
    (pushed,) = (phone.place / "phone").glob("*_benchmark_model")
    assert hashlib.sha256(pushed.read_bytes()).hexdigest() == hashlib.sha256(b"tool").hexdigest()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"devices": {}}, "adb lists no phone"),
        ({"devices": {"P1": "device", "P2": "device"}}, "P1, P2"),
        ({"devices": {"P1": "unauthorized"}}, "P1 is unauthorized"),
        ({"damaged": True}, "damaged"),
        ({"tool": ""}, "--benchmark-model"),
        ({"outputs": ["ERROR: Failed to load model."]}, "ERROR: Failed to load model"),
        ({"outputs": ["INFO: nothing"]}, "m-fp32.tflite"),
        ({"outputs": ["WARN: Unconsumed cmdline flags: --x=1\n"]}, "--x=1"),
    ],
)
def test_what_can_go_wrong(phone, file, state, message):
    phone.set(**state)
    result = CliRunner().invoke(app, ["bench", str(file), "--adb"])
    assert isinstance(result.exception, UserError) and message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.heavy
def test_other_files_are_refused(phone, tmp_path):
    (tmp_path / "README.md").write_text("no model")
    with pytest.raises(UserError, match="README"):
        android.bench_on_phone([tmp_path / "README.md"], android.find_phone())


@pytest.mark.heavy
def test_an_adb_that_fails(phone):
    (phone.place / "adb").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="adb devices"):
        android.find_phone()


@pytest.mark.parametrize(
    ("options", "value"),
    [({"delegate": "npu"}, "npu"), ({"affinity": "f0; reboot"}, "f0; reboot"), ({"repeats": 1}, "1 repeats")],
)
def test_options_are_checked_before_the_phone_is_used(options, value):
    with pytest.raises(UserError, match=value):
        PhoneOptions(**options)


@pytest.mark.heavy
def test_a_phone_or_a_tool_that_is_missing(phone, file, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--serial P9"):
        android.find_phone("P9")
    with pytest.raises(UserError, match="none is missing"):
        android.bench_on_phone([file], android.find_phone(), PhoneOptions(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="PATH"):
        android.find_phone()


@pytest.mark.heavy
def test_the_command_prints_a_table_or_json(phone, file):
    result = CliRunner().invoke(app, ["bench", str(file), "--adb"])
    assert result.exit_code == 0 and "Phone 1" in result.output, result.output
    result = CliRunner().invoke(app, ["bench", str(file), "--adb", "--json"])
    (found,) = json.loads(result.stdout.splitlines()[-1]).values()
    assert found["latency_ms"]["median"] == 6.0 and found["agree"]
