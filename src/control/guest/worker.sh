# What the stem runs (bash), the shell from which all lanes are forked: starting a shell anew costs five times
# a fork. Lines that begin with # are left out and the rest is joined into one line, so that the lines of a
# command count from 1 in messages; hence a semicolon wherever one line has to end.
#
# The stem is told the paths of a lane's two pipes and forks it. The lane is told the paths of four pipes, forks
# a subshell, the worker, and says how it ended. `set -m` gives each a process group of its own, without a
# terminal.
unset -v BASH_EXECUTION_STRING;
set -m;
while read -r nixvm_orders nixvm_words; do
(
set +m;
exec <"$nixvm_orders" >"$nixvm_words";
unset -v nixvm_orders nixvm_words;
echo "L $BASHPID";
while read -r nixvm_text nixvm_in nixvm_out nixvm_err; do
  # Whatever else comes is not from the helper: better no lane than one that talks to itself.
  [[ $nixvm_text == /proc/* ]] || exit;
  set -m;
  (
    set +m;
    exec 7<"$nixvm_in" 8<"$nixvm_text" 9>&1 </dev/null >"$nixvm_out" 2>"$nixvm_err";
    echo "R $BASHPID" >&9;
    # LC_ALL costs 50 us, and makes `read` count bytes: only where a command has others than ASCII.
    while read -r -u 8 nixvm_len nixvm_mode nixvm_stdin nixvm_bytes; do
      if [[ $nixvm_bytes ]]; then LC_ALL=C IFS= read -r -N "$nixvm_len" -u 8;
      else IFS= read -r -N "$nixvm_len" -u 8; fi || exit;
      # b: a builtin that can leave nothing behind, so the worker can have the next command, too.
      [[ $nixvm_mode == b ]] || break;
      eval "$REPLY";
      echo "S $?" >&9;
    done;
    # Without a mode the helper is gone.
    [[ $nixvm_mode ]] || exit;
    if [[ $nixvm_stdin == i ]]; then exec <&7; fi;
    exec 7<&- 8<&- 9>&-;
    case $nixvm_mode in
      # u: the user's shell. p: a bash of its own. x: one simple command; a program needs no second fork.
      # `hash` finds builtins, too, but has no path for them.
      u) exec -- "${SHELL:-/bin/sh}" -c "$REPLY";;
      p) exec -a bash -- "$BASH" -euo pipefail -c "$REPLY";;
      x) if { [[ $REPLY == /* ]] || { hash -- "${REPLY%% *}" && hash -t -- "${REPLY%% *}"; }; } >/dev/null 2>&1;
         then eval "exec -- $REPLY"; fi;;
    esac;
    unset -v nixvm_text nixvm_in nixvm_out nixvm_err nixvm_len nixvm_mode nixvm_stdin nixvm_bytes;
    set -euo pipefail;
    eval "$REPLY"
  ) &
  # Without job control again, or this would return when a worker is stopped; `wait -f` can spin for ever.
  set +m;
  wait $!;
  echo "D $?";
done
) &
done
