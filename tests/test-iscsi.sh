#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The iSCSI back end against tgtd: data, extents, identity, reservations.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_tgtd
need_cmd qemu-img
bd=$top_builddir/tests/bd-tool
[ -x "$bd" ] || skip "tests/bd-tool is not built"

start_tgtd
add_target 1
add_lun 1 1 64M
add_lun 1 2 64M thin
add_target 2 --digest
add_lun 2 1 1M
url=$(lun_url 1 1)
thin=$(lun_url 1 2)

note "what is read is what the file holds"
fill_random "$(lun_file 1 1)" 64M 1
"$bd" read "$url" 0 64M | cmp - "$(lun_file 1 1)"
"$bd" read "$url" 512 1536 | cmp -i 0:512 -n 1536 - "$(lun_file 1 1)"

note "what is written is in the file, and nothing else"
cp "$(lun_file 1 1)" "$T/expected"
fill_random "$T/new" 8M 2
dd if="$T/new" of="$T/expected" bs=64K seek=3 conv=notrunc status=none
"$bd" write "$url" 192K 8M < "$T/new"
"$bd" flush "$url"
cmp "$T/expected" "$(lun_file 1 1)"
head -c 512 "$T/new" | dd of="$T/expected" bs=512 seek=131071 conv=notrunc status=none
head -c 512 "$T/new" | "$bd" write "$url" 67108352 512 fua
cmp "$T/expected" "$(lun_file 1 1)"

note "zeros"
dd if=/dev/zero of="$T/expected" bs=512 seek=5 count=40000 conv=notrunc status=none
"$bd" zero "$url" 2560 20480000
cmp "$T/expected" "$(lun_file 1 1)"

note "a request that is not aligned or goes past the end"
must_fail "$bd" read "$url" 1 512
assert_match EINVAL "$OUTPUT"
must_fail "$bd" read "$url" 67108352 1024
assert_match EINVAL "$OUTPUT"

note "extents of a thin LUN"
assert_eq "0 67108864 hole" "$("$bd" extents "$thin")"
"$bd" write "$thin" 1M 1M < "$T/new"
"$bd" write "$thin" 32M 64K < "$T/new"
"$bd" extents "$thin" > "$T/extents"
cat "$T/extents"
assert_match '^0 1048576 hole$' "$(head -n 1 "$T/extents")"
assert_match '^1048576 1048576 mapped$' "$(sed -n 2p "$T/extents")"
assert_eq 5 "$(wc -l < "$T/extents")" "extents"
"$bd" zero "$thin" 1M 1M
assert_eq "0 33554432 hole" "$("$bd" extents "$thin" | head -n 1)"
"$bd" read "$thin" 0 64M | cmp - "$(lun_file 1 2)"
"$bd" discard "$thin" 32M 64K
assert_eq "0 67108864 hole" "$("$bd" extents "$thin")"
note "a thick LUN is all mapped, and cannot discard"
assert_eq "0 67108864 mapped" "$("$bd" extents "$url")"
must_fail "$bd" discard "$url" 0 64K
assert_match EOPNOTSUPP "$OUTPUT"

note "blocks of 4096 bytes"
truncate -s 16M "$(lun_file 1 9)"
tgt_do --op new --mode logicalunit --tid 1 --lun 9 -b "$(lun_file 1 9)" --blocksize 4096
grep -qx "block_size 4096" <("$bd" info "$(lun_url 1 9)")
"$bd" write "$(lun_url 1 9)" 4K 8M < "$T/new"
cmp -n 8388608 -i 0:4096 "$T/new" "$(lun_file 1 9)"
"$bd" zero "$(lun_url 1 9)" 8K 4K
"$bd" read "$(lun_url 1 9)" 0 16M | cmp - "$(lun_file 1 9)"
must_fail "$bd" read "$(lun_url 1 9)" 512 4096
assert_match EINVAL "$OUTPUT"

note "QEMU sees the same bytes"
if qemu-img info "iscsi://127.0.0.1:1/x/1" 2>&1 | grep -q "Unknown protocol"; then
	note "not tried: QEMU has no iSCSI driver"
else
	"$bd" read "$url" 0 64M > "$T/image"
	qemu-img compare -f raw -F raw "$T/image" "$url"
fi

note "what it says of itself"
"$bd" info "$url" > "$T/info"
cat "$T/info"
for line in "size 67108864" "block_size 512" "thin 0" "vendor IET" "product VIRTUAL-DISK" \
	"serial beaf11" "opt_transfer 262144" "opt_copy 1048576" "reserved 0"; do
	grep -qx "$line" "$T/info" || fail "no line \"$line\""
done
grep -q '^wwn naa\.6' "$T/info"
grep -q "ready MaxRecvDataSegmentLength=262144 MaxBurstLength=262144 FirstBurstLength=65536 \
HeaderDigest=None WriteCache=on ISID=80[0-9a-f]\{10\} Logins=1$" "$T/info"
grep -qx "thin 1" <("$bd" info "$thin")

note "a small MaxRecvDataSegmentLength is warned of"
tgt --op update --mode target --tid 2 --name MaxRecvDataSegmentLength --value 8192
grep -q "MaxRecvDataSegmentLength=8192 .*small" <("$bd" info "$(lun_url 2 1)")

note "header digests"
grep -q HeaderDigest=CRC32C <("$bd" -d info "$(lun_url 2 1)")
must_fail "$bd" -d info "$url"
assert_eq 2 "$RC"
assert_match 'does not take HeaderDigest=CRC32C' "$OUTPUT"

for n in 1 2; do
	export LUNFS_TEST_ISCSI_SESSIONS=$n
	note "reservations with $n session(s): held on each, kept over a restart, a foreign" \
		"key is refused"
	"$bd" -k 0x1111 -K watch "$url" 2 > "$T/watch"
	cat "$T/watch"
	assert_match "^ready reserved=1 logins=$n " "$(tail -n 1 "$T/watch")"
	must_fail "$bd" -s 2 -k 0x2222 info "$url"
	assert_eq 2 "$RC"
	assert_match 'dev: .*key 0x0000000000001111' "$OUTPUT"
	note "what clears our registrations is seen and mended, under load"
	"$bd" -k 0x1111 -K stress "$url" 3 16 > "$T/stress" &
	stress=$!
	read -rt 1 -u "$never_fd" || :
	"$bd" -s 9 -k 0x1111 info "$url" > /dev/null
	wait "$stress"
	must_fail "$bd" -s 2 -k 0x2222 info "$url"
	assert_match 'dev: .*key 0x0000000000001111' "$OUTPUT"
	note "another initiator reads, and may not write"
	"$bd" -s 2 read "$url" 0 64K > /dev/null
	must_fail "$bd" -s 2 write "$url" 0 64K < "$T/new"
	assert_match EACCES "$OUTPUT"
	note "the owner comes back with its key, and gives it up when it ends"
	"$bd" -k 0x1111 write "$url" 0 64K < "$T/new"
	grep -qx "reserved 1" <("$bd" -s 2 -k 0x2222 info "$url")
	"$bd" -s 3 write "$url" 0 64K < "$T/new"

	note "the target gets another LUN under load: the identity is asked for"
	"$bd" stress "$url" 2 16 > "$T/stress" &
	stress=$!
	add_lun 1 $((2 + n)) 1M
	wait "$stress"
	cat "$T/stress"
	assert_match "lost 0 logins $n\$" "$(cat "$T/stress")"
done
