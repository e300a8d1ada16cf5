"""What is left of a machine is read right from both versions of cgroups, nested or not."""

import os

import pytest

from modelops_ray.errors import BackendError
from modelops_ray.sandbox.machine import (
    KernelKills,
    available_memory_bytes,
    kernel_kills,
    memory_strain,
    process_space,
    usable_cpus,
)

GIB = 2**30


@pytest.fixture
def root(tmp_path):
    """The /proc of a machine of 16 GiB with 10 GiB available, without cgroups."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {10 * GIB // 1024} kB\n")
    write(tmp_path, "proc/vmstat", "nr_free_pages 7\noom_kill 5\n")
    return tmp_path


def write(root, path, text):
    """Make a file and the folders to it."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_v1(root, path, limit, used, cache):
    """Make a memory cgroup of version 1."""
    folder = f"sys/fs/cgroup/memory/{path}"
    write(root, f"{folder}/memory.limit_in_bytes", f"{limit}\n")
    write(root, f"{folder}/memory.usage_in_bytes", f"{used}\n")
    write(root, f"{folder}/memory.stat", f"cache 1\ntotal_inactive_file {cache}\ntotal_active_file 0\n")


def write_v2(root, path, limit, used, cache):
    """Make a memory cgroup of version 2."""
    folder = f"sys/fs/cgroup/{path}"
    write(root, f"{folder}/memory.max", f"{limit}\n")
    write(root, f"{folder}/memory.current", f"{used}\n")
    write(root, f"{folder}/memory.stat", f"anon 1\ninactive_file 0\nactive_file {cache}\n")


def test_without_a_cgroup_the_machine_is_the_limit(root):
    """A twentieth of the machine stays free, because killing starts there."""
    assert available_memory_bytes(root=root) == 10 * GIB - 16 * GIB // 20 - 1


def test_the_tightest_group_on_the_way_up_counts_in_version_1(root):
    """The limit of a parent holds for us too, and page cache can be taken back."""
    write(root, "proc/self/cgroup", "5:cpu:/\n4:memory:/slurm/job\n0::/\n")
    write_v1(root, "", 2**63 - 4096, 0, 0)
    write_v1(root, "slurm", 4 * GIB, 3 * GIB, 1 * GIB)
    write_v1(root, "slurm/job", 8 * GIB, 1 * GIB, 0)
    assert available_memory_bytes(0.0, root) == 2 * GIB


def test_the_tightest_group_on_the_way_up_counts_in_version_2(root):
    """`max` is no limit."""
    write(root, "proc/self/cgroup", "0::/user.slice/run\n")
    write(root, "sys/fs/cgroup/cgroup.controllers", "memory\n")
    write_v2(root, "user.slice", "max", 3 * GIB, 0)
    write_v2(root, "user.slice/run", 3 * GIB, 2 * GIB, 1 * GIB)
    assert available_memory_bytes(0.0, root) == 2 * GIB


def test_a_container_that_sees_only_its_own_group_uses_that(root):
    """The path in /proc may name folders of the host that are not mounted here."""
    write(root, "proc/self/cgroup", "4:memory:/kubepods/pod1/c1\n")
    write_v1(root, "", 1 * GIB, 0, 0)
    assert available_memory_bytes(0.0, root) == 1 * GIB


def test_a_full_group_leaves_nothing(root):
    """Never less than nothing."""
    write(root, "proc/self/cgroup", "4:memory:/\n")
    write_v1(root, "", 1 * GIB, 1 * GIB, 0)
    assert available_memory_bytes(root=root) == 0


def test_a_machine_without_proc_is_named(tmp_path):
    """Guessing a size would be worse than ending."""
    with pytest.raises(BackendError, match="meminfo"):
        available_memory_bytes(root=tmp_path)


@pytest.mark.parametrize(
    ("cgroup", "path"),
    [("4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.oom_control"), ("0::/a\n", "sys/fs/cgroup/a/memory.events")],
)
def test_kills_are_counted_in_our_own_group(root, cgroup, path):
    """Both versions keep the count, in different files."""
    write(root, "proc/self/cgroup", cgroup)
    write(root, "sys/fs/cgroup/cgroup.controllers", "memory\n")
    write(root, path, "low 0\nunder_oom 0\noom_kill 3\n")
    assert kernel_kills(root) == 3


def test_kills_are_counted_for_the_machine_where_there_is_no_group(root):
    """The kernel counts all of them in vmstat."""
    assert kernel_kills(root) == 5


def test_kills_are_unknown_where_the_kernel_does_not_count_them(tmp_path):
    """An old kernel has no such number."""
    assert kernel_kills(tmp_path) is None


@pytest.mark.parametrize("path", ["sys/fs/cgroup/a/memory.pressure", "proc/pressure/memory"])
def test_a_kernel_that_has_stalls_switched_off_counts_page_faults_only(root, path):
    """Its files of stalls are there and cannot be read."""
    write(root, "proc/self/cgroup", "0::/a\n")
    write(root, "sys/fs/cgroup/cgroup.controllers", "memory\n")
    write(root, "sys/fs/cgroup/a/memory.stat", "pgmajfault 7\n")
    (root / path).mkdir(parents=True)
    assert memory_strain(root) == (None, 7)


def test_page_faults_count_only_where_the_kernel_does_not_count_the_stalls_of_our_own_group(root):
    """A model that maps large files has many and waits for no process; the machine's stalls may be others'."""
    write(root, "proc/self/cgroup", "0::/a\n")
    write(root, "proc/vmstat", "pgmajfault 9\n")
    write(root, "proc/pressure/memory", "some avg10=0.00 total=8\nfull avg10=0.00 avg60=0.00 total=5000000\n")
    assert memory_strain(root) == (5.0, 9)
    write(root, "sys/fs/cgroup/cgroup.controllers", "memory\n")
    write(root, "sys/fs/cgroup/a/memory.stat", "pgmajfault 7\n")
    assert memory_strain(root) == (5.0, 7)
    write(root, "sys/fs/cgroup/a/memory.pressure", "some avg10=0.00 total=8\nfull avg10=0.00 total=2000000\n")
    assert memory_strain(root) == (2.0, 0)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, len(os.sched_getaffinity(0))),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
         len(os.sched_getaffinity(0))),
    ],
)  # fmt: skip
def test_a_quota_of_cpus_is_rounded_down_to_at_least_one(root, files, cpus):
    """No quota leaves the CPUs this process may run on."""
    for path, text in files.items():
        write(root, path, text)
    assert usable_cpus(root) == cpus


def test_a_kill_is_recent_for_ten_seconds(root):
    """A crash that is reported within them is put down to the kernel, a later one is not."""
    now_s = [0.0]
    kills = KernelKills(lambda: now_s[0], root)
    seen = [kills.recent()]
    write(root, "proc/vmstat", "oom_kill 6\n")
    for now_s[0] in (1.0, 10.9, 11.0):
        seen.append(kills.recent())
    assert seen == [False, True, True, False]


def test_nothing_is_known_of_kills_where_no_counter_is(tmp_path):
    """Neither yes nor no."""
    assert KernelKills(lambda: 0.0, tmp_path).recent() is None


def test_who_numbers_processes_is_told_apart_or_not_known(tmp_path):
    """Where the kernel does not say, nothing fails."""
    assert "" == process_space(tmp_path)
    assert process_space() == process_space() != ""
