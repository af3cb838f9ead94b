#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# data and images as files that are written: sizes, errors, mappings, fsync and
# O_SYNC, fallocate, the page cache, requests in parallel.  Runs on tests/fake-lunfs,
# whose engine notes each data request in $LOG.
LUNFS=${top_builddir:-.}/tests/fake-lunfs
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_root
need_cmd python3 fallocate truncate
AIO=$top_builddir/tests/aio-write
[ -x "$AIO" ] || skip "$AIO is not built"

SIZE=$((3 * 1048576 + 512)) # no whole number of pages
fill_random "$T/db0" 4M 1
truncate -s $SIZE "$T/db0"
fill_random "$T/log0" 1M 2
fill_random "$T/others0" 1M 3
LOG=$T/requests
export LOG SIZE T
export FAKE_ENGINE_LOG=$LOG
write_conf <<-END
	[element db0]
	url = file://$T/db0
	access = exclusive

	[element log0]
	url = file://$T/log0
	access = exclusive

	[element others0]
	url = file://$T/others0
	access = shared

	[element away0]
	url = file://$T/away0
	access = exclusive
END
start_lunfs
cd "$MNT"
mkdir groups/g groups/copy
echo db0 > groups/g/members
echo "SourceGroup=g SyncType=Clone" > groups/copy/spec
CONTROL=groups/g/control
IMAGE=groups/copy/images/copy_1
export IMAGE

# What the Python parts share.
cat > "$T/common.py" <<'END'
import errno, mmap, os, sys, time

SIZE = int(os.environ["SIZE"])
T = os.environ["T"]
DB, LOG0, OTHERS, AWAY = ["elements/%s/data" % e for e in ("db0", "log0", "others0", "away0")]
IMAGE = os.environ["IMAGE"]

def fails(number, f, *args):
    try:
        result = f(*args)
    except OSError as e:
        assert e.errno == number, (e, number)
    else:
        raise AssertionError("succeeded: %r -> %r" % (args, result))

def backing(element):
    with open(T + "/" + element, "rb") as f:
        return f.read()

def requests():
    """What the engine was asked for since the last call, reads and seeks left out."""
    global at
    with open(os.environ["LOG"]) as f:
        f.seek(at)
        text = f.read()
        at = f.tell()
    ops = [line.split()[0] for line in text.splitlines()]
    return [op for op in ops if op not in ("read", "seek")]

def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not within %d s" % seconds
        time.sleep(0.01)

def aligned(data):
    m = mmap.mmap(-1, (len(data) + 4095) & ~4095)
    m[:len(data)] = data
    return memoryview(m)[:len(data)]

def opened(path, flags):
    """Without what the page cache has of it: DB and IMAGE are the same file."""
    fd = os.open(path, flags)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd

at = 0
requests()
END
export PYTHONPATH=$T PYTHONDONTWRITEBYTECODE=1

# ---- opening and sizes ----

python3 - <<'END'
from common import *

whole = backing("db0")
for path in DB, IMAGE:
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == SIZE
    os.ftruncate(fd, 0)
    os.ftruncate(fd, SIZE)
    for other in 1, SIZE - 1, SIZE + 1, 1 << 40:
        fails(errno.EINVAL, os.ftruncate, fd, other)
    os.close(fd)
    os.truncate(path, 0)
    os.truncate(path, SIZE)
    fails(errno.EINVAL, os.truncate, path, 512)
    assert os.stat(path).st_size == SIZE
    assert open(path, "rb").read() == whole
for flags in os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND:
    fails(errno.EROFS, os.open, OTHERS, flags)
# No login yet: the size is shown as 0.
fd = os.open(AWAY, os.O_RDWR | os.O_TRUNC)
os.ftruncate(fd, 0)
fails(errno.EINVAL, os.ftruncate, fd, 4096)
os.close(fd)
assert requests() == []
END
: > "$T/empty"
cp "$T/empty" elements/db0/data # opens with O_TRUNC
assert_eq $SIZE "$(stat -c %s elements/db0/data)" "size after cp of an empty file"
note "truncation: to 0 or the own size nothing, else EINVAL; shared: EROFS"

# ---- writes ----

python3 - <<'END'
from common import *

want = bytearray(backing("db0"))
fd = os.open(DB, os.O_RDWR)
seed = os.urandom(1 << 16)
for offset, n in ((0, 1), (1, 510), (511, 2), (4095, 2), (4096, 4096), (65535, 70000),
                  (12345, 2500000), (SIZE - 512, 512), (SIZE - 1, 1)):
    data = (seed * (n // len(seed) + 1))[:n]
    assert os.pwrite(fd, data, offset) == n, (offset, n)
    want[offset:offset + n] = data
    assert os.pread(fd, n, offset) == data, (offset, n)
    assert backing("db0") == want, (offset, n)
assert open(DB, "rb").read() == want

# The end: what fits, then ENOSPC.
assert os.pwrite(fd, b"x" * 1000, SIZE - 100) == 100
want[-100:] = b"x" * 100
fails(errno.ENOSPC, os.pwrite, fd, b"x", SIZE)
fails(errno.ENOSPC, os.pwrite, fd, b"x", SIZE + 12345)
assert os.lseek(fd, 0, os.SEEK_END) == SIZE
fails(errno.ENOSPC, os.write, fd, b"x")
assert os.fstat(fd).st_size == SIZE
os.close(fd)

# O_DIRECT, aligned and not.
fd = os.open(DB, os.O_RDWR | os.O_DIRECT)
for offset, n in (0, 4096), (1 << 20, 1 << 20), (512, 2 << 20), (SIZE - 512, 512), (SIZE - 3, 3):
    data = (seed[::-1] * (n // len(seed) + 1))[:n]
    assert os.pwritev(fd, [aligned(data)], offset) == n, (offset, n)
    want[offset:offset + n] = data
    got = aligned(bytes(n))
    assert os.preadv(fd, [got], offset) == n
    assert got == data
assert backing("db0") == want
fails(errno.ENOSPC, os.pwritev, fd, [aligned(bytes(4096))], SIZE - 512)
fails(errno.ENOSPC, os.pwritev, fd, [aligned(bytes(4096))], SIZE)
fails(errno.ENOSPC, os.pwritev, fd, [aligned(bytes(2 << 20))], SIZE - (1 << 20))
assert os.fstat(fd).st_size == SIZE
os.close(fd)
with open(DB, "rb") as f:
    f.seek(SIZE)
    assert f.read() == b""

# Appends, wherever the kernel thinks the end is.
requests()
for path in DB, IMAGE, AWAY:
    for flags in 0, os.O_DIRECT:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | flags)
        fails(errno.ENOSPC, os.writev, fd, [aligned(b"x" * 512)])
        fails(errno.ENOSPC, os.pwritev, fd, [aligned(b"x" * 512)], 0)
        os.close(fd)
assert requests() == []
END
note "writes: any offset and length; from the end on, and appended, ENOSPC"

# ---- attributes ----

python3 - <<'END'
from common import *
import subprocess

def after(before, change):
    until(lambda: time.time_ns() // 1000000 > before.st_mtime_ns // 1000000)
    change()
    return os.stat(DB)

def punch():
    subprocess.run(["fallocate", "-p", "-o", "1M", "-l", "1M", DB], check=True)

fd = os.open(DB, os.O_RDWR)
st = os.stat(DB)
for change in (lambda: os.pwrite(fd, b"a", 0), lambda: os.pwrite(fd, b"a" * (1 << 20), 1 << 20)):
    now = after(st, change)
    assert now.st_mtime_ns > st.st_mtime_ns and now.st_ctime_ns == now.st_mtime_ns, (now, st)
    assert now.st_size == SIZE
    st = now
os.fsync(fd) # for the blocks of the file behind it
st = os.stat(DB)
now = after(st, punch)
assert now.st_mtime_ns > st.st_mtime_ns and now.st_blocks <= st.st_blocks - 2048, (now, st)
os.pwrite(fd, b"b" * (1 << 20), 1 << 20)
os.fsync(fd)
assert os.stat(DB).st_blocks >= now.st_blocks + 2048

# The second of the attribute cache does not hide a mapping's write.
st = os.stat(DB)
with mmap.mmap(fd, SIZE) as m:
    m[0] = 99
    now = after(st, m.flush)
    assert now.st_mtime_ns > st.st_mtime_ns
END
note "attributes: times and blocks follow each change at once"

# ---- fsync and O_SYNC ----

python3 - "$AIO" <<'END'
from common import *
import subprocess

def writes(flags, rwf=0):
    fd = os.open(DB, os.O_WRONLY | flags)
    requests()
    assert os.pwritev(fd, [aligned(b"s" * 4096)], 4096, rwf) == 4096
    os.close(fd)
    return requests()

def aio(*args):
    requests()
    subprocess.run([sys.argv[1], DB] + list(args), check=True, stdout=subprocess.DEVNULL)
    return requests()

fd = os.open(DB, os.O_RDWR)
requests()
for sync in os.fsync, os.fdatasync:
    sync(fd)
    assert requests() == ["flush"], sync
os.pwrite(fd, b"x", 0)
assert requests() == ["write"]
os.fsync(os.open(DB, os.O_RDONLY))
assert requests() == ["flush"]
os.fsync(os.open("groups/g/spec", os.O_RDONLY))
os.fsync(os.open("groups/g", os.O_RDONLY))
assert requests() == []

assert writes(0) == ["write"]
assert writes(os.O_DIRECT) == ["write"]
for flags in os.O_SYNC, os.O_DSYNC:
    assert writes(flags) == ["write", "flush"]
    assert writes(flags | os.O_DIRECT)[:2] == ["write", "flush"]
assert writes(0, os.RWF_DSYNC) == ["write", "flush"]
assert writes(os.O_DIRECT, os.RWF_DSYNC)[:2] == ["write", "flush"]

# Where the kernel has no part in it: the write is answered after the flush.
assert aio("3", "0") == ["write"] * 3
assert aio("1", "0", "dsync") == ["write", "flush"]
assert sorted(aio("3", "0", "dsync")) == ["flush"] * 3 + ["write"] * 3
END
note "fsync and fdatasync are a flush; O_SYNC, O_DSYNC and RWF_DSYNC lead to one"

# ---- fallocate ----

python3 - <<'END'
from common import *
import ctypes, subprocess

def fallocate(*args):
    r = subprocess.run(["fallocate"] + [str(a) for a in args] + [path],
                       stderr=subprocess.PIPE)
    return r.stderr.decode().strip().rpartition(": ")[2] if r.returncode else "done"

for path in DB, IMAGE:
    fd = opened(path, os.O_RDWR)
    os.pwrite(fd, b"f" * SIZE, 0)
    want = bytearray(b"f" * SIZE)
    assert os.pread(fd, SIZE, 0) == want # in the page cache
    for args, offset, n in (
            (["-p"], 0, 4096), (["-p"], 5000, 10000), (["-z"], 65536, 1 << 20),
            (["-z", "-n"], 1500000, 12345), (["-z"], SIZE - 1000, 1000),
            (["-p"], 2 << 20, SIZE), (["-z", "-n"], SIZE - 9, 1 << 30)):
        assert fallocate(*args, "-o", offset, "-l", n) == "done", (args, offset, n)
        end = min(SIZE, offset + n)
        want[offset:end] = bytes(end - offset)
        assert os.pread(fd, SIZE, 0) == want, (args, offset, n)
    with open(path, "rb") as f:
        assert f.read() == want
    assert backing("db0") == want

    # Holes are where the engine says.
    file = os.open(T + "/db0", os.O_RDONLY)
    for whence in os.SEEK_DATA, os.SEEK_HOLE:
        for offset in 0, 4096, 4097, 70000, 1 << 20:
            assert os.lseek(fd, offset, whence) == os.lseek(file, offset, whence)
        fails(errno.ENXIO, os.lseek, fd, SIZE, whence)
    assert os.lseek(fd, 65536, os.SEEK_HOLE) == 65536

    requests()
    for args, error in (
            (["-p", "-o", SIZE, "-l", 1], "Invalid argument"),
            (["-z", "-n", "-o", SIZE + 9, "-l", 1], "Invalid argument"),
            (["-z", "-o", SIZE - 1, "-l", 2], "Invalid argument"),
            (["-l", 4096], "Operation not supported"),
            (["-n", "-l", 1 << 30], "keep size mode is unsupported"),
            (["-l", SIZE + 1], "No space left on device")):
        assert fallocate(*args) == error, (args, fallocate(*args))
    assert requests() == []
    assert os.fstat(fd).st_size == SIZE

    # The C library writes instead, and changes nothing by it.
    os.pwrite(fd, b"end", SIZE - 3)
    os.posix_fallocate(fd, 0, SIZE)
    assert os.pread(fd, 3, SIZE - 3) == b"end"
    fails(errno.ENOSPC, os.posix_fallocate, fd, 0, SIZE + 1)
    os.close(fd)

libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(DB, os.O_WRONLY | os.O_DSYNC)
requests()
assert libc.fallocate(fd, 3, ctypes.c_int64(0), ctypes.c_int64(4096)) == 0
assert requests() == ["zero", "flush"]
END
must_fail fallocate -p -o 0 -l 4096 elements/others0/data
note "fallocate: holes and zeros within the size, no promises of space, no growth"

# ---- mappings ----

python3 - <<'END'
from common import *

for path in DB, IMAGE:
    reader = opened(path, os.O_RDONLY)
    fd = os.open(path, os.O_RDWR)
    m = mmap.mmap(fd, SIZE)
    os.close(fd) # the mapping keeps the handle
    requests()
    for offset, data in (0, b"first"), (4090, b"across a page"), (SIZE - 5, b"last!"):
        m[offset:offset + len(data)] = data
    m.flush() # msync(MS_SYNC)
    assert requests()[-1] == "flush"
    file = backing("db0")
    assert len(file) == SIZE and file == m[:]
    assert file[4090:4103] == b"across a page" and file[-5:] == b"last!"
    # fsync of another descriptor, one for reading.
    m[100:105] = b"other"
    os.fsync(reader)
    assert requests()[-2:] == ["write", "flush"]
    assert backing("db0")[100:105] == b"other"
    # munmap writes, too.
    m[200:206] = b"unmaps"
    m.close()
    assert backing("db0")[200:206] == b"unmaps"
    # The mapping and the rest see the same bytes.
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, SIZE) as m:
        os.pwrite(fd, b"by pwrite", 8190)
        assert m[8190:8199] == b"by pwrite"
        m[8190:8199] = b"by memory"
        assert os.pread(fd, 9, 8190) == b"by memory"
    os.close(fd)
    os.close(reader)
assert os.stat(DB).st_size == SIZE
fails(errno.EACCES, lambda: mmap.mmap(os.open(DB, os.O_RDONLY), SIZE))
END
note "mappings: shared ones are written, by msync, fsync and munmap"

# ---- copy_file_range, locks ----

python3 - <<'END'
from common import *
import fcntl, struct

source = os.open(LOG0, os.O_RDONLY)
fd = os.open(DB, os.O_RDWR)
done = 0
while done < 1 << 20:
    done += os.copy_file_range(source, fd, (1 << 20) - done, done, 4096 + done)
assert backing("db0")[4096:4096 + (1 << 20)] == backing("log0")

F_OFD_SETLK = 37

def lock(fd, kind):
    fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))

other = os.open(DB, os.O_RDWR)
lock(fd, fcntl.F_WRLCK)
fails(errno.EAGAIN, lock, other, fcntl.F_WRLCK)
if not os.fork():
    fails(errno.EAGAIN, fcntl.lockf, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os._exit(0)
assert os.wait()[1] == 0
lock(fd, fcntl.F_UNLCK)
lock(other, fcntl.F_WRLCK)
END
note "copy_file_range copies; POSIX and OFD locks are the kernel's"

# ---- the page cache ----

reads()
{
	grep -c "^read $1 " "$LOG" || :
}

cat elements/log0/data elements/others0/data > /dev/null
before=$(reads log0)
others_before=$(reads others0)
cat elements/log0/data elements/others0/data > /dev/null
assert_eq "$before" "$(reads log0)" "reads of an exclusive element"
[ "$(reads others0)" -gt "$others_before" ] || fail "a shared element was kept in the cache"
note "page cache: kept over an open of an exclusive element, not of a shared one"

python3 - <<'END'
from common import *

def change(offset, data):
    """Changes what both DB and IMAGE are, behind their backs."""
    with open(T + "/db0", "r+b", 0) as f:
        f.seek(offset)
        f.write(data)

def tell():
    with open("groups/copy/control", "wb", 0) as f:
        f.write(b"Content\n")

fd = opened(IMAGE, os.O_RDWR)
m = mmap.mmap(fd, SIZE)
for i in range(3):
    old, new = b"old %d" % i, b"new %d" % i
    os.pwrite(fd, old, 12288)
    assert m[12288:12293] == old
    change(12288, new)
    assert m[12288:12293] == old and os.pread(fd, 5, 12288) == old
    tell()
    until(lambda: m[12288:12293] == new)
    assert os.pread(fd, 5, 12288) == new

# A page that the mapping has dirtied is written back first, as a whole.
assert m[24576:24582] != b"engine"
m[20480:20484] = b"mine"
page = m[20480:24576]
change(20480, b"engine")
change(24576, b"engine")
tell()
until(lambda: m[24576:24582] == b"engine")
assert m[20480:24576] == page and backing("db0")[20480:24576] == page
END
note "content that the engine changed: a mapping that is held open shows it"

# ---- requests in parallel ----

n_held()
{
	[ "$(grep -c "^held $1 " "$LOG")" -ge "$2" ]
}

echo "Hold db0" > $CONTROL
run_in_background "$AIO" elements/db0/data 200 > "$T/aio.out" 2>&1
aio=$background_pid
wait_until 20 n_held db0 200
run_in_background dd if="$T/empty" of=elements/db0/data conv=notrunc,fsync status=none
dd=$background_pid
for i in 1 2 3; do
	timeout 5 dd if="$T/log0" of=elements/log0/data bs=64k conv=notrunc,fsync status=none ||
		fail "a write of another element waits"
	timeout 5 dd if=elements/log0/data of=/dev/null iflag=direct bs=64k status=none ||
		fail "a read of another element waits"
done
timeout 5 ls -lR elements > /dev/null || fail "ls waits"
timeout 5 stat elements/db0/data > /dev/null || fail "stat waits"
wait_until 20 file_has "$T/aio.out" "submitted 200"
echo "Release db0" > $CONTROL
wait_until 20 file_has "$T/aio.out" "submitted 200
written 200"
wait_until 20 ended "$aio"
wait_until 20 ended "$dd"
for i in 1 77 199; do
	assert_eq "$(printf ' %02x' $i)" "$(od -An -tx1 -j $((i * 4096 + 9)) -N1 "$T/db0")"
done
note "200 writes that wait: another element's requests are answered"

# ---- handles, and an element that becomes shared ----

python3 - <<'END'
from common import *

def handles():
    return os.getxattr(".", "user.lunfs.handles").decode()

def access(text):
    with open("elements/db0/access", "wb", 0) as f:
        f.write(text)

until(lambda: "db0" not in handles())
fd = os.open(DB, os.O_RDWR)
assert "db0: 1, pid %d" % os.getpid() in handles(), handles()
os.pwrite(fd, b"mine", 0)
access(b"shared\n")
fails(errno.EROFS, os.pwrite, fd, b"not mine", 0)
fails(errno.EROFS, os.open, DB, os.O_RDWR)
assert backing("db0")[:4] == b"mine"
access(b"exclusive\n")
os.pwrite(fd, b"mine again", 0)
assert backing("db0")[:10] == b"mine again"
os.close(fd)
until(lambda: "db0" not in handles())
END
note "handles are counted with their pid; a shared element is not written"

# ---- the end ----

echo "Hold db0" > $CONTROL
before=$(grep -c "^held db0 " "$LOG")
run_in_background "$AIO" elements/db0/data 20 > "$T/aio.out" 2>&1
aio=$background_pid
wait_until 20 n_held db0 $((before + 20))
cd /
stop_lunfs --force
wait_until 20 ended "$aio"
note "writes that wait are answered at the end of the daemon"
