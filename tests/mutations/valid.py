"""The valid working folder that every input starts from, and what is in it.

Owns making it with the program itself, and giving it back as it was.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from tests.mutations.inputs import Change, snapshot
from tests.support.commands import invoke, write_study

MODEL = '''\
"""A model that is done at once, and refuses some parameters."""


def simulate(params, seed):
    """Return the parameters and the seed, doubled."""
    if params.get("beta") == 13.0:
        raise ValueError("unlucky")
    return {"doubled": {"beta": 2 * params["beta"], "twice_seed": 2 * seed}}
'''
OVERLAY = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - base.yaml
patches:
  - target: {kind: RayJob}
    patch: |-
      - {op: add, path: /metadata/labels/mine, value: "yes"}
"""
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me, namespace: default}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: x}}]
"""
TABLE = """\
beta,n,place,on,seed,replicates
0.5,3,x,true,,2
13.0,4,y,false,7,1
"""
LOCALLY = ("--backend", "local", "--isolation", "none")


class Valid:
    """The working folder `work`, below a folder of its own, and a copy of it that is never changed."""

    def __init__(self, root: Path) -> None:
        """Make it; the process works in it from now on."""
        self.work, self._kept = root / "work", root / "valid"
        self.work.mkdir(parents=True)
        os.environ.update(self.environ)
        os.environ.pop("RAY_ADDRESS", None)
        os.chdir(self.work)
        self._fill()
        shutil.copytree(self.work, self._kept, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        self._valid = snapshot(self._kept)
        self.files = {name: content for name, content in self._valid.items() if isinstance(content, bytes)}

    @property
    def environ(self) -> dict[str, str]:
        """The variables that commands see."""
        return {
            "XDG_CACHE_HOME": str(self.work / "cache"), "KUBECONFIG": str(self.work / "kubeconfig"), "COLUMNS": "80",
        }  # fmt: skip

    def restore(self) -> None:
        """Make the working folder what it was, in place: the process works in it."""
        found = snapshot(self.work)
        differing = sorted(
            path for path in found.keys() | self._valid.keys() if found.get(path) != self._valid.get(path)
        )
        for path in reversed([path for path in differing if path in found]):
            Change("gone").make(self.work / path)
        for path in [path for path in differing if path in self._valid]:
            if self._valid[path] == "folder":
                (self.work / path).mkdir()
            else:
                shutil.copy2(self._kept / path, self.work / path)

    def _fill(self) -> None:
        (self.work / "model.py").write_text(MODEL)
        sets = [{"beta": 0.5, "n": 3, "place": "x", "on": True}, {"beta": 13.0, "n": 4, "place": "y", "on": False}]
        self._write_tables()
        write_study(self.work, sets, n_replicates=2, metadata={"who": "me"}, sampling_method="grid")
        self._do("run", "study.json", *LOCALLY, "--out", "run", "--quiet", code=3)
        for shard in ("1/2", "2/2"):
            self._do("run", "study.json", *LOCALLY, "--out", "split", "--shard", shard, "--tolerate-failures")
        manifest = self._do("kuberay", "render", "study.json", "--image", "here/it:1")
        (self.work / "overlay").mkdir()
        (self.work / "manifest.yaml").write_text(manifest)
        (self.work / "overlay" / "base.yaml").write_text(manifest)
        (self.work / "overlay" / "kustomization.yaml").write_text(OVERLAY)
        (self.work / "kubeconfig").write_text(KUBECONFIG)

    def _write_tables(self) -> None:
        (self.work / "sets.csv").write_text(TABLE)
        index = {"columns": [{"field_name": "__index_level_0__", "name": "n", "pandas_type": "int64"}]}
        table = pa.table({"beta": [0.5, 13.0], "__index_level_0__": [3, 4], "seed": [None, 7], "on": [True, False]})
        table = table.replace_schema_metadata({"pandas": json.dumps(index)})
        pq.write_table(table, self.work / "sets.parquet")
        with pa.ipc.new_file(str(self.work / "sets.arrow"), table.schema) as file:
            file.write_table(table)

    def _do(self, *arguments: str, code: int = 0) -> str:
        result = invoke(*arguments)
        assert code == result.exit_code, result.stderr
        return result.stdout
