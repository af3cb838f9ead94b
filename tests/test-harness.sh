#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The harness itself: a target that is written, frozen, killed and restarted,
# an oracle that sees it, and nothing left behind by tests that fail.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_tgtd
need_qemu_iscsi

start_tgtd
add_target 1
add_lun 1 1 8M
add_lun 1 2 16M thin
add_target 2 --chap alice wonderland99 --mutual bob builder123456
add_lun 2 1 4M

note "an independent initiator writes and reads the LUN"
qemu-io -f raw -c 'write -P 0xa5 1M 64k' "$(lun_url 1 1)"
qemu-io -f raw -c 'read -P 0xa5 1M 64k' "$(lun_url 1 1)" | grep '^read 65536' > /dev/null
must_fail qemu-io -f raw -c 'read -P 0x5a 1M 64k' "$(lun_url 1 1)"
assert_eq a5a5 "$(od -An -tx1 -j 1048576 -N 2 "$(lun_file 1 1)" | tr -d ' ')" "backing file"
fill_random "$(lun_file 1 2)" 4M 7
qemu-img compare -f raw -F raw "$(lun_url 1 2)" "$(lun_file 1 2)"

note "CHAP is asked for"
must_fail qemu-img info -f raw "$(lun_url 2 1)"
qemu-img info -f raw "iscsi://alice%wonderland99@127.0.0.1:$TGT_PORT/$IQN:t2/1" > /dev/null

note "a target that was killed comes back with its LUNs"
kill_tgtd
must_fail qemu-img info -f raw "$(lun_url 1 1)"
restart_tgtd
qemu-io -f raw -c 'read -P 0xa5 1M 64k' "$(lun_url 1 1)" | grep '^read 65536' > /dev/null
qemu-img info -f raw "iscsi://alice%wonderland99@127.0.0.1:$TGT_PORT/$IQN:t2/1" > /dev/null

note "a frozen target answers again when it is thawed"
freeze_tgtd
run_in_background qemu-img info -f raw "$(lun_url 1 1)" > "$T/info.out" 2>&1
must_fail timeout 1 tail --pid="$background_pid" -f /dev/null
thaw_tgtd
wait_until 30 ended "$background_pid"
grep -q 'virtual size: 8 MiB' "$T/info.out"

note "a condition that never comes fails the test, with what was seen"
must_fail bash -c '. "$top_srcdir/tests/lib.sh"; echo no > "$T/f"; wait_until 0 file_has "$T/f" yes'
assert_match 'f: no' "$OUTPUT"
assert_match 'FAIL: not within 0 s' "$OUTPUT"

note "a command that fails ends the test and names itself"
must_fail bash -c '. "$top_srcdir/tests/lib.sh"; false; exit 0'
assert_match 'FAIL: .*false' "$OUTPUT"

note "a failed test leaves no process, mount or directory"
cat > "$T/leak.sh" <<'END'
. "$top_srcdir/tests/lib.sh"
start_tgtd
add_target 1
add_lun 1 1 1M
freeze_tgtd
mount -t tmpfs none "$POOL"
run_in_background tail -f /dev/null
echo "leak: $tgtd_pid $background_pid $T"
fail "on purpose"
END
must_fail bash "$T/leak.sh"
assert_eq 1 "$RC"
assert_match 'FAIL: on purpose' "$OUTPUT"
assert_match '---- tgtd.log' "$OUTPUT"
read -r _ leak_tgtd leak_tail leak_dir < <(grep '^leak: ' <<< "$OUTPUT")
wait_until 5 ended "$leak_tgtd"
wait_until 5 ended "$leak_tail"
[ ! -e "$leak_dir" ] || fail "$leak_dir is still there"

note "a skip is a skip"
RC=0
bash -c '. "$top_srcdir/tests/lib.sh"; need_cmd no-such-command' > "$T/skip.out" || RC=$?
assert_eq 77 "$RC"
assert_eq "SKIP: no-such-command is not installed" "$(cat "$T/skip.out")"
