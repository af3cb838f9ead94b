#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# An element under a loop device with a file system on it, written through the page
# cache and with direct I/O, trimmed, and found again after a restart.  Runs on
# tests/fake-lunfs.
LUNFS=${top_builddir:-.}/tests/fake-lunfs
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_loop
need_cmd mkfs.ext4 e2fsck fstrim
grep -qw ext4 /proc/filesystems || skip "this kernel has no ext4"

truncate -s 64M "$T/db0"
fill_random "$T/random" 9M 1
export FAKE_ENGINE_LOG=$T/requests
write_conf <<-END
	[element db0]
	url = file://$T/db0
	access = exclusive
END
mkdir "$T/fs"

# attach LOSETUP-OPTIONS...: the loop device is $loop.
attach()
{
	loop=$(losetup --show -f "$@" "$MNT/elements/db0/data")
}

# The kernel may have it a moment longer.
detached()
{
	! losetup -nO BACK-FILE "$loop" 2> /dev/null | grep -qF "$T"
}

detach()
{
	losetup -d "$loop"
	wait_until 10 detached
}

count()
{
	grep -c "^$1 db0 " "$T/requests" || :
}

for direct in off on; do
	start_lunfs
	attach --direct-io=$direct
	before=$(count flush)
	mkfs.ext4 -q -F "$loop"
	[ "$(count flush)" -gt "$before" ] || fail "mkfs.ext4 led to no flush"
	mount "$loop" "$T/fs"
	cp "$T/random" "$T/fs/a"
	mkdir "$T/fs/dir"
	cp "$T/random" "$T/fs/dir/b"
	sync -f "$T/fs/a"
	used=$(stat -c %b "$T/db0")
	before=$(count zero)
	rm "$T/fs/a"
	sync -f "$T/fs/dir/b"
	fstrim "$T/fs"
	[ "$(count zero)" -gt "$before" ] || fail "fstrim led to no zeroing"
	[ "$(stat -c %b "$T/db0")" -lt "$used" ] || fail "fstrim freed nothing"
	cmp "$T/random" "$T/fs/dir/b"
	umount "$T/fs"
	detach
	assert_eq $((64 << 20)) "$(stat -c %s "$MNT/elements/db0/data")"
	stop_lunfs

	e2fsck -fn "$T/db0" > "$T/fsck.out" 2>&1 || fail "e2fsck: $(cat "$T/fsck.out")"
	start_lunfs
	attach -r
	mount -o ro "$loop" "$T/fs"
	cmp "$T/random" "$T/fs/dir/b"
	umount "$T/fs"
	detach
	stop_lunfs
	note "ext4 on a loop device, direct-io=$direct: written, trimmed, there after a restart"
done
