#!/usr/bin/env bash
# Repeats the GPU measurements of docs/performance.md on the synthetic twin: bash experiments/one_gpu.sh OUT [PART ...]
#   OUT     output folder; a part stops with an error if its output exists
#   PART    checks, bench, train, predict, seeds, reproduce or trials; default: all, in this order
#   KJCM    command; default: kjcm
#   PYTHON  interpreter; default: python3
#   KOBERT  folder of KoBERT's tokenizer; default: train a tokenizer
#   SCALE   scale of the twin; default: 1
#   WORDS   further overrides for every training
# If a part fails or exceeds its time limit, the next part still runs, and the exit code is 1.
set -uo pipefail
out=$(mkdir -p "${1:?say where: one_gpu.sh OUT [PART ...]}" && cd "$1" && pwd) || exit 2
shift
(($#)) || set -- checks bench train predict seeds reproduce trials
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

kjcm=(${KJCM:-kjcm})
python=${PYTHON:-python3}
scale=data.scale=${SCALE:-1}
words=(preset=full model.pretrained=null optim.lr=2e-4 "$scale" "cache=$out/cache" ${WORDS:-})
none=engine.attention_dropout=none
if [[ ${KOBERT:-} ]]; then words+=(tokenizer=kobert "tokenizer.path=$KOBERT"); else words+=(tokenizer=trained); fi
export TORCHINDUCTOR_CACHE_DIR=$out/kernels
failed=0

run() { # run LIMIT NAME COMMAND ...: output to OUT/NAME.log; name, exit code and seconds to OUT/seconds.tsv
  local limit=$1 name=$2 begin code
  shift 2
  begin=$(date +%s.%N)
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  code=$?
  awk -v "name=$name" -v "code=$code" -v "begin=$begin" -v "end=$(date +%s.%N)" \
    'BEGIN { printf "%s\t%s\t%.1f\n", name, code, end - begin }' | tee -a "$out/seconds.tsv"
  ((code)) && failed=1 && tail -n 3 "$out/$name.log"
  return $code
}

for part; do
  case $part in
    checks) run 150 checks "$python" -m pytest -q -m gpu -p no:cacheprovider ;;
    bench) # defaults against all alternatives; without attention dropout; profile of a step
      run 240 bench "$python" -m benchmarks.train "${words[@]}" "out=$out/bench" steps=320 warmup=64 repeats=3
      run 120 bench_none "$python" -m benchmarks.train "${words[@]}" $none "out=$out/bench_none" steps=320 warmup=64 repeats=3 \
        'alternatives=[trainer_bf16]'
      run 90 profile "$python" -m benchmarks.train "${words[@]}" "out=$out/profile" steps=64 warmup=64 repeats=1 profile=true \
        'alternatives=[]' ;;
    train) # cold, with compiled kernels, uncompiled, without attention dropout
      rm -rf "$TORCHINDUCTOR_CACHE_DIR"
      for which in cold warm; do
        run 150 "train_$which" "${kjcm[@]}" train "${words[@]}" "run_dir=$out/$which"
      done
      run 150 train_uncompiled "${kjcm[@]}" train "${words[@]}" engine.compile=false "run_dir=$out/uncompiled"
      run 150 train_none "${kjcm[@]}" train "${words[@]}" $none "run_dir=$out/none" ;;
    predict) # the run of `train`
      run 60 prepare "${kjcm[@]}" prepare "$scale" "out=$out/cohort"
      cat "$out"/cohort/twin/wave5.csv <(tail -n +2 "$out/cohort/twin/wave6.csv") >"$out/answers.csv"
      for which in first second; do
        run 90 "predict_$which" "${kjcm[@]}" predict "run=$out/warm" "input=$out/answers.csv" "output=$out/coded_$which.csv"
      done
      run 90 predict_compiled "${kjcm[@]}" predict "run=$out/warm" "input=$out/answers.csv" \
        "output=$out/coded_compiled.csv" compile=true
      for compile in false true; do
        run 240 "bench_predict_$compile" "$python" -m benchmarks.predict "run=$out/warm" "input=$out/answers.csv" \
          "out=$out/bench_predict_$compile" rows=30000 repeats=3 'precisions=[32-true,bf16]' "compile=$compile"
      done ;;
    seeds) # the two loops over three seeds, three at a time
      run 400 seeds "${kjcm[@]}" train -m "${words[@]}" engine=reference,auto seed=0,1,2 \
        data.validation=0.1 "runs=$out/seeds" hydra/launcher=joblib hydra.launcher.n_jobs=3 ;;
    reproduce) # from an empty folder
      rm -rf "$out/reproduce"
      run 240 reproduce "${kjcm[@]}" reproduce "${words[@]}" 'models=[k_jcm,k_jcm_half,model_2,model_3,model_4]' \
        "runs=$out/reproduce" "cache=$out/reproduce/cache" "out=$out/reproduce/report" ;;
    trials) # four trainings in sequence and in parallel, after one untimed round that compiles the kernels
      run 200 trials_before "${kjcm[@]}" train -m "${words[@]}" seed=10,11,12,13 "runs=$out/trials_before"
      for jobs in 1 4; do
        run 200 "trials_$jobs" "${kjcm[@]}" train -m "${words[@]}" seed=10,11,12,13 "runs=$out/trials_$jobs" \
          hydra/launcher=joblib "hydra.launcher.n_jobs=$jobs"
      done ;;
    *) echo "no part $part" >&2 && exit 2 ;;
  esac
done
exit $failed
