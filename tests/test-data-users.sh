#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What people do with data and images: a file system on a loop device, snapshots of it
# while it is mounted and written, an image exported by another target, QEMU's tools.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_loop
need_cmd mkfs.ext4 e2fsck qemu-img qemu-io
grep -qw ext4 /proc/filesystems || skip "this kernel has no ext4"

start_tgtd
add_target 1
add_lun 1 1 48M
add_lun 1 2 8M thin
fill_random "$(lun_file 1 2)" 8M 2
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 1 2)
	access = exclusive
END
start_lunfs
mkdir "$T/fs" "$T/fs2" "$T/tree" "$T/tree/dir"
fill_random "$T/tree/random" 3M 1
seq 200000 > "$T/tree/dir/numbers"
for i in {1..40}; do
	seq "$i" 3000 > "$T/tree/dir/$i"
done
wait_until 10 file_has "$MNT/elements/db0/OperationalStatus" OK
wait_until 10 file_has "$MNT/elements/log0/OperationalStatus" OK

# attach FILE OPTIONS...: the loop device is $loop.
attach()
{
	local file=$1
	shift
	loop=$(losetup --show -f "$@" "$file")
}

# Others may look at it a moment longer (udev, blkid).
detached()
{
	! losetup -nO BACK-FILE "$1" 2> /dev/null | grep -qF "$T"
}

detach()
{
	losetup -d "$1"
	wait_until 10 detached "$1"
}

# check_image FILE [FILE-THAT-WAS-SYNCED]: the journal replayed, the file system is clean.
check_image()
{
	local rc=0
	attach "$1"
	e2fsck -p "$loop" > "$T/fsck.out" 2>&1 || rc=$?
	[ "$rc" -le 1 ] || fail "e2fsck -p of $1: $rc: $(cat "$T/fsck.out")"
	e2fsck -fn "$loop" > "$T/fsck.out" 2>&1 || fail "e2fsck -fn of $1: $(cat "$T/fsck.out")"
	mount -o ro "$loop" "$T/fs2"
	diff -r "$T/tree" "$T/fs2/tree"
	umount "$T/fs2"
	detach "$loop"
}

for direct in off on; do
	attach "$MNT/elements/db0/data" --direct-io=$direct
	dev=$loop
	mkfs.ext4 -q -F "$dev"
	mount "$dev" "$T/fs"
	cp -r "$T/tree" "$T/fs/tree"
	sync -f "$T/fs/tree"

	# A writer that never stands still.
	cat > "$T/churn.sh" <<-'END'
		i=0
		while [ ! -e "$1/stop" ]; do
			i=$((i + 1))
			cp -r "$1/tree/dir" "$1/fs/dir-$((i % 5))"
			dd if=/dev/zero of="$1/fs/zeros" bs=64K count=$((i % 40)) conv=fsync status=none
			rm -rf "$1/fs/dir-$(((i + 2) % 5))"
			mv "$1/fs/zeros" "$1/fs/zeros-$((i % 7))"
			echo "$i" > "$1/rounds"
		done
	END
	rm -f "$T/stop" "$T/rounds"
	run_in_background bash "$T/churn.sh" "$T"
	churn=$background_pid
	wait_until 20 test -e "$T/rounds"
	rounds_are()
	{
		ended "$churn" && fail "the writer has ended"
		[ "$(cat "$T/rounds")" -ge "$1" ]
	}
	for n in 1 2 3; do
		g=snap-$direct-$n
		mkdir "$MNT/groups/$g"
		echo "SourceElement=db0 SyncType=Snapshot" > "$MNT/groups/$g/spec"
		wait_until 20 rounds_are $(($(cat "$T/rounds") + 2))
	done
	g=clone-$direct
	mkdir "$MNT/groups/$g"
	echo "SourceElement=db0 SyncType=Clone" > "$MNT/groups/$g/spec"
	for n in 2 1 3; do
		check_image "$MNT/groups/snap-$direct-$n/images/snap-$direct-${n}_1"
		assert_eq Skewed "$(cat "$MNT/groups/snap-$direct-$n/CopyState")" "a snapshot that was repaired"
		echo ReturnToResourcePool > "$MNT/groups/snap-$direct-$n/control"
	done
	check_image "$MNT/groups/$g/images/${g}_1"
	: > "$T/stop"
	wait_until 20 ended "$churn"
	umount "$T/fs"
	e2fsck -fn "$dev" > "$T/fsck.out" 2>&1 || fail "e2fsck of data: $(cat "$T/fsck.out")"
	mount "$dev" "$T/fs"
	diff -r "$T/tree" "$T/fs/tree"
	umount "$T/fs"
	must_fail "$LUNFS" --stop "$MNT"
	assert_match '1 open handle on "db0", .* which has ended .*losetup -l' "$OUTPUT"
	detach "$dev"
	e2fsck -fn "$(lun_file 1 1)" > "$T/fsck.out" 2>&1 || fail "e2fsck of the LUN: $(cat "$T/fsck.out")"
	note "ext4 on a loop device, direct-io=$direct: $(cat "$T/rounds") rounds, its snapshots and a clone are clean"
done

cd "$MNT"
mkdir groups/q
echo "SourceElement=log0 SyncType=Snapshot" > groups/q/spec
image=groups/q/images/q_1
note "QEMU's tools on an image"
assert_eq raw "$(qemu-img info "$image" | sed -n 's/^file format: //p')"
qemu-img compare -q -f raw -F raw "$image" "$(lun_file 1 2)"
qemu-img convert -f raw -O raw -t none -T none "$image" "$T/converted"
cmp "$T/converted" "$(lun_file 1 2)"
for cache in none writeback directsync; do
	qemu-io -f raw -t $cache -c "write -P 0x41 64K 70000" -c "write -P 0x42 1M 1M" -c "aio_write -P 0x43 3M 512K" \
		-c aio_flush -c "discard 5M 1M" -c "write -z 6M 300K" -c flush \
		-c "read -P 0x41 64K 70000" -c "read -P 0x43 3M 512K" -c "read -P 0 6M 300K" "$image" > "$T/qemu-io.out" ||
		fail "qemu-io: $(cat "$T/qemu-io.out")"
	grep -iE 'fail|error' "$T/qemu-io.out" && fail "qemu-io, cache $cache"
done
cmp "$T/converted" "$(lun_file 1 2)"
qemu-img convert -n -f raw -O raw "$T/converted" "$image"
cmp "$T/converted" "$image"
qemu-img map --output=json -f raw "$image" > "$T/map"

note "an image exported by another target, and cloned from there"
TGT_IMAGE=$PWD/$image
exec 3< "$image"
add_target 3
add_lun 3 1 8M "" "$TGT_IMAGE"
mkdir elements/export0
echo "$(lun_url 3 1)" > elements/export0/url
wait_until 10 file_has elements/export0/OperationalStatus OK
echo exclusive > elements/export0/access
cmp elements/export0/data "$image"
fill_random "$T/new" 2M 3
dd if="$T/new" of=elements/export0/data bs=300K seek=1 conv=notrunc,fsync status=none
cmp -n $((2 << 20)) "$T/new" "$image" 0 $((300 << 10))
mkdir groups/again
echo "SourceElement=export0 SyncType=Clone WaitForCopyState=Synchronized" > groups/again/spec
cmp groups/again/images/again_1 "$image"
tgt --op delete --mode logicalunit --tid 3 --lun 1
exec 3<&-

if type -P nbdkit nbdcopy > /dev/null; then
	nbdkit -r -U - file "$image" --run "nbdcopy \"\$uri\" $T/nbd"
	cmp "$T/nbd" "$image"
	note "nbdkit file reads an image"
fi
cd /
stop_lunfs
