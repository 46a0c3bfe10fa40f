#!/bin/bash
# Code a file with a Slurm array of shards, then merge them. In a folder that all nodes share:
#   RUN=runs/mine INPUT=answers.parquet OUTPUT=coded.parquet SHARDS=16 bash code.sh
set -eu
export RUN INPUT OUTPUT SHARDS="${SHARDS:-16}"
files='kjcm predict run="$RUN" input="$INPUT" output="$OUTPUT"'
array=$(sbatch --parsable --job-name kjcm-code --array "1-$SHARDS" --gres gpu:1 --cpus-per-task 4 --time 12:00:00 --requeue \
  --wrap "exec $files shard=\$SLURM_ARRAY_TASK_ID/\$SHARDS")
sbatch --job-name kjcm-merge --dependency "afterok:$array" --cpus-per-task 2 --time 2:00:00 \
  --wrap "exec $files merge=\$SHARDS"
