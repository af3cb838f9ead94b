#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# CopyPriority on a real target: of two copies of equal size the High one ends first by a
# clear margin; Low speeds up when its file is written; and requests of users beside a Low
# copy are nearer to those beside none than to those beside a High one.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

start_tgtd
add_target 1
add_lun 1 1 4G
add_lun 1 2 2G
add_lun 1 3 16M
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive

	[element db1]
	url = $(lun_url 1 2)
	access = exclusive

	[element busy]
	url = $(lun_url 1 3)
	access = exclusive

	[setting low]
	CopyPriority = Low

	[setting high]
	CopyPriority = High

	[setting steady]
	CopyPriority = High
	max_bytes_per_second = 300M
END
start_lunfs
cd "$MNT"
for e in db0 db1 busy; do
	wait_until 20 file_has elements/$e/OperationalStatus OK
done
mkdir groups/{low,high,steady}

copy()
{
	echo "SourceElement=$2 SyncType=Clone ReplicationSettingData=$1" > "groups/$1/spec"
}

drop()
{
	local name
	for name; do
		echo ReturnToResourcePool > "groups/$name/control"
	done
}

bytes()
{
	cat "groups/$1/pairs/1/bytes_copied"
}

has_begun()
{
	[ "$(cat "groups/$1/CopyState")" = Synchronized ] || [ "$(bytes "$1")" -gt 0 ]
}

# Two at once, Low first.
copy low db0
copy high db1
while [ "$(cat groups/high/PercentSynced)" -lt 90 ]; do :; done
low=$(cat groups/low/PercentSynced)
assert_eq "Low High" "$(cat groups/low/CopyPriority groups/high/CopyPriority | paste -sd' ')"
[ "$low" -lt 50 ] || fail "Low has $low % when High has 90"
note "Low has $low % when High has 90"
drop high low

# beside BYTES: how much Low copies while the other one, of a steady rate, copies those.
low_beside()
{
	local low high
	low=$(bytes low)
	high=$(bytes steady)
	while [ $(($(bytes steady) - high)) -lt "$1" ]; do
		[ "$(cat groups/steady/CopyState)" = Unsynchronized ] || fail "it has ended"
	done
	echo $(($(bytes low) - low))
}

# Low is let go when its file is written.
copy steady db1
wait_until 10 has_begun steady
copy low db0
slow=$(low_beside $((384 << 20)))
must_refuse groups/low/CopyPriority Highest "Invalid argument"
echo High > groups/low/CopyPriority
fast=$(low_beside $((384 << 20)))
[ "$fast" -gt $((4 * slow)) ] || fail "$slow bytes beside 384 MiB of High, $fast as High"
note "$((slow >> 20)) MiB beside 384 MiB of High, $((fast >> 20)) MiB as High"
drop low steady

# reads N: microseconds of the median read of 4 KiB of another LUN, past the page cache.
reads()
{
	python3 - "$1" elements/busy/data <<-'END'
	import mmap, os, random, statistics, sys, time
	fd = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECT)
	buf = mmap.mmap(-1, 4096)
	size = os.fstat(fd).st_size
	random.seed(1)
	times = []
	for i in range(int(sys.argv[1])):
	    at = random.randrange(size // 4096) * 4096
	    began = time.monotonic_ns()
	    assert os.preadv(fd, [buf], at) == 4096
	    times.append(time.monotonic_ns() - began)
	print(int(statistics.mean(times) // 1000))
	END
}

# beside PRIORITY: the same while a copy of that priority runs.
beside()
{
	local us
	[ "$1" != none ] || { reads 400; return; }
	copy "$1" db0
	wait_until 10 has_begun "$1"
	us=$(reads 400)
	assert_eq Unsynchronized "$(cat "groups/$1/CopyState")" "the copy beside the reads" >&2
	drop "$1"
	echo "$us"
}

# Least of a few rounds: the machine has other things to do.
none=1000000000
low=$none
high=$none
for ((round = 0; round < 3; round++)); do
	for p in none low high; do
		us=$(beside $p)
		[ "$us" -ge "${!p}" ] || declare $p="$us"
	done
done
note "a read of a user: $none us, beside Low $low us, beside High $high us"
[ $((low - none)) -lt $((high - low)) ] || fail "Low is nearer to High than to none"
cd /
stop_lunfs
