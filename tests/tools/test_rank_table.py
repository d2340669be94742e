"""Rank tables: the documents' own, every failure of the old tools, and what the check finds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindformers_vit.tools import hccn
from tools import hccl_tools, merge_hccl

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "tests" / "documents"
TOOL = """#!/bin/sh
# stands in for Ascend's hccn_tool: hccn_tool -i N -ip -g
echo "$@" >> "{log}"
case $2 in {cases}
*) exit 1;; esac
"""


@pytest.fixture(autouse=True)
def no_conf(monkeypatch, tmp_path):
    monkeypatch.setattr(hccn, "HCCN_CONF", tmp_path / "hccn.conf")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Puts a stand-in program on PATH that answers by its -i argument."""

    def install(answers, name="hccn_tool"):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        cases = "\n".join(f'{i}) printf "{answer}";;' for i, answer in answers.items())
        path = folder / name
        path.write_text(TOOL.format(log=tmp_path / "asked", cases=cases))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def addresses(devices):
    return {i: f"ipaddr:{ip}\\nnetmask:255.255.255.0\\n" for i, ip in enumerate(devices)}


def device_ips(table, server=0):
    return [device["device_ip"] for device in table["server_list"][server]["device"]]


def written(folder, pattern="hccl*.json"):
    (path,) = folder.glob(pattern)
    return json.loads(path.read_text())


def run(program, *arguments):
    return program.main([str(a) for a in arguments])


def refused(capsys, program, *arguments):
    before = set(Path.cwd().glob("*.json"))
    assert run(program, *arguments) == 2
    assert set(Path.cwd().glob("*.json")) == before
    return capsys.readouterr().err


def table_of(server, ips, first_rank=0):
    devices = [
        {"device_id": str(i), "device_ip": ip, "rank_id": str(first_rank + i)}
        for i, ip in enumerate(ips)
    ]
    server = {"server_id": server, "device": devices, "host_nic_ip": "reserve"}
    return {"version": "1.0", "server_count": "1", "server_list": [server], "status": "completed"}


def save(name, table):
    Path(name).write_text(json.dumps(table))
    return name


def test_the_documented_table_of_8_cards(tool, tmp_path):
    documented = (DOCUMENTS / "rank_table_8_cards.json").read_text()
    tool(addresses(device_ips(json.loads(documented))))
    script = [sys.executable, ROOT / "tools" / "hccl_tools.py"]
    subprocess.run([*script, "--device_num", "[0,8)", "--server_ip", "10.0.0.1"], check=True)
    path = tmp_path / "hccl_8p_01234567_10.0.0.1.json"
    made = path.read_text()
    wanted = documented.replace("xx.xx.xx.xx", "10.0.0.1")
    assert json.dumps(json.loads(made)) == json.dumps(json.loads(wanted))
    assert (tmp_path / "asked").read_text().splitlines() == [f"-i {i} -ip -g" for i in range(8)]
    assert path.stat().st_mode & 0o111 == 0


def test_the_documented_table_of_16_cards(tool, capsys):
    documented = (DOCUMENTS / "rank_table_16_cards.json").read_text()
    for number in (0, 1):
        tool(addresses(device_ips(json.loads(documented), number)))
        assert run(hccl_tools, "--server_ip", f"10.0.0.{number + 1}") == 0
    wanted = json.loads(documented)
    for number, server in enumerate(wanted["server_list"]):
        server["server_id"] = f"10.0.0.{number + 1}"
    for _ in range(2):  # the second time the first result lies among the inputs
        assert run(merge_hccl, *sorted(Path().glob("hccl*.json"))) == 0
        made = Path("hccl_2s_16p.json").read_text()
        assert json.dumps(json.loads(made)) == json.dumps(wanted)
    said = capsys.readouterr().out
    assert "ranks 8 to 15: 10.0.0.2" in said
    assert "hccl_2s_16p.json: left out, the result of a merge" in said
    assert "device_ip 192.168.0.1 is on more than one server" in said  # the document's own slip


@pytest.mark.parametrize("text", ["[0,8)", "[0, 8)", " [0,8]", "0,8"])
def test_ranges_are_read_as_people_write_them(text, tool):
    tool(addresses([f"192.1.27.{i}" for i in range(8)]))
    assert run(hccl_tools, "--device_num", text, "--server_ip", "10.0.0.1") == 0
    assert len(device_ips(written(Path()))) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device_num", "[2,2)"], "the range '[2,2)' is empty"),
        (["--device_num", "[4,2)"], "the range '[4,2)' is empty"),
        (["--device_num", "eight"], "'eight' is not a range; expected for example [0,8)"),
        (["--device_num", "[0,16)"], "'[0,16)' given, but the server has 8 ("),
        (["--visible_devices", "4,5,6,7"], "'[0,8)' given, but --visible_devices names 4"),
        (["--device_num", "[0,2)", "--visible_devices", "1,1"], "'1,1' names a device twice"),
        (["--device_num", "[0,2)", "--visible_devices", "1;2"], "'1;2' given; expected"),
        (["--device_num", "[0,2)", "--visible_devices", "7,8"], "8 given, but the server has"),
        (["--device_num", "(0,8)"], "'(0,8)' is not a range"),  # which would begin at 1
        (["--device_num", "[0,2)", "--visible_devices", "01,1"], "'01,1' names a device twice"),
        (["--server_ip", "127.0.1.1"], "127.0.1.1 is no address that others can use"),
        (["--server_ip", "::1"], "::1 is no address that others can use"),
        (["--server_ip", "::ffff:127.0.0.1"], "::ffff:127.0.0.1 is no address that others can"),
        (["--server_ip", "localhost"], "localhost is no address that others can use"),
        (["--server_ip", "10.0.0.256"], "10.0.0.256 is no address that others can use"),
        (["--server_ip", "10.0.0.1,10.0.0.2"], "'10.0.0.1,10.0.0.2' given; expected one address"),
        (["--server_ip", "10.0.0.1 x"], "'10.0.0.1 x' given; expected one address"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, said, tool, capsys):
    tool(addresses([f"192.1.27.{i}" for i in range(16)]))
    assert said in refused(capsys, hccl_tools, "--server_ip", "10.0.0.1", *arguments)


def test_sixteen_devices(tool):
    tool(addresses([f"192.1.27.{i}" for i in range(16)]))
    flags = ["--device_num_per_node", 16, "--server_ip", "10.0.0.1"]
    assert run(hccl_tools, "--device_num", "[10,16)", *flags) == 0
    made = written(Path(), "hccl_6p_10-11-12-13-14-15_10.0.0.1.json")
    assert device_ips(made) == [f"192.1.27.{i}" for i in range(10, 16)]


def test_visible_devices_are_physical_ids(tool):
    tool(addresses([f"192.1.27.{i}" for i in range(8)]))
    flags = ["--visible_devices", "4,5,6,7", "--server_ip", "10.0.0.1"]
    assert run(hccl_tools, "--device_num", "[1,3)", *flags) == 0
    made = written(Path(), "hccl_2p_56_10.0.0.1.json")
    assert made["server_list"][0]["device"] == [
        {"device_id": "5", "device_ip": "192.1.27.5", "rank_id": "0"},
        {"device_id": "6", "device_ip": "192.1.27.6", "rank_id": "1"},
    ]


def test_hccn_conf_answers_where_the_tool_does_not(tool, capsys):
    tool({0: "ipaddr:192.1.27.6\\n"})
    flags = ["--device_num", "[0,2)", "--server_ip", "10.0.0.1"]
    said = refused(capsys, hccl_tools, *flags)
    assert "no address found for device 1: 'hccn_tool -i 1 -ip -g' gives none" in said
    Path("hccn.conf").write_text("address_0=9.9.9.9\naddress_1=192.2.27.6\nnetmask_1=255.0.0.0\n")
    assert run(hccl_tools, *flags) == 0
    assert device_ips(written(Path())) == ["192.1.27.6", "192.2.27.6"]


def test_without_the_tool(capsys):
    said = refused(capsys, hccl_tools, "--server_ip", "10.0.0.1")
    assert "no address found for device 0, 1, 2, 3, 4, 5, 6, 7" in said
    assert "Run this on the Ascend server" in said


def test_a_server_name_without_an_address(capsys, tool, monkeypatch):
    tool(addresses([f"192.1.27.{i}" for i in range(8)]))
    monkeypatch.setattr(hccn.socket, "gethostname", lambda: "no-such-name.invalid")
    monkeypatch.setattr(hccn.socket, "getaddrinfo", lambda *_: (_ for _ in ()).throw(OSError("x")))
    assert "'no-such-name.invalid', has no address (x)" in refused(capsys, hccl_tools)
    answer = [(None, None, None, None, ("127.0.1.1", 0))]
    monkeypatch.setattr(hccn.socket, "getaddrinfo", lambda *_: answer)
    assert "127.0.1.1 is no address that others can use" in refused(capsys, hccl_tools)


def test_ipv6(tool):
    tool(addresses([f"fd00::{i}" for i in range(1, 3)]))
    assert run(hccl_tools, "--device_num", "[0,2)", "--server_ip", "fd00::10") == 0
    made = written(Path(), "hccl_2p_01_fd00--10.json")
    assert device_ips(made) == ["fd00::1", "fd00::2"]
    assert made["server_list"][0]["server_id"] == "fd00::10"


def test_super_nodes(tool):
    tool(addresses([f"192.1.27.{i}" for i in range(2)]))
    tool({"spod-info": "SDID : 4194304\\nSuper Pod ID : 3\\n"}, "npu-smi")
    answer = Path("bin/npu-smi")
    answer.write_text('#!/bin/sh\necho "SDID : 41943$5$7"; echo "Super Pod ID : 3"\n')
    flags = ["--device_num", "[0,2)", "--server_ip", "10.0.0.1", "--version", "1.2"]
    assert run(hccl_tools, *flags) == 0
    made = written(Path())
    assert made["version"] == "1.2"
    assert made["super_pod_list"] == [
        {"super_pod_id": "3", "server_list": [{"server_id": "10.0.0.1"}]}
    ]
    ids = [device["super_device_id"] for device in made["server_list"][0]["device"]]
    assert ids == ["4194300", "4194301"]
    assert run(hccl_tools, "--check", *Path().glob("hccl*.json")) == 0


def test_order_of_the_servers(capsys):
    one = save("hccl_a.json", table_of("10.0.0.1", ["192.1.1.1", "192.1.1.2"]))
    two = save("hccl_b.json", table_of("10.0.0.2", ["192.1.1.3", "192.1.1.4"]))
    assert run(merge_hccl, one, two, "--order", "10.0.0.2, 10.0.0.1") == 0
    made = written(Path(), "hccl_2s_4p.json")
    assert [s["server_id"] for s in made["server_list"]] == ["10.0.0.2", "10.0.0.1"]
    assert [d["rank_id"] for s in made["server_list"] for d in s["device"]] == ["0", "1", "2", "3"]
    assert "the servers are 10.0.0.1,10.0.0.2" in refused(
        capsys, merge_hccl, one, two, "--order", "10.0.0.2,10.0.0.3"
    )


def test_merging_refuses_what_would_be_wrong(capsys):
    one = save("hccl_a.json", table_of("10.0.0.1", ["192.1.1.1"]))
    same = save("hccl_b.json", table_of("10.0.0.1", ["192.1.1.3"]))
    assert "hccl_a.json: given twice" in refused(capsys, merge_hccl, one, one)
    assert "server_id 10.0.0.1 is 2 times in hccl_a.json, hccl_b.json" in refused(
        capsys, merge_hccl, one, same
    )
    half = save("hccl_c.json", table_of("10.0.0.2", ["192.1.1.3"]) | {"status": "initializing"})
    assert "status: input should be 'completed'" in refused(capsys, merge_hccl, one, half)
    both = json.loads((DOCUMENTS / "rank_table_16_cards.json").read_text())
    both["server_list"][1]["server_id"] = "yy"
    renamed = save("hccl_all.json", both)
    assert "hccl_all.json: has several servers, so it is merged already" in refused(
        capsys, merge_hccl, one, renamed
    )
    assert "give the servers' own tables" in refused(capsys, merge_hccl, "hccl_2s_16p.json")


def broken(**changes):
    """A sound table of two devices with something changed: `server_`, `device_` or at the top."""
    table = table_of("10.0.0.1", ["192.1.1.1", "192.1.1.2"])
    server = table["server_list"][0]
    for key, value in changes.items():
        if key.startswith("device__"):
            server["device"][1][key.removeprefix("device__")] = value
        elif key.startswith("server__"):
            server[key.removeprefix("server__")] = value
        else:
            table[key] = value
    return table


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "2.0"}, "version: input should be '1.0' or '1.2', given '2.0'"),
        ({"version": "1.2"}, "super_device_id: missing for device 0 of 10.0.0.1, 1 of 10.0.0.1"),
        ({"status": "initializing"}, "status: input should be 'completed', given 'initializing'"),
        ({"server_count": "2"}, "server_count: 2 given, 1 are listed"),
        ({"server_list": []}, "server_list: list should have at least 1 item"),
        ({"server_list": [1]}, "server_list.0: input should be a valid dictionary"),
        ({"server__device": []}, "server_list.0.device: list should have at least 1 item"),
        (
            {"server__device": None},
            "server_list.0.device: input should be a valid list, given None",
        ),
        ({"server__server_id": "127.0.0.1"}, "server_list.0.server_id: 127.0.0.1 is no address"),
        ({"server__server_id": []}, "server_list.0.server_id: input should be a valid string"),
        ({"device__device_ip": "192.1.1.1"}, "device_ip 192.1.1.1 is 2 times in 10.0.0.1"),
        ({"device__device_ip": "192.1.1"}, "device.1.device_ip: '192.1.1' is not an address"),
        ({"device__device_ip": "0.0.0.0"}, "device.1.device_ip: '0.0.0.0' is not an address"),
        ({"device__device_id": "0"}, "device_id 0 is 2 times"),
        ({"device__device_id": 1}, "device.1.device_id: input should be a valid string, given 1"),
        ({"device__device_id": "x"}, "device.1.device_id: string should match pattern"),
        ({"device__rank_id": "2"}, "0 to 1 expected, each once; device 1 has '2'"),
        ({"device__rank_id": "0"}, "0 to 1 expected, each once; device 1 has '0'"),
        ({"device__rank_id": 1}, "device.1.rank_id: input should be a valid string, given 1"),
        ({"group_list": [1]}, "group_list.0: input should be a valid dictionary"),
        ({"group_list": [{"instance_list": None}]}, "group_list.0.instance_list: input should be"),
    ],
)
def test_check_says_what_is_wrong(changes, said, capsys):
    name = save("table.json", broken(**changes))
    assert run(hccl_tools, "--check", name) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: table.json: ")
    assert said in error


def super_node(server, ids, pods=None):
    """A table of version 1.2, its devices known by these numbers in super-node 3."""
    table = table_of(server, [f"192.1.{server[-1]}.{i + 1}" for i in range(len(ids))])
    for device, number in zip(table["server_list"][0]["device"], ids, strict=True):
        device["super_device_id"] = number
    listed = [{"super_pod_id": "3", "server_list": [{"server_id": server}]}]
    return table | {"version": "1.2", "super_pod_list": listed if pods is None else pods}


def test_check_of_super_nodes(capsys):
    for pods, said in (
        ([], "super_pod_list: must list each server of server_list once"),
        ([1], "super_pod_list.0: input should be a valid dictionary"),
        ([{"server_list": []}], "super_pod_list.0.super_pod_id: missing"),
        ([{"super_pod_id": "3", "server_list": [7]}], "super_pod_list.0.server_list.0: input"),
    ):
        name = save("table.json", super_node("10.0.0.1", ["4", "5"], pods))
        assert said in refused(capsys, hccl_tools, "--check", name)
    one = save("hccl_a.json", super_node("10.0.0.1", ["4", "5"]))
    two = save("hccl_b.json", super_node("10.0.0.2", ["6", "5"]))
    assert "super_device_id 5 is 2 times in super_pod 3" in refused(capsys, merge_hccl, one, two)
    two = save("hccl_b.json", super_node("10.0.0.2", ["6", "7"]))
    assert run(merge_hccl, one, two) == 0
    assert run(hccl_tools, "--check", "hccl_2s_4p.json") == 0


def test_check_of_files_that_are_no_tables(capsys):
    for text in ('{"version": "1.0",', "[" * 100_000):
        Path("half.json").write_text(text)
        assert "not JSON" in refused(capsys, hccl_tools, "--check", "half.json")
    assert "No such file" in refused(capsys, hccl_tools, "--check", "none.json")


def modelarts():
    devices = [{"device_id": str(i), "device_ip": f"192.1.1.{i + 1}"} for i in range(8)]
    instance = {"devices": devices, "pod_name": "jobxxx-job-train-0", "server_id": "10.155.111.140"}
    group = {"device_count": "8", "group_name": "job-train", "instance_count": "1"}
    group["instance_list"] = [instance]
    return {"group_count": "1", "group_list": [group], "status": "completed"}


def test_modelarts_tables(capsys):
    new = table_of("10.155.111.140", [f"192.1.1.{i + 1}" for i in range(8)])
    del new["server_list"][0]["host_nic_ip"], new["version"]
    for table in (modelarts(), new):
        name = save("jobstart_hccl.json", table)
        assert run(hccl_tools, "--check", name) == 0
        assert "sound, 1 servers, 8 ranks" in capsys.readouterr().out
    other = save("hccl_other.json", table_of("10.155.111.141", ["192.1.1.9"]))
    assert run(merge_hccl, save("jobstart_hccl.json", modelarts()), other) == 0
    assert len(device_ips(written(Path(), "hccl_2s_9p.json"))) == 8
