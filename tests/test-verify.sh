#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Verify as its user sees it: what differs between sources and targets is told block by
# block, as an oracle finds it too; nothing is repaired; it waits for a target that is
# away, ends with what else fails, and stands in nobody's way.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_cmd python3
export LUNFS_TEST_BACKENDS=1

size=$((6 << 20))
odd=$(((5 << 20) + 512))
start_tgtd
for tid in 1 2; do
	add_target $tid
	fill_random "$(lun_file $tid 1)" 6M "v$tid"
	add_lun $tid 1 6M
	start_proxy lun$tid
done
fill_random "$T/odd" 5M odd
truncate -s $odd "$T/odd"
truncate -s 1T "$T/sparse"
dd if=/dev/urandom of="$T/sparse" bs=64k count=1 seek=$((7 << 20)) conv=notrunc status=none
fill_random "$T/bad" 8M bad
: > "$T/rules"
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[lun1]}")
	access = exclusive
	[element log0]
	url = $(lun_url 2 1 "${proxy_port[lun2]}")
	access = exclusive
	[element odd0]
	url = file://$T/odd
	access = exclusive
	[element big0]
	url = file://$T/sparse
	access = exclusive
	[element bad0]
	url = fault:$T/rules:file://$T/bad
	access = exclusive
END
start_lunfs
cd "$MNT"
for e in db0 log0 odd0 big0 bad0; do
	wait_until 20 test -s elements/$e/size
done
mkdir groups/prod
echo "db0 log0" > groups/prod/members

job_is()
{
	file_has "groups/$1/job/JobState" "$2"
}

# verify NAME: it has begun.
verify()
{
	echo Verify > "groups/$1/control"
	assert_match '^4096 ' "$(cat "groups/$1/result")"
	assert_match "^Verify $1\$" "$(cat "groups/$1/job/Name")"
}

# verified NAME [JOBSTATE]: it has begun and ended.
verified()
{
	verify "$1"
	wait_until 30 job_is "$1" "${2:-Completed}"
}

# found NAME N KEY: what Verify found of pair N.
found()
{
	sed -n "s/^$3 //p" "groups/$1/pairs/$2/verified"
}

# oracle A B: what differs, as `verified` has it.
oracle()
{
	python3 - "$1" "$2" <<-'END'
		import os, sys
		a, b = (os.open(p, os.O_RDONLY) for p in sys.argv[1:])
		size = os.fstat(a).st_size
		ranges, total = [], 0
		for at in range(0, size, 4096):
		    n = min(4096, size - at)
		    if os.pread(a, n, at) != os.pread(b, n, at):
		        total += n
		        if ranges and sum(ranges[-1]) == at:
		            ranges[-1][1] += n
		        else:
		            ranges.append([at, n])
		print("bytes_total", size)
		print("bytes_compared", size)
		print("bytes_different", total)
		print("ranges", len(ranges))
		for r in ranges[:64]:
		    print(*r)
	END
}

# is_true NAME N SOURCE: what was found is what the oracle finds.
is_true()
{
	local image=groups/$1/images/$1_$2
	assert_eq "$(oracle "$3" "$image")" "$(sed '/^begun\|^ended/d' "groups/$1/pairs/$2/verified")" \
		"$1, pair $2"
}

poke()
{
	head -c "$3" /dev/urandom |
		dd of="$1" bs=1M iflag=fullblock oflag=seek_bytes seek="$2" conv=notrunc status=none
	sync "$1"
}

note "equal"
for name in c o; do
	mkdir groups/$name
done
echo "SyncType=Clone SourceGroup=prod" > groups/c/spec
echo "SyncType=Clone SourceElement=odd0" > groups/o/spec
assert_eq Synchronized "$(timeout 30 cat groups/c/wait/Synchronized)"
assert_eq Synchronized "$(timeout 30 cat groups/o/wait/Synchronized)"
assert_eq "" "$(cat groups/c/pairs/1/verified)" "before the first"
grep -qx Verify groups/c/control
for name in c o; do
	verified $name
	assert_eq "" "$(cat groups/$name/job/ErrorDescription)" "of what is equal"
	assert_eq 100 "$(cat groups/$name/job/PercentComplete)"
done
is_true c 1 elements/db0/data
is_true c 2 elements/log0/data
is_true o 1 elements/odd0/data
assert_eq 0 "$(found c 1 bytes_different)"
assert_eq $size "$(found c 1 bytes_compared)"
assert_match '^20..-..-..T' "$(found c 1 ended)"

note "what differs, and nothing is repaired"
poke elements/db0/data 5000 1
poke elements/db0/data $((1 << 20)) 65536
poke elements/db0/data $((size - 1)) 1
poke elements/odd0/data $((odd - 1)) 1
poke groups/c/images/c_2 $((3 << 20)) 9000
before=$(sum_of c)
verified c
verified o
is_true c 1 elements/db0/data
is_true c 2 elements/log0/data
is_true o 1 elements/odd0/data
assert_eq 512 "$(found o 1 bytes_different)" "the end is no whole block"
assert_match '^db0: 73728 bytes differ, in 3 ranges; log0: 12288 bytes differ, in 1 range$' \
	"$(cat groups/c/job/ErrorDescription)"
assert_eq 0 "$(cat groups/c/job/ErrorCode)"
assert_eq "$before" "$(sum_of c)" "the images"
assert_eq Mixed "$(cat groups/c/CopyState)"

note "more ranges than are told"
for ((i = 0; i < 80; i++)); do
	printf x | dd of="$T/bytes" bs=1 seek=$((i * 16384)) conv=notrunc status=none
done
dd if="$T/bytes" of=elements/log0/data bs=1M conv=notrunc,fsync status=none
python3 - elements/odd0/data <<-'END'
	import os, sys
	f = os.open(sys.argv[1], os.O_RDWR)
	for i in range(100):
	    b = os.pread(f, 1, i * 12288)
	    os.pwrite(f, bytes([b[0] ^ 1]), i * 12288)
	os.fsync(f)
END
verified o
is_true o 1 elements/odd0/data
assert_eq 64 "$(grep -c '^[0-9]' groups/o/pairs/1/verified)" "ranges told"
[ "$(found o 1 ranges)" -ge 100 ] || fail "ranges: $(found o 1 ranges)"

note "a snapshot"
take s SourceGroup=prod SyncType=Snapshot
verified s
assert_eq 0 "$(cat groups/s/job/bytes_copied)" "what is the source's own is not read"
is_true s 1 elements/db0/data
assert_eq 0 "$(found s 2 bytes_different)"
poke elements/db0/data 300000 70000
poke groups/s/images/s_1 2000000 5
verified s
is_true s 1 elements/db0/data
is_true s 2 elements/log0/data
[ "$(found s 1 bytes_different)" -ge 70000 ] || fail "$(cat groups/s/pairs/1/verified)"

note "holes are not read"
take h SourceElement=big0 SyncType=Snapshot
poke elements/big0/data $((900 << 30)) 4096
verified h
assert_eq "$(printf '%s\n' "$((900 << 30)) 4096")" "$(grep '^[0-9]' groups/h/pairs/1/verified)"
assert_eq $((1 << 40)) "$(found h 1 bytes_compared)"
[ "$(cat groups/h/job/bytes_copied)" -le $((64 << 20)) ] ||
	fail "$(cat groups/h/job/bytes_copied) bytes were read"
assert_eq $((1 << 40)) $(($(cat groups/h/job/bytes_copied) + $(cat groups/h/job/bytes_skipped)))

note "an error ends it, and breaks nothing"
mkdir groups/b
echo "SyncType=Clone SourceElement=bad0" > groups/b/spec
assert_eq Synchronized "$(timeout 30 cat groups/b/wait/Synchronized)"
printf '[bad]\nevent = read\noffset = 3145728\nlength = 4096\nerrno = ENODATA\n' > "$T/rules.new"
mv "$T/rules.new" "$T/rules"
verified b Exception
assert_match 'bad0: bytes 3145728 to 4194303 cannot be read: Input/output error' \
	"$(cat groups/b/job/ErrorDescription)"
assert_match '^error bad0: ' "$(tail -n 1 groups/b/pairs/1/verified)"
assert_eq Synchronized "$(cat groups/b/CopyState)"
: > "$T/rules"
verified b
assert_eq 0 "$(found b 1 bytes_different)"

note "while it runs: In Use is the second one only"
arm lun1 slow bytes_per_second=200000
arm lun2 slow bytes_per_second=200000
verify c
wait_until 10 file_matches status '^c +Verifying +[0-9]+% .* [kM]B/s'
must_refuse groups/c/control Verify "Device or resource busy"
assert_match '^6 In Use' "$(cat groups/c/result)"
must_fail grep -x Verify groups/c/control
verify s
assert_eq Running "$(cat groups/c/job/JobState)"
job=$(readlink -f groups/s/job)
must_refuse "$job/control" Suspend "Operation not supported"
assert_match '^1 Not Supported' "$(cat "$job/result")"
echo Terminate > "$job/control"
assert_eq Terminated "$(cat "$job/JobState")"
assert_eq Skewed "$(cat groups/s/pairs/1/CopyState)"

note "another operation takes its place"
verify s
job=$(readlink -f groups/s/job)
echo ResyncReplica > groups/s/control
assert_eq Terminated "$(cat "$job/JobState")"
wait_until 20 job_is s Completed
assert_match '^ResyncReplica' "$(cat groups/s/job/Name)"
dd if=/dev/zero of=groups/s/images/s_1 bs=64k count=32 conv=notrunc,fsync status=none
verify s
job=$(readlink -f groups/s/job)
echo ReturnToResourcePool > groups/s/control
wait_until 20 is_over s
assert_eq Terminated "$(cat "$job/JobState")"
rmdir groups/s

note "a target that is away is waited for"
assert_eq Running "$(cat groups/c/job/JobState)"
disarm lun2 slow
arm lun1 refuse existing=1
wait_until 20 file_matches groups/c/waiting_for 'db0: no connection for'
assert_eq Running "$(cat groups/c/job/JobState)"
disarm lun1 refuse
disarm lun1 slow
wait_until 60 job_is c Completed
is_true c 1 elements/db0/data
is_true c 2 elements/log0/data

note "a detach ends it too; a kill, and a stop"
arm lun1 slow bytes_per_second=200000
verify c
cd /
kill9_lunfs
disarm lun1 slow
start_lunfs
cd "$MNT"
wait_until 20 test -s elements/db0/size
assert_eq Exception "$(cat groups/c/job/JobState)"
assert_match 'LunFS ended before the operation was done' "$(cat groups/c/job/ErrorDescription)"
arm lun1 slow bytes_per_second=200000
verify c
cd /
stop_lunfs
disarm lun1 slow
start_lunfs
cd "$MNT"
assert_eq Exception "$(cat groups/c/job/JobState)"
wait_until 20 test -s elements/db0/size
arm lun1 slow bytes_per_second=200000
verify c
job=$(readlink -f groups/c/job)
echo Detach > groups/c/control
assert_eq Terminated "$(cat "$job/JobState")"
assert_eq "Not Applicable" "$(cat groups/c/CopyState)"
disarm lun1 slow

note "only of what is there"
arm lun1 slow bytes_per_second=200000
mkdir groups/u
echo "SyncType=Clone SourceElement=db0" > groups/u/spec
must_refuse groups/u/control Verify "Input/output error"
assert_match '^4 Failed' "$(cat groups/u/result)"
assert_match 'it would do from Synchronized, Fractured, Skewed' "$(cat groups/u/result)"
disarm lun1 slow
cd /
stop_lunfs
