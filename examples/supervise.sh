#!/bin/sh
# Starts a command again when it was killed, or ended with 75, "try again" (another worker is gone), RESTARTS times at most:
#
#     TF_CONFIG=… supervise.sh 20 tfdistill train RECIPE … --out SHARED/RUN --strategy multiworker
#
# on each machine of the job. Whatever else it ends with is handed on: 0, a mistake (2), a stop that was asked for (130, 143).
# SIGTERM and Ctrl-C are passed on to it. PAUSE seconds (5) lie between two starts.
case $1 in
    '' | *[!0-9]*)
        echo "usage: supervise.sh RESTARTS COMMAND …; expected a number of restarts, got '$1'" >&2
        exit 2
        ;;
esac
left=$1
asked=
told=
child=
shift
tell() {
    kill -TERM "$child" 2>/dev/null
    told=1
}
trap 'asked=1; [ -z "$child" ] || tell' TERM INT
while :; do
    "$@" &
    child=$!
    # The signal may have come before its number was known.
    [ -z "$asked" ] || [ -n "$told" ] || tell
    wait "$child"
    code=$?
    # A signal to this script ends `wait` before the command has ended.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    if [ -n "$asked" ] || [ "$left" -eq 0 ]; then
        exit "$code"
    fi
    # A shell has 128 + n for what signal n ended: SIGKILL is 137, an abort of TensorFlow's 134.
    if [ "$code" -ne 75 ] && { [ "$code" -le 128 ] || [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; }; then
        exit "$code"
    fi
    left=$((left - 1))
    echo "supervise.sh: exit code $code, starting again, $left more times at most" >&2
    child=
    sleep "${PAUSE:-5}"
    [ -z "$asked" ] || exit 143
done
