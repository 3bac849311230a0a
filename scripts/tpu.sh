#!/usr/bin/env bash
# A Cloud TPU slice, from its creation to its end:
#   scripts/tpu.sh create              make the slice, and wait until it is ready
#   scripts/tpu.sh install             this commit and its packages onto every host
#   scripts/tpu.sh run COMMAND...      the command on every host, in the repository's folder
#   scripts/tpu.sh keep COMMAND...     the same; a preempted slice is made again and the command goes on
#   scripts/tpu.sh sweep ARGUMENT...   experiments.sweep over Ray, one gang on the hosts of the slice
#   scripts/tpu.sh delete              end it, and what it costs
# Settings, from the environment: TPU (its name) and ZONE; TYPE (v5litepod-16), VERSION
# (v2-alpha-tpuv5-lite), SPOT=1 for a preemptible slice, PAUSE (seconds between tries, 30).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 2; }
[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
[ -n "${TPU:-}" ] || fail "TPU is not set: export TPU=NAME, the slice's name"
[ -n "${ZONE:-}" ] || fail "ZONE is not set: export ZONE=us-west4-a or where the slice shall be"
command -v gcloud >/dev/null || fail "gcloud is not installed: see cloud.google.com/sdk"
REMOTE=isoflop

tpu() { gcloud compute tpus tpu-vm "$1" "$TPU" --zone="$ZONE" "${@:2}"; }
everywhere() { tpu ssh --worker=all --command="$1"; }
state() { tpu describe --format='value(state)' 2>/dev/null || echo GONE; }
quoted() { printf '%q ' "$@"; }

create() {
    tpu create --accelerator-type="${TYPE:-v5litepod-16}" \
        --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
}

install() {
    local archive
    archive=$(mktemp -d)
    git archive --format=tar.gz --output="$archive/$REMOTE.tar.gz" HEAD
    gcloud compute tpus tpu-vm scp "$archive/$REMOTE.tar.gz" "$TPU:" --zone="$ZONE" --worker=all
    rm -r "$archive"
    everywhere "mkdir -p $REMOTE && tar -xzf $REMOTE.tar.gz -C $REMOTE && cd $REMOTE && make setup-tpu"
}

run() {
    [ $# -gt 0 ] || fail "give a command to run, e.g. scripts/tpu.sh run python -m lm.train --help"
    everywhere "cd $REMOTE && PATH=.venv/bin:\$PATH $(quoted "$@")"
}

# 0 and 2 (the user's mistake) end it; so does a failure on a slice that is still there.
keep() {
    local code
    while true; do
        if [ "$(state)" != READY ]; then
            tpu delete --quiet || true
            create && install || { sleep "${PAUSE:-30}"; continue; }
        fi
        code=0
        run "$@" || code=$?
        [ "$code" = 0 ] && return 0
        [ "$code" = 2 ] && return 2
        [ "$(state)" = READY ] && fail "the command failed (exit code $code) on a slice that is still there"
        echo "the slice was preempted; making it again" >&2
        sleep "${PAUSE:-30}"
    done
}

# Host 0 heads a Ray cluster that the others join, with a password of its own; the driver runs there.
sweep() {
    local head hosts key
    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    head=$(tpu describe --format='value(networkEndpoints[0].ipAddress)')
    hosts=$(tpu describe --format='value(networkEndpoints.len())')
    everywhere "cd $REMOTE && make setup-tpu-cluster && export RAY_AUTH_TOKEN=$key && if [ \"\$(hostname -I | cut -d' ' -f1)\" = $head ]; then .venv/bin/ray start --head --port=6379; else sleep 10; .venv/bin/ray start --address=$head:6379; fi"
    tpu ssh --worker=0 --command="cd $REMOTE && export RAY_AUTH_TOKEN=$key PATH=.venv/bin:\$PATH && python -m experiments.sweep --executor=ray --address=auto --config.device=tpu --config.hosts=$hosts $(quoted "$@")"
}

case $1 in
    create | install | run | keep | sweep) "$@" ;;
    delete) tpu delete --quiet ;;
    *) fail "there is no '$1': scripts/tpu.sh create, install, run, keep, sweep or delete" ;;
esac
