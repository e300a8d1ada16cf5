"""Records of runs that never were, for what is computed from records."""

from benchmarks.records import Place, PodRecord, Record

MIB = 2**20


def record(engine, *, point=1.0, scenario="need_sweep", outcome="complete", done=40, n=40, **more):
    """A record with plain values, and those that a test is about."""
    values = {
        "run_id": "a",
        "scenario": scenario,
        "size": "full",
        "point": point,
        "engine": engine,
        "repeat": 0,
        "outcome": outcome,
        "why": "",
        "time": "2026-01-01T00:00:00+00:00",
        "commit": "",
        "versions": {"python": "3.11"},
        "place": Place(cpus=2, memory_bytes=2**34, processor="x86_64", kernel="6.1", no_pods_because=""),
        "pods": 2,
        "pod_bytes": 4096 * MIB,
        "slots": 4,
        "seed": 1,
        "simulations": n,
        "done": done,
        "lost": 0,
        "wrong": 0,
        "checked": done,
        "limit_s": 10.0,
        "startup_s": 1.0,
        "wall_s": 20.0,
        "cpu_s": 10.0,
        "per_second": 2.0 if done else None,
        "efficiency": None,
        "first_result_s": 1.0 if done else None,
        "first_commit_s": 1.0 if done else None,
        "spilled_bytes": 0,
        "driver_peak_bytes": 100 * MIB,
        "driver_own_bytes": 90 * MIB,
        "kernel_kills": 0,
        "pod_restarts": 0,
        "engine_kills": 0,
        "losses": 0,
        "attempts": done,
        "retries": 0,
        "wasted_s": 0.0,
        "pod_records": [
            PodRecord(
                limit_bytes=4096 * MIB, peak_bytes=900 * MIB, kernel_kills=0, restarts=0, memory_mib=[1, 800, 900]
            )
        ],
        "sampled_every_s": 0.1,
        "progress": [(0.0, 0, 0, 0), (1.0, done // 2, done // 2, 0), (20.0, done, done, 0)],
        "facts": {},
    }
    return Record(**(values | more))
