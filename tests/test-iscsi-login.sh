#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Logins that are refused, and what is said about them.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_tgtd
bd=$top_builddir/tests/bd-tool
[ -x "$bd" ] || skip "tests/bd-tool is not built"

start_tgtd
add_target 1
add_lun 1 1 4M
add_target 2 --chap joe joesecret123
add_lun 2 1 4M
add_target 3 --chap joe joesecret123 --mutual targ targsecret123
add_lun 3 1 4M

# refused TEXT ARGS...: within 10 s, with that text and without a secret.
refused()
{
	local text=$1 start=$SECONDS
	shift
	must_fail "$bd" "$@"
	echo "$OUTPUT"
	assert_eq 2 "$RC" "exit code"
	assert_match "^refused: dev: .*$text" "$OUTPUT"
	[ $((SECONDS - start)) -le 10 ] || fail "it took $((SECONDS - start)) s"
	case $OUTPUT in
	*secret*) fail "a secret is shown" ;;
	esac
}

note "CHAP"
refused 'authentication failure' info "$(lun_url 2 1)"
refused 'authentication failure' -u joe:wrongsecret12 info "$(lun_url 2 1)"
refused 'authentication failure' -u jim:joesecret123 info "$(lun_url 2 1)"
grep -qx "state ready" <("$bd" -u joe:joesecret123 info "$(lun_url 2 1)")

note "mutual CHAP"
grep -qx "state ready" <("$bd" -u joe:joesecret123 -U targ:targsecret123 info "$(lun_url 3 1)")
refused 'did not prove who it is' -u joe:joesecret123 -U targ:wrongsecret12 info "$(lun_url 3 1)"
refused 'did not prove who it is' -u joe:joesecret123 -U tom:targsecret123 info "$(lun_url 3 1)"
note "a target that does not answer our challenge"
must_fail "$bd" -u joe:joesecret123 -U targ:targsecret123 info "$(lun_url 2 1)"
assert_eq 2 "$RC"

note "what is not there"
refused 'there is no such target' info "$(lun_url 9 1)"
refused 'LUN 7 .*there is no such LUN' info "$(lun_url 1 7)"
refused 'LUN 0 .*no disk' info "$(lun_url 1 0)"
must_fail "$bd" -t 2 info "iscsi://127.0.0.1:1/$IQN:t1/1"
assert_eq 3 "$RC"
assert_match '^away: dev: connection to 127.0.0.1:1: Connection refused' "$OUTPUT"
must_fail "$bd" -t 2 info "iscsi://no-such-host.invalid/$IQN:t1/1"
assert_eq 3 "$RC"
assert_match '^away: dev: looking up no-such-host.invalid' "$OUTPUT"

note "a host name"
grep -qx "state ready" <("$bd" info "iscsi://localhost:$TGT_PORT/$IQN:t1/1")

note "another size at the next login is refused, the old one taken"
"$bd" -S 4M watch "$(lun_url 1 1)" 60 > "$T/watch" &
run=$!
started_pids+=("$run")
wait_until 10 grep -q '^ready' "$T/watch"
kill_tgtd
truncate -s 8M "$(lun_file 1 1)"
restart_tgtd
wait_until 15 grep -q '^refused .*the size is 8388608, not 4194304' "$T/watch"
kill_tgtd
truncate -s 4M "$(lun_file 1 1)"
restart_tgtd
ready_again()
{
	sed '1,/^refused/d' "$T/watch" | grep '^ready'
}
wait_until 45 ready_again
kill "$run"

note "a target that is gone after a restart is away for a while, then refused"
"$bd" watch "$(lun_url 1 1)" 60 > "$T/gone" &
run=$!
started_pids+=("$run")
wait_until 10 grep -q '^ready' "$T/gone"
kill_tgtd
launch_tgtd
tgt --op new --mode target --tid 4 -T "$IQN:t4" # without any it resets connections
wait_until 10 grep -q '^away .*there is no such target' "$T/gone"
wait_until 20 grep -q '^refused .*there is no such target' "$T/gone"
kill "$run"
