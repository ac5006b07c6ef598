# The start of the shell server. The shell that root started on the console sources it, with the nonce as $1 and the
# port as $2. It starts itself as a service, or as its own process if there is no systemd.
if [ "${3-}" != serve ]; then
  exec 3>&-
  if command -v systemd-run >/dev/null; then
    exec systemd-run --quiet --collect --unit=nixvm-channel --description="nixvm-test control channel" \
      -p OOMPolicy=continue -p TimeoutStopSec=5s /bin/sh "/run/nixvm-$1" "$1" "$2" serve
  fi
  setsid sh "/run/nixvm-$1" "$1" "$2" serve </dev/null >/dev/null 2>&1 &
  exit
fi
exec 3<>"$2" || exit
export HOME=/root USER=root LOGNAME=root SHELL=/bin/sh
cd /root 2>/dev/null || cd /
[ -r /etc/profile ] && . /etc/profile >/dev/null 2>&1
export PAGER=cat SYSTEMD_PAGER=cat GIT_PAGER=cat MANPAGER=cat PSQL_PAGER=cat AWS_PAGER=cat GH_PAGER=cat BAT_PAGER=cat DELTA_PAGER=cat
