#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Snapshots and clones of a group that is written all the time: each image holds
# what its source had at the instant, whoever reads, writes, copies or is deleted
# meanwhile.  Repeat one with LUNFS_TEST_SEED.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

SEED=${LUNFS_TEST_SEED:-$RANDOM}
note "seed $SEED"
RANDOM=$SEED
SIZE=$((6 * 1048576 + 5 * 512))
start_tgtd
add_target 1
for lun in 1 2; do
	fill_random "$(lun_file 1 $lun)" $SIZE $lun
	add_lun 1 $lun $SIZE
done
start_proxy slow
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 1 2 "${proxy_port[slow]}")
	access = exclusive
END
start_lunfs
cd "$MNT"
mkdir groups/prod
echo "db0 log0" > groups/prod/members

# Two writers of random pieces of both elements.  A writer stands still between two
# writes while $T/hold is there, and says so.
cat > "$T/writer.py" <<'END'
import mmap, os, random, sys, time
n, seed, T = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
r = random.Random(seed * 10 + n)
fds = []
for e in "db0", "log0":
    fds.append(os.open("elements/%s/data" % e, os.O_RDWR))
    fds.append(os.open("elements/%s/data" % e, os.O_RDWR | os.O_DIRECT))
size = os.fstat(fds[0]).st_size
while not os.path.exists(T + "/end"):
    if os.path.exists(T + "/hold"):
        for fd in fds:
            os.fsync(fd)
        open("%s/holds-%d" % (T, n), "w").close()
        while os.path.exists(T + "/hold"):
            time.sleep(.002)
        os.unlink("%s/holds-%d" % (T, n))
    i = r.randrange(4)
    length = r.choice([1, 512, 4096, 5000, 65536, 131072, 300000])
    offset = r.randrange(size - length)
    if i % 2:
        length = max(4096, length // 4096 * 4096)
        offset = min(offset, size - length) // 4096 * 4096
        m = mmap.mmap(-1, length)
        m[:] = r.randbytes(length)
        if r.random() < .1:
            os.system("fallocate -p -o %d -l %d elements/%s/data" % (offset, length, ("db0", "log0")[i // 2]))
        else:
            assert os.pwritev(fds[i], [m], offset) == length
    else:
        assert os.pwrite(fds[i], r.randbytes(length), offset) == length
    if r.random() < .02:
        os.fsync(fds[i])
    # One more for the counter.
    with open("%s/writes-%d" % (T, n), "a") as f:
        f.write(".")
for fd in fds:
    os.fsync(fd)
END
for n in 1 2; do
	: > "$T/writes-$n"
	run_in_background python3 "$T/writer.py" $n "$SEED" "$T"
	writers[n]=$background_pid
done

written()
{
	cat "$T"/writes-* | wc -c
}

# more_writes N: N more than there are now.
more_writes()
{
	local until=$(($(written) + $1))
	wait_until 30 written_at_least $until
}

written_at_least()
{
	ended "${writers[1]}" && fail "a writer ended"
	ended "${writers[2]}" && fail "a writer ended"
	[ "$(written)" -ge "$1" ]
}

hold()
{
	: > "$T/hold"
	wait_until 20 test -e "$T/holds-1"
	wait_until 20 test -e "$T/holds-2"
}

go_on()
{
	rm "$T/hold"
	wait_until 20 gone "$T/holds-1"
	wait_until 20 gone "$T/holds-2"
}

# replicate TYPE NAME...: instants while nobody writes, with a copy of what is there.
replicate()
{
	local type=$1 name
	shift
	hold
	for name in "$@"; do
		mkdir "groups/$name" "$T/$name"
		cp "$(lun_file 1 1)" "$T/$name/1"
		cp "$(lun_file 1 2)" "$T/$name/2"
		echo "SourceGroup=prod SyncType=$type" > "groups/$name/spec"
	done
	go_on
}

# is_right NAME: its images hold what they have to, through the page cache and not.
is_right()
{
	local i
	for i in 1 2; do
		cmp "groups/$1/images/$1_$i" "$T/$1/$i" || fail "$1_$i is not what it was at its instant"
		dd if="groups/$1/images/$1_$i" bs=256K iflag=direct status=none | cmp - "$T/$1/$i" ||
			fail "$1_$i, read directly, is not what it was at its instant"
	done
}

drop()
{
	echo ReturnToResourcePool > "groups/$1/control"
	rmdir "groups/$1"
}

more_writes 20
note "snapshots, one after another, read while their source is written"
for s in a b c d; do
	replicate Snapshot $s
	assert_eq Synchronized "$(cat groups/$s/CopyState)"
	more_writes 15
	is_right $s
done

note "ten clones at once, slowly, of what is written meanwhile"
arm slow slow bytes_per_second=6000000
clones="c0 c1 c2 c3 c4 c5 c6 c7 c8 c9"
# shellcheck disable=SC2086
replicate Clone $clones
assert_eq "" "$(cat groups/c9/WhenSynchronized)" "c9: WhenSynchronized"
more_writes 15
is_right a
is_right c1
note "images are written meanwhile: theirs alone"
python3 - "$T" "$SEED" b_1 b/1 c2_2 c2/2 d_2 d/2 <<'END'
import os, random, sys
T, seed = sys.argv[1], int(sys.argv[2])
r = random.Random(seed)
for name, copy in zip(sys.argv[3::2], sys.argv[4::2]):
    image = os.open("groups/%s/images/%s" % (name.split("_")[0], name), os.O_RDWR)
    copy = os.open(T + "/" + copy, os.O_RDWR)
    size = os.fstat(image).st_size
    for i in range(25):
        length = r.choice([1, 700, 4096, 70000, 200000])
        offset = r.randrange(size - length)
        data = r.randbytes(length)
        assert os.pwrite(image, data, offset) == length
        assert os.pwrite(copy, data, offset) == length
    os.fsync(image)
    got = os.pread(image, size, 0)
END
for s in a b c d c2 c3; do
	is_right $s
done
disarm slow slow

note "deleted in any order while others need what they hold"
fill_random "$T/order" 4K "$SEED"
order=$(shuf -e a b c d --random-source="$T/order")
for s in $order; do
	drop "$s"
	order=${order/$s/}
	for other in $order; do
		is_right "$other"
	done
	more_writes 5
done
for c in $clones; do
	assert_eq Synchronized "$(timeout 30 cat groups/$c/wait/Synchronized)" $c
	is_right $c
done
: > "$T/end"
wait_until 20 ended "${writers[1]}"
wait_until 20 ended "${writers[2]}"
no_points()
{
	[ -z "$(find "$POOL" -name 'p*' -type f)" ]
}
wait_until 20 no_points
cmp elements/db0/data "$(lun_file 1 1)"
cmp elements/log0/data "$(lun_file 1 2)"
note "$(written) writes; no store is left when nobody needs it"
cd /
stop_lunfs
