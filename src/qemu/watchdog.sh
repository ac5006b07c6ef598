# Cleans up after a runner that vanished. Arguments: the folder of run directories, the runner's word.
# stdin is a pipe whose only other end is in the runner: it ends when the runner does, however it does.
trap '' HUP INT QUIT TERM TSTP
while read -r _; do :; done
for dir in "$1/$2".*; do
    [ -d "$dir" ] || continue # nothing is left: the runner ended well
    group=
    [ -r "$dir/group" ] && read -r group <"$dir/group"
    round=0
    while [ "$round" -lt 50 ]; do
        round=$((round + 1))
        alive=
        case $group in
        '' | *[!0-9]*) ;;
        *) kill -s KILL -- "-$group" 2>/dev/null && alive=1 ;;
        esac
        # Helpers that left the group are found by the mark in their environment.
        for file in $(grep -lsaF -- "NIXVM_RUN=${dir##*/}" /proc/[0-9]*/environ 2>/dev/null); do
            pid=${file#/proc/}
            kill -s KILL -- "${pid%/environ}" 2>/dev/null && alive=1
        done
        [ -n "$alive" ] || break
        sleep 0.05 || sleep 1
    done
    if [ -e "$dir/keep" ]; then
        rm -rf -- "$dir/disk.qcow2" "$dir/tmp" "$dir/group" "$dir/lock"
    else
        rm -rf -- "$dir" || rm -rf -- "$dir"
    fi
done
