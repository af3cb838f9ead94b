#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Writes through elements/<E>/data and images on a real target: every alignment and
# length, by read and write, O_DIRECT and shared mappings; holes; the end; what stat
# says.  What was fsynced is in the target's file.  Repeat one with LUNFS_TEST_SEED.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3 fallocate truncate
AIO=$top_builddir/tests/aio-write
[ -x "$AIO" ] || skip "$AIO is not built"

SEED=${LUNFS_TEST_SEED:-$RANDOM}
note "seed $SEED"
ODD=$((9 * 1048576 + 3 * 512)) # no whole number of pages or chunks
start_tgtd
add_target 1
fill_random "$(lun_file 1 1)" 16M 1
add_lun 1 1 16M
fill_random "$(lun_file 1 2)" 16M 2
add_lun 1 2 16M thin
fill_random "$(lun_file 1 3)" $ODD 3
add_lun 1 3 $ODD
fill_random "$(lun_file 1 4)" 4M 4
add_lun 1 4 4M
fill_random "$T/file0" $ODD 5
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element thin0]
	url = $(lun_url 1 2)
	access = exclusive
	[element odd0]
	url = $(lun_url 1 3)
	access = exclusive
	[element shared0]
	url = $(lun_url 1 4)
	[element file0]
	url = file://$T/file0
	access = exclusive
END
start_lunfs
cd "$MNT"
for e in db0 thin0 odd0 shared0 file0; do
	wait_until 10 file_has elements/$e/OperationalStatus OK
done
for e in db0 odd0; do
	for type in Clone Snapshot; do
		mkdir groups/$e-$type
		echo "SourceElement=$e SyncType=$type" > groups/$e-$type/spec
	done
done
export SEED T

cat > "$T/common.py" <<'END'
import ctypes, errno, mmap, os, random, sys, threading, time
SEED, T = int(os.environ["SEED"]), os.environ["T"]

def data(element):
    return "elements/%s/data" % element

def fails(number, f, *args):
    try:
        result = f(*args)
    except OSError as e:
        assert e.errno == number, (e, errno.errorcode[number])
    else:
        raise AssertionError("succeeded: %r -> %r" % (args, result))

def content(path):
    """What the bytes are without this host's page cache: O_DIRECT."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    size, out = os.fstat(fd).st_size, b""
    m = mmap.mmap(-1, 1 << 20)
    while len(out) < size:
        n = os.preadv(fd, [m], len(out))
        assert n > 0
        out += m[:n]
    os.close(fd)
    return out

def same(got, want, what):
    if got != want:
        bad = [i for i in range(min(len(got), len(want))) if got[i] != want[i]]
        raise AssertionError("%s: %d and %d bytes, %d differ, from %s to %s" %
                             (what, len(got), len(want), len(bad), bad[:1], bad[-1:]))
END

note "every alignment and length: written, read back, and in the target's file"
cat > "$T/align.py" <<'END'
from common import *
r = random.Random(SEED)
EDGES = [0, 1, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 1048575, 1048576, 1048577]

def place(size, unit):
    while True:
        offset = r.choice(EDGES) * r.randrange(1, 4) if r.random() < .5 else r.randrange(size)
        length = r.choice(EDGES[1:]) if r.random() < .6 else r.randrange(1, 200000)
        offset, length = offset // unit * unit, (length + unit - 1) // unit * unit
        if r.random() < .1:
            offset = (size - length) // unit * unit
        if 0 <= offset and offset + length <= size:
            return offset, length

def work(path, backing, rounds):
    buffered = os.open(path, os.O_RDWR)
    direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    sync = os.open(path, os.O_RDWR | os.O_DSYNC)
    size = os.fstat(buffered).st_size
    want = bytearray(content(path))
    shared = mmap.mmap(buffered, size)
    for i in range(rounds):
        how = r.choice(["write", "write", "direct", "mmap", "dsync", "punch", "zero"])
        offset, length = place(size, 4096 if how == "direct" else 1)
        new = r.randbytes(length)
        if how == "direct":
            m = mmap.mmap(-1, length)
            m[:] = new
            n = os.pwritev(direct, [m], offset)
        elif how == "mmap":
            shared[offset:offset + length] = new
            n = length
        elif how in ("punch", "zero"):
            mode = 3 if how == "punch" else 16 | r.choice([0, 1])
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.fallocate(buffered, mode, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
                raise OSError(ctypes.get_errno(), "fallocate %s %d %d" % (how, offset, length))
            new, n = bytes(length), length
        else:
            n = os.pwrite(sync if how == "dsync" else buffered, new, offset)
        assert n == length, (how, offset, length, n)
        want[offset:offset + length] = new
        a = max(0, offset - r.randrange(5000))
        got = os.pread(buffered, length + 10000, a)
        same(got, bytes(want[a:a + length + 10000]), "%s: round %d %s %d+%d" % (path, i, how, offset, length))
        if r.random() < .1:
            a, length = place(size, 4096)
            m = mmap.mmap(-1, length)
            n = os.preadv(direct, [m], a)
            same(m[:n], bytes(want[a:a + n]), "%s: round %d direct read %d" % (path, i, a))
    os.fsync(buffered)
    if backing:
        with open(backing, "rb") as f:
            same(f.read(), bytes(want), "the file behind " + path)
    same(content(path), bytes(want), path)
    os.posix_fadvise(buffered, 0, 0, os.POSIX_FADV_DONTNEED)
    same(os.pread(buffered, size, 0), bytes(want), path + " read again")

rounds = int(sys.argv[1])
work(data("db0"), T + "/lun-1-1", rounds)
work(data("thin0"), T + "/lun-1-2", rounds)
work(data("odd0"), T + "/lun-1-3", rounds)
work(data("file0"), T + "/file0", rounds)
for e in "db0", "odd0":
    for t in "Clone", "Snapshot":
        work("groups/%s-%s/images/%s-%s_1" % (e, t, e, t), None, rounds)
END
python3 "$T/align.py" 60

note "writes by many at once, without waiting: each is there whole"
PAGES=200
"$AIO" elements/db0/data $PAGES 0 dsync > "$T/aio.out"
grep -qx "written $PAGES" "$T/aio.out" || fail "aio-write: $(cat "$T/aio.out")"
for ((i = 0; i < PAGES; i++)); do
	printf "%4096s" "" | tr ' ' "\\$(printf %o "$i")"
done | cmp -n $((PAGES * 4096)) - "$(lun_file 1 1)"

note "overlapping writes at once: in the end one of them, no mixture"
python3 - elements/db0/data "$(lun_file 1 1)" <<END
import sys; sys.path.insert(0, "$T")
from common import *
path, backing = sys.argv[1:]
r = random.Random(SEED)
fd = os.open(path, os.O_RDWR | os.O_DIRECT)
PLACE, LENGTH = 1 << 20, 256 << 10
def writer(n):
    m = mmap.mmap(-1, LENGTH)
    m[:] = bytes([n]) * LENGTH
    for _ in range(15):
        assert os.pwritev(fd, [m], PLACE) == LENGTH
    os.fsync(fd)
threads = [threading.Thread(target=writer, args=(n,)) for n in range(1, 9)]
[t.start() for t in threads]
[t.join() for t in threads]
with open(backing, "rb") as f:
    f.seek(PLACE)
    got = f.read(LENGTH)
assert 1 <= got[0] <= 8 and got == got[:1] * LENGTH, set(got)
END

note "holes: a thin LUN gives space back, a thick one has zeros"
used=$(stat -c %b "$(lun_file 1 2)")
fallocate -p -o 1M -l 8M elements/thin0/data
after=$(stat -c %b "$(lun_file 1 2)")
[ "$after" -le $((used - 8 * 1024)) ] || fail "the thin LUN has $after blocks after a punch, $used before"
cmp -n $((8 << 20)) /dev/zero "$(lun_file 1 2)" 0 $((1 << 20))
head -c 4M /dev/urandom | dd of=elements/db0/data bs=1M seek=4 conv=notrunc,fsync status=none
fallocate -p -o 4M -l 1M elements/db0/data
fallocate -z -o 6M -l 1M elements/db0/data
for at in 4 6; do
	cmp -n 1048576 /dev/zero "$(lun_file 1 1)" 0 $((at << 20))
	cmp -n 1048576 elements/db0/data /dev/zero $((at << 20)) 0
done
python3 - <<END
import sys; sys.path.insert(0, "$T")
from common import *
M = 1 << 20
fd = os.open(data("thin0"), os.O_RDWR)
os.pwrite(fd, b"x" * 16 * M, 0)
os.fsync(fd)
assert os.lseek(fd, 0, os.SEEK_HOLE) == 16 * M
os.system("fallocate -p -o %d -l %d %s" % (2 * M, 3 * M, data("thin0")))
os.system("fallocate -p -o %d -l %d %s" % (14 * M, 2 * M, data("thin0")))
seen = []
for at in 0, 2 * M - 1, 2 * M, 3 * M, 5 * M, 6 * M, 14 * M, 15 * M + 7:
    hole = os.lseek(fd, at, os.SEEK_HOLE)
    try:
        there = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as e:
        assert e.errno == errno.ENXIO, e
        there = None
    seen.append((at / M, hole / M, there and there / M))
want = [(0, 2, 0), (2 - 1 / M, 2, 2 - 1 / M), (2, 2, 5), (3, 3, 5), (5, 14, 5), (6, 14, 6),
        (14, 14, None), (15 + 7 / M, 15 + 7 / M, None)]
assert seen == want, seen
fails(errno.ENXIO, os.lseek, fd, 16 * M, os.SEEK_DATA)
fails(errno.ENXIO, os.lseek, fd, 16 * M, os.SEEK_HOLE)
# A block that is covered in part.
os.system("fallocate -p -o %d -l %d %s" % (8 * M + 100, 300, data("thin0")))
os.system("fallocate -p -o %d -l %d %s" % (9 * M + 100, 70000, data("thin0")))
want = b"x" * 100 + bytes(300) + b"x" * 200
assert os.pread(fd, 600, 8 * M) == want
assert os.pread(fd, 70300, 9 * M) == b"x" * 100 + bytes(70000) + b"x" * 200
END

note "the end, truncate, O_TRUNC, a shared element"
python3 - <<END
import sys; sys.path.insert(0, "$T")
from common import *
for path in data("odd0"), data("file0"), "groups/odd0-Clone/images/odd0-Clone_1":
    fd = os.open(path, os.O_RDWR)
    size = os.fstat(fd).st_size
    assert size == $ODD, size
    before = os.pread(fd, 4096, size - 4096)
    assert os.pwrite(fd, b"y" * 100, size - 100) == 100
    fails(errno.ENOSPC, os.pwrite, fd, b"z", size)
    fails(errno.ENOSPC, os.pwrite, fd, b"z" * 4096, size + 5000)
    n = os.pwrite(fd, b"w" * 300, size - 200)
    assert n == 200, n
    os.fsync(fd)
    assert os.fstat(fd).st_size == size
    assert os.pread(fd, 9999, size - 400) == before[-400:-200] + b"w" * 200
    os.close(os.open(path, os.O_RDWR | os.O_TRUNC))
    os.truncate(path, 0)
    os.truncate(path, size)
    fails(errno.EINVAL, os.truncate, path, size - 1)
    fails(errno.EINVAL, os.truncate, path, size + 1)
    assert os.fstat(fd).st_size == size
    assert os.pread(fd, 200, size - 200) == b"w" * 200
    a = os.open(path, os.O_WRONLY | os.O_APPEND)
    fails(errno.ENOSPC, os.write, a, b"a")
    os.close(a)
    os.close(fd)
for flags in os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC:
    fails(errno.EROFS, os.open, data("shared0"), flags)
END
cmp elements/shared0/data "$(lun_file 1 4)"
cmp elements/odd0/data "$(lun_file 1 3)"

note "backups of an image that has nothing of its own: its bytes, not a hole"
mkdir groups/fresh "$T/backup"
echo "SourceElement=thin0 SyncType=Snapshot" > groups/fresh/spec
tar -cSf "$T/backup.tar" -C groups/fresh/images fresh_1
tar -xSf "$T/backup.tar" -C "$T/backup"
cmp "$T/backup/fresh_1" "$(lun_file 1 2)"
cp --sparse=auto groups/fresh/images/fresh_1 "$T/backup/copy"
cmp "$T/backup/copy" "$(lun_file 1 2)"
rm "$T/backup.tar" "$T"/backup/*
echo ReturnToResourcePool > groups/fresh/control
rmdir groups/fresh

note "what stat says; the same after a restart"
for image in db0-Clone db0-Snapshot odd0-Clone odd0-Snapshot; do
	assert_eq "$(stat -c %i elements/${image}_1/data)" "$(stat -c %i groups/$image/images/${image}_1)" inode
done
written_at=$(date +%s)
printf x | dd of=elements/db0/data conv=notrunc,fsync status=none
printf x | dd of=groups/db0-Clone/images/db0-Clone_1 conv=notrunc,fsync status=none
# The kernel keeps what stat said for a second.
mtime_is_new()
{
	[ "$(stat -c %Y "$1")" -ge "$written_at" ] && [ "$(stat -c %Y "$1")" -le "$(date +%s)" ]
}
wait_until 5 mtime_is_new elements/db0/data
wait_until 5 mtime_is_new groups/db0-Clone/images/db0-Clone_1
blocks=$(stat -c %b groups/db0-Clone/images/db0-Clone_1)
[ "$blocks" -ge 16000 ] && [ "$blocks" -le 34000 ] || fail "st_blocks of a clone: $blocks"
# What its users wrote, and what is kept of the source.
blocks=$(stat -c %b groups/db0-Snapshot/images/db0-Snapshot_1)
[ "$blocks" -le 68000 ] || fail "st_blocks of a snapshot: $blocks"
# shellcheck disable=SC2012
of_stat()
{
	stat -c '%n %i %s %Y' elements/*/data groups/*/images/*_1 | grep -v shared0
}
settled()
{
	of_stat > "$T/stat.1" && read -rt 1.1 -u "$never_fd" || of_stat > "$T/stat.2"
	cmp "$T/stat.1" "$T/stat.2"
}
wait_until 10 settled
cd /
stop_lunfs
start_lunfs
cd "$MNT"
for e in db0 thin0 odd0 shared0 file0; do
	wait_until 10 file_has elements/$e/OperationalStatus OK
done
of_stat > "$T/stat.2"
diff "$T/stat.1" "$T/stat.2" || fail "stat says something else after a restart"
cmp elements/db0/data "$(lun_file 1 1)"

note "a mapping that is held open sees what a ResyncReplica brings"
wait_until 10 file_has groups/db0-Snapshot/CopyState Skewed
python3 - groups/db0-Snapshot <<END
import sys; sys.path.insert(0, "$T")
from common import *
g = sys.argv[1]
fd = os.open(g + "/images/db0-Snapshot_1", os.O_RDWR)
m = mmap.mmap(fd, 0)
m[0:4] = b"mine"
m.flush()
assert m[0:4] == b"mine"
d = os.open(data("db0"), os.O_RDWR)
os.pwrite(d, b"new bytes", 0)
c = os.open(g + "/control", os.O_WRONLY)
fails(errno.EBUSY, os.write, c, b"ResyncReplica\n")
os.write(c, b"ResyncReplica Force\n")
until = time.monotonic() + 10
while m[0:9] != b"new bytes":
    assert time.monotonic() < until, m[0:9]
assert os.pread(fd, 9, 0) == b"new bytes"
m[0:4] = b"also"
m.flush()
assert os.pread(d, 9, 0) == b"new bytes"
END
cd /
stop_lunfs
