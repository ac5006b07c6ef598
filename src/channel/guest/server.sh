# Serves the control channel if the helper can't run. A shell sources it, with the port open as descriptor 3. POSIX sh.
# It needs the programs head -c, cat, dd, wc, rm, mkdir, mkfifo and, to end a command with all its descendants, setsid.
#
# Each command has a subshell that waits for it and then sends its output, all at its end. Until then the output is in
# files, so `>/dev/stdout` discards earlier output (`>&1` and `>>/dev/stdout` don't). Standard input is collected first:
# such a command starts when its input has ended.

exec 0</dev/null 1>/dev/null 2>/dev/null
nixvm_umask=$(umask)
umask 077
nixvm_dir=/run/nixvm-shell.$$
mkdir "$nixvm_dir" || { nixvm_dir=${TMPDIR:-/tmp}/nixvm-shell.$$ && mkdir "$nixvm_dir"; } || exit

# Frames of several commands must not mix: a writer first takes the line in this pipe.
mkfifo "$nixvm_dir/turn" && exec 4<>"$nixvm_dir/turn" || exit
echo >&4

nixvm_bash=$(command -v bash) || nixvm_bash=
nixvm_user_shell=${SHELL:-$(getent passwd "$(id -un)" | cut -d: -f7)}
nixvm_session=$(command -v setsid) || nixvm_session=
# A shell without job control makes background processes ignore these two.
nixvm_signals='env --default-signal=INT,QUIT'
$nixvm_signals true || nixvm_signals=

# say KIND ID CONTENT: a frame of a few ASCII characters
nixvm_say() {
  read -r nixvm_turn <&4
  printf '%s %s %s\n%s' "$1" "$2" "${#3}" "$3" >&3
  echo >&4
}

# send KIND ID FILE: frames with the current content of the file
nixvm_send() {
  nixvm_left=$(($(wc -c <"$3")))
  exec 5<"$3"
  while [ "$nixvm_left" -gt 0 ]; do
    nixvm_size=65536
    [ "$nixvm_left" -ge 65536 ] || nixvm_size=$nixvm_left
    read -r nixvm_turn <&4
    echo "$1 $2 $nixvm_size" >&3
    dd bs="$nixvm_size" count=1 <&5 >&3
    echo >&4
    nixvm_left=$((nixvm_left - nixvm_size))
  done
  exec 5<&-
}

# run ID: starts a command, and a subshell that waits for it
nixvm_run() {
  (
    nixvm_files=$nixvm_dir/$1
    # The text is an argument if the kernel accepts one of that length, unless it must be hidden.
    if ! [ -e "$nixvm_files.hidden" ] && [ "$(($(wc -c <"$nixvm_files.text")))" -le 131071 ]; then
      nixvm_text=$(cat "$nixvm_files.text")
      set -- "$1" -c "$nixvm_text"
    elif [ -e "$nixvm_files.user" ]; then
      nixvm_say F "$1" "the command is longer than 131071 bytes, the limit of the user's shell"
      rm -f "$nixvm_files".*
      exit
    else
      set -- "$1" "$nixvm_files.text"
    fi
    nixvm_id=$1
    shift
    if [ -e "$nixvm_files.user" ]; then
      set -- "${nixvm_user_shell:-/bin/sh}" "$@"
    elif [ "$nixvm_bash" ]; then
      set -- "$nixvm_bash" -euo pipefail "$@"
    else
      set -- sh -eu "$@"
    fi
    [ -e "$nixvm_files.in" ] || ln -s /dev/null "$nixvm_files.in"
    # The number of its group is known before it does anything.
    $nixvm_session $nixvm_signals sh -c 'umask "$1"; echo "$$" >"$2" || exit; shift 2; exec "$@"' sh \
      "$nixvm_umask" "$nixvm_files.group" "$@" \
      <"$nixvm_files.in" >>"$nixvm_files.out" 2>>"$nixvm_files.err" 3>&- 4>&- &
    wait "$!"
    nixvm_status=$?
    nixvm_send O "$nixvm_id" "$nixvm_files.out"
    nixvm_send E "$nixvm_id" "$nixvm_files.err"
    rm -f "$nixvm_files".*
    nixvm_say X "$nixvm_id" "status $nixvm_status
"
  ) &
}

# kill ID SIGNAL
nixvm_kill() {
  nixvm_files=$nixvm_dir/$1
  if [ -e "$nixvm_files.waiting" ]; then
    rm -f "$nixvm_files".*
    nixvm_say X "$1" "status $((128 + $2))
"
    return
  fi
  # It was started, but may not have written its group yet. If the text is gone, it has ended.
  while [ -e "$nixvm_files.text" ] && ! [ -s "$nixvm_files.group" ]; do sleep 0.02 || sleep 1; done
  nixvm_group=$(cat "$nixvm_files.group") || return
  kill "-$2" "-$nixvm_group" || kill "-$2" "$nixvm_group"
}

# clocks WORD: a line with the word in the kernel's log, its time there, and the uptime around it
nixvm_clocks() {
  read -r nixvm_before nixvm_rest </proc/uptime
  echo "<15>nixvm-test: clock $1" >/dev/kmsg || return
  read -r nixvm_after nixvm_rest </proc/uptime
  # The only expected error is that there is no more to read; otherwise the line is found or not.
  nixvm_log=$(dd if=/dev/kmsg bs=8192 iflag=nonblock)
  case $nixvm_log in *";nixvm-test: clock $1"*) ;; *) return ;; esac
  # PRIORITY,NUMBER,TIME,FLAGS
  nixvm_log=${nixvm_log%%";nixvm-test: clock $1"*}
  nixvm_log=${nixvm_log##*"
"}
  nixvm_log=${nixvm_log#*,*,}
  nixvm_say U 0 "${nixvm_log%%,*} ${nixvm_before%.*} ${nixvm_before#*.}0000000 ${nixvm_after%.*} ${nixvm_after#*.}0000000"
}

# When the channel ends, all its commands end. First the subshells that wait for commands are killed and the folder is
# renamed, so that no command can start.
nixvm_end() {
  trap '' HUP INT TERM PIPE
  kill -9 $(jobs -p)
  mv "$nixvm_dir" "$nixvm_dir.end"
  for nixvm_files in "$nixvm_dir.end"/*.group; do
    nixvm_group=$(cat "$nixvm_files") && { kill -9 "-$nixvm_group" || kill -9 "$nixvm_group"; }
  done
  rm -rf "$nixvm_dir.end"
  exit
}
trap nixvm_end HUP INT TERM PIPE

nixvm_say H 0 "version 1
way shell
bash ${nixvm_bash:-none}
"
while read -r nixvm_kind nixvm_id nixvm_length nixvm_rest <&3; do
  # Not a frame: the other end does not speak this protocol.
  case $nixvm_kind in [A-Za-z]) ;; *) break ;; esac
  case $nixvm_id in '' | *[!0-9]*) break ;; esac
  case $nixvm_length in '' | *[!0-9]*) break ;; esac
  [ -z "$nixvm_rest" ] || break
  [ "${#nixvm_length}" -le 5 ] && [ "$nixvm_length" -le 65536 ] || break
  nixvm_files=$nixvm_dir/$nixvm_id
  case $nixvm_kind in
    T) head -c "$nixvm_length" <&3 >>"$nixvm_files.text" ;;
    I)
      if [ "$nixvm_length" -eq 0 ]; then
        [ -e "$nixvm_files.waiting" ] && rm "$nixvm_files.waiting" && nixvm_run "$nixvm_id"
      elif [ -e "$nixvm_files.waiting" ]; then
        head -c "$nixvm_length" <&3 >>"$nixvm_files.in"
        nixvm_say A "$nixvm_id" "$nixvm_length"
      else
        head -c "$nixvm_length" <&3
        [ -e "$nixvm_files.text" ] && nixvm_say A "$nixvm_id" "$nixvm_length"
      fi
      ;;
    *)
      nixvm_content=
      [ "$nixvm_length" -eq 0 ] || nixvm_content=$(head -c "$nixvm_length" <&3)
      case $nixvm_kind in
        R)
          : >>"$nixvm_files.text"
          case $nixvm_content in *'shell user'*) : >"$nixvm_files.user" ;; esac
          case $nixvm_content in *'hidden 1'*) : >"$nixvm_files.hidden" ;; esac
          case $nixvm_content in
            *'stdin 1'*) : >"$nixvm_files.waiting" && : >"$nixvm_files.in" ;;
            *) nixvm_run "$nixvm_id" ;;
          esac
          ;;
        K) case $nixvm_content in '' | *[!0-9]* | ???*) break ;; *) nixvm_kill "$nixvm_id" "$nixvm_content" ;; esac ;;
        C)
          date -s "@${nixvm_content%% *}"
          printf %s "${nixvm_content#* }" >/dev/urandom
          ;;
        U) case $nixvm_content in '' | *[!0-9a-zA-Z]*) ;; *) nixvm_clocks "$nixvm_content" & ;; esac ;;
        P) nixvm_say P "$nixvm_id" "$nixvm_content" ;;
      esac
      ;;
  esac
done
nixvm_end
