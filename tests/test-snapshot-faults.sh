#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What breaks a snapshot or a clone of a source that is written: a pool that is full,
# blocks that cannot be read.  It says so, others stay right, and no write of the
# source fails of it.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_root
need_cmd python3
export LUNFS_TEST_BACKENDS=1
mkdir "$T/tiny"
mount -t tmpfs -o size=12M tmpfs "$T/tiny" 2> /dev/null || skip "no tmpfs can be mounted"

start_tgtd
add_target 1
fill_random "$(lun_file 1 1)" 24M 1
cp "$(lun_file 1 1)" "$T/before"
add_lun 1 1 24M
for f in bad clean; do
	fill_random "$T/$f" 8M $f
	cp "$T/$f" "$T/$f.before"
done
: > "$T/rules"
write_conf <<-END
	[pool tiny]
	type = dir
	path = $T/tiny
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element bad0]
	url = fault:$T/rules:file://$T/bad
	access = exclusive
	[element clean0]
	url = file://$T/clean
	access = exclusive
END
start_lunfs
cd "$MNT"
wait_until 10 file_has elements/db0/OperationalStatus OK

rules()
{
	cat > "$T/rules.new"
	mv "$T/rules.new" "$T/rules"
}

replicate()
{
	mkdir "groups/$1"
	echo "$2" > "groups/$1/spec"
}

# is_broken NAME TEXT: and says why.
is_broken()
{
	wait_until 20 file_has "groups/$1/CopyState" Broken
	assert_match "$2" "$(cat "groups/$1"/pairs/*/error)" "error of $1"
	must_fail timeout 5 cat "groups/$1/wait/Detached"
}

write_random()
{
	head -c "$3" /dev/urandom | dd of="$1" bs=64K oflag=seek_bytes seek="$2" conv=notrunc,fsync status=none
}

drop()
{
	echo ReturnToResourcePool > "groups/$1/control"
	rmdir "groups/$1"
}

note "a full pool breaks the snapshots in it, no write, nobody else's replicas"
total=$(cat pools/tiny/TotalManagedSpace)
free=$(cat pools/tiny/RemainingManagedSpace)
[ "$free" -le $((12 << 20)) ] && [ "$free" -ge $((10 << 20)) ] || fail "RemainingManagedSpace $free of $total"
replicate good "SourceElement=db0 SyncType=Snapshot"
replicate tiny "SourceElement=db0 SyncType=Snapshot TargetPool=tiny"
write_random elements/db0/data 0 $((4 << 20))
less_space()
{
	[ "$(cat pools/tiny/RemainingManagedSpace)" -le $((free - (4 << 20))) ]
}
wait_until 10 less_space
cmp groups/tiny/images/tiny_1 "$T/before"
assert_eq Synchronized "$(cat groups/tiny/CopyState)"
# Writes go on at full length while the replica breaks.
write_random elements/db0/data $((2 << 20)) $((20 << 20))
is_broken tiny "pool tiny is full"
# What the page cache has is right.
must_fail dd if=groups/tiny/images/tiny_1 of=/dev/null bs=1M iflag=direct status=none
assert_eq Synchronized "$(cat groups/good/CopyState)"
cmp groups/good/images/good_1 "$T/before"
cmp elements/db0/data "$(lun_file 1 1)"
cat elements/tiny_1/OperationalStatus groups/tiny/waiting_for status > "$T/seen"
assert_match Error "$(cat elements/tiny_1/OperationalStatus)"
assert_match 'pool tiny is full' "$(cat elements/tiny_1/error)"
assert_match Broken "$(grep '^tiny' status)"

note "it stays broken after a restart, also after a crash"
kill9_lunfs
cd /
start_lunfs
cd "$MNT"
wait_until 10 file_has elements/db0/OperationalStatus OK
is_broken tiny "pool tiny is full"
cmp groups/good/images/good_1 "$T/before"
write_random elements/db0/data $((20 << 20)) $((1 << 20))
cmp groups/good/images/good_1 "$T/before"
drop tiny
space_is_back()
{
	[ "$(cat pools/tiny/RemainingManagedSpace)" -ge $((10 << 20)) ]
}
wait_until 10 space_is_back
assert_eq "" "$(ls "$T/tiny" | grep -v lunfs || :)" "left in the pool"
drop good

note "a full pool: a write of an image is ENOSPC, its source and snapshot stay right"
cp "$(lun_file 1 1)" "$T/before"
replicate user "SourceElement=db0 SyncType=Snapshot TargetPool=tiny"
python3 - groups/user/images/user_1 <<'END'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
written = 0
try:
    while written < 20 << 20:
        written += os.pwrite(fd, b"u" * 65536, written)
    os.fsync(fd)
    sys.exit("20 MiB into a pool of 12")
except OSError as e:
    assert e.errno == errno.ENOSPC, e
print("# ENOSPC after", written >> 20, "MiB")
assert 8 << 20 <= written <= 12 << 20, written
os.fsync(fd)
assert os.pread(fd, 65536, 0) == b"u" * 65536
for at in range(0, written, 1 << 20):
    assert os.pread(fd, 4096, at) == b"u" * 4096
# Over itself it can still be written.
assert os.pwrite(fd, b"v" * 4096, 0) == 4096
END
assert_match "Skewed" "$(cat groups/user/CopyState)"
cmp groups/user/images/user_1 "$T/before" $((16 << 20)) $((16 << 20))
# Room for what the source replaces is gone as well.
write_random elements/db0/data $((17 << 20)) $((1 << 20))
is_broken user "pool tiny is full"
must_fail dd if=groups/user/images/user_1 of=/dev/null bs=64K iflag=skip_bytes,direct skip=$((18 << 20)) count=1
assert_match 'Input/output error' "$OUTPUT"
drop user
wait_until 10 space_is_back

note "a clone that runs out of space while its source is written"
replicate full "SourceElement=db0 SyncType=Clone TargetPool=tiny"
write_random elements/db0/data 0 $((8 << 20))
is_broken full "pool tiny is full"
cmp elements/db0/data "$(lun_file 1 1)"
drop full

note "a block that cannot be read, and is written: the point breaks, the write succeeds"
rules <<-END
	[bad]
	event = read
	offset = $((5 << 20))
	length = 512
	errno = ENODATA
END
mkdir groups/both
echo "bad0 clean0" > groups/both/members
replicate pair "SourceGroup=both SyncType=Snapshot"
replicate alone "SourceElement=bad0 SyncType=Snapshot"
replicate safe "SourceElement=clean0 SyncType=Snapshot"
write_random elements/bad0/data 0 $((1 << 20))
write_random elements/clean0/data 0 $((1 << 20))
assert_eq Synchronized "$(cat groups/pair/CopyState)"
cmp -n $((5 << 20)) groups/pair/images/pair_1 "$T/bad.before"
cmp groups/pair/images/pair_2 "$T/clean.before"
# A write beside the bad block in its chunk: whole pages, no block has to be read for it.
dd if=/dev/zero of=elements/bad0/data bs=4096 seek=$(((5 << 20) / 4096 + 3)) count=1 oflag=direct \
	conv=notrunc status=none
is_broken alone "bad0: medium error: bytes $((5 << 20)) to $(((5 << 20) + 511))"
is_broken pair "bad0: medium error|member bad0 broke"
assert_eq "member bad0 broke" "$(cat groups/pair/pairs/2/error)"
assert_eq Synchronized "$(cat groups/safe/CopyState)"
cmp groups/safe/images/safe_1 "$T/clean.before"
cmp -n 4096 "$T/bad" /dev/zero $(((5 << 20) + 12288)) 0
# Writes go on; so does the block when it is written.
dd if=/dev/zero of=elements/bad0/data bs=4096 seek=$(((5 << 20) / 4096)) count=1 oflag=direct \
	conv=notrunc status=none
rules < /dev/null
replicate mended "SourceElement=bad0 SyncType=Snapshot"
cp "$T/bad" "$T/bad.before"
write_random elements/bad0/data $((5 << 20)) 65536
cmp groups/mended/images/mended_1 "$T/bad.before"
cd /
stop_lunfs
