"""A stand-in for Slurm: sbatch runs the tasks of a job array here, one after another; srun, sacct and scontrol beside it."""

import sys
from pathlib import Path

SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
open("{place}/script.sh", "w").write(script)
array = re.search(r"#SBATCH --array=0-(\\d+)", script)
print("Submitted batch job 77", flush=True)
if os.fork():
    os._exit(0)
out = open("{place}/sbatch.log", "a")
os.dup2(out.fileno(), 1), os.dup2(out.fileno(), 2)
of_one = dict(SLURM_JOB_ID="77", SLURM_JOB_NODELIST="localhost", SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1",
    SLURM_NODEID="0", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NTASKS_PER_NODE="1")
for task in range(int(array[1]) + 1) if array else [None]:
    of_array = dict(SLURM_JOB_ID=str(78 + task), SLURM_ARRAY_JOB_ID="77", SLURM_ARRAY_TASK_ID=str(task)) if array else {{}}
    code = subprocess.run(["bash", sys.argv[-1]], env={{**os.environ, **of_one, **of_array}}).returncode
    name = f"77_{{task}}" if array else "77"
    open("{place}/states", "a").write(f"{{name}}|{{'COMPLETED' if code == 0 else 'FAILED'}}\\n")
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2:] if words[0] in ("--output", "--error") else words[1:]
os.execvp(words[0], words)
"""
SACCT = """#!/bin/sh
echo "JobID|State"
cat "{place}/states" 2>/dev/null
true
"""
SCONTROL = """#!/bin/sh
echo "$@" >> "{place}/scontrol.log"
"""


def stand_in(place: Path) -> Path:
    """Write the commands into a folder of `place`, to go first in PATH; script.sh and scontrol.log tell what was asked."""
    folder = place / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scontrol": SCONTROL}.items():
        (folder / name).write_text(text.format(python=sys.executable, place=place))
        (folder / name).chmod(0o755)
    return folder
