#!/usr/bin/env bash
# Submits a mixture search to the Ray cluster at RAY_ADDRESS and follows it; further flags go to the sweep:
#   NAME=first STORAGE=s3://bucket/agentflan cluster/submit.sh
set -euo pipefail
cd "$(dirname "$0")/.."
exec ray job submit \
  --address "${RAY_ADDRESS:-http://127.0.0.1:8265}" \
  --runtime-env cluster/runtime_env.yaml \
  --working-dir . \
  -- python experiments/sweep.py \
  --name "${NAME:?give the run a name: NAME=first}" \
  --storage "${STORAGE:?say where runs are kept: STORAGE=s3://bucket/agentflan, or a folder that all nodes share}" \
  --model "${MODEL:-llama2-7b}" \
  --num-workers "${NUM_WORKERS:-8}" \
  --gpus-per-worker "${GPUS_PER_WORKER:-1}" \
  "$@"
