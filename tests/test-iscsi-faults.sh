#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The iSCSI back end when things go wrong: each request is answered once, and
# the data are right afterwards.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_tgtd
bd=$top_builddir/tests/bd-tool
[ -x "$bd" ] || skip "tests/bd-tool is not built"

start_tgtd
add_target 1
add_lun 1 1 32M
add_target 2 --digest
add_lun 2 1 16M
fill_random "$(lun_file 1 1)" 32M 1
start_proxy p
url=$(lun_url 1 1 "${proxy_port[p]}")
file=$(lun_file 1 1)

note "busy, task set full, unit attention: sent again"
for fault in "busy op=read" "busy status=full op=read" "ua op=read"; do
	# shellcheck disable=SC2086
	arm p $fault count=4
	"$bd" read "$url" 0 4M | cmp -n 4194304 - "$file"
	wait_fired p "${fault%% *}"
done
head -c 1M "$file" > "$T/new"
arm p busy op=write count=3
"$bd" write "$url" 4M 1M < "$T/new"
wait_fired p busy
cmp -n 1048576 "$T/new" "$file" 0 4194304

note "bad blocks are found"
arm p sense key=3 asc=0x11 op=read lba=1001-1003 count=0
must_fail "$bd" read "$url" 0 1M
assert_eq $'ENODATA at 0\nbad 512512 1536' "$OUTPUT"
arm p sense key=4 asc=0x44 op=read lba=2047 count=0
must_fail "$bd" read "$url" 512K 512K
assert_eq $'ENODATA at 524288\nbad 1048064 512' "$OUTPUT"
disarm p sense

note "errors have their errno"
while read -r key asc ascq errno; do
	arm p sense key="$key" asc="$asc" ascq="$ascq" op=write
	must_fail "$bd" write "$url" 4M 64K < "$T/new"
	assert_eq "$errno at 4194304" "$OUTPUT" "$key/$asc/$ascq"
done <<END
7 0x27 0 EROFS
7 0x27 7 ENOSPC
3 0x0c 0 EIO
9 0x80 1 EIO
END

note "fewer bytes than asked for"
arm p short
must_fail "$bd" read "$url" 0 64K
assert_eq "EIO at 0" "$OUTPUT"

note "the identity is asked for after a capacity change, and is the same"
arm p sense key=6 asc=0x2a ascq=9 op=read
"$bd" stress "$url" 2 16 > "$T/out"
cat "$T/out"
assert_match 'lost 0 logins 1$' "$(cat "$T/out")"
wait_fired p sense

for n in 1 2; do
	note "connections cut in the middle of a PDU, $n session(s)"
	arm p cut count=12 rate=1
	LUNFS_TEST_ISCSI_SESSIONS=$n "$bd" stress "$url" 5 16 > "$T/out"
	cat "$T/out"
	assert_match 'lost [1-9]' "$(cat "$T/out")"
	disarm p cut
done

note "a damaged header: the digest finds it"
arm p flip at=header count=3 rate=5
"$bd" -d stress "$(lun_url 2 1 "${proxy_port[p]}")" 4 8 > "$T/out"
cat "$T/out"
disarm p flip

for n in 1 2; do
	note "the target ends and comes back, under load, $n session(s)"
	LUNFS_TEST_ISCSI_SESSIONS=$n "$bd" stress "$(lun_url 1 1)" 6 16 > "$T/out" &
	stress=$!
	for _ in 1 2 3; do
		read -rt 1.2 -u "$never_fd" || :
		restart_tgtd
	done
	wait "$stress"
	cat "$T/out"
	assert_match 'lost [1-9]' "$(cat "$T/out")"
done

note "the target does not answer for 15 s"
"$bd" stress "$(lun_url 1 1)" 20 16 > "$T/out" &
stress=$!
read -rt 1 -u "$never_fd" || :
freeze_tgtd
read -rt 15 -u "$never_fd" || :
thaw_tgtd
wait "$stress"
cat "$T/out"
assert_match 'lost [1-9]' "$(cat "$T/out")"

note "a command that never gets there"
arm p drop op=0x8a at=command
"$bd" stress "$url" 3 8 > "$T/out"
cat "$T/out"
assert_match 'lost [1-9]' "$(cat "$T/out")"
