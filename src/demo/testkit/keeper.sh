# Usage: sh -c "$(cat keeper.sh)" keeper FOLDER SIGNAL COMMAND [ARGUMENT...]
#
# Runs COMMAND until standard input ends, then sends it SIGNAL until it is gone, and removes FOLDER. Standard input is a pipe from
# the process that wants the command; its kernel closes the pipe however that process ends, so nothing outlives it.
# The command's output goes to FOLDER/log, its process id to FOLDER/pid. If the command ends by itself, FOLDER/ended appears; the folder stays until the pipe ends.
folder=$1
signal=$2
shift 2

# A Ctrl-C in the terminal, or its end, is for the owner of the pipe to act upon.
trap '' HUP INT TERM
exec 3<&0 </dev/null

"$@" 3<&- >>"$folder/log" 2>&1 &
command=$!
echo "$command" >"$folder/pid"

{
    cat <&3 >/dev/null
    # Again and again: what is still starting up may not listen to signals yet. `ended` guards against a process id used anew.
    while [ ! -e "$folder/ended" ] && kill -s "$signal" "$command" 2>/dev/null; do sleep 0.05; done
} &
watcher=$!

exec 3<&-
wait "$command"
: >"$folder/ended"
wait "$watcher"
rm -rf "$folder"
