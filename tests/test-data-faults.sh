#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Data while a target does not answer: its requests wait, and end in EIO at
# io_timeout; everything else goes on as if nothing were.  After it they go on.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3

start_tgtd
add_target 1
for lun in 1 2 3; do
	fill_random "$(lun_file 1 $lun)" 8M $lun
	add_lun 1 $lun 8M
done
fill_random "$T/other0" 8M 4
# shellcheck disable=SC2034 # of lib.sh
daemon_conf="io_timeout = 2" # of images too
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	io_timeout = 12
	[element log0]
	url = $(lun_url 1 2)
	access = exclusive
	[element copied0]
	url = $(lun_url 1 3)
	access = exclusive
	[element other0]
	io_timeout = 12
	url = file://$T/other0
	access = exclusive
END
start_lunfs
cd "$MNT"
for e in db0 log0 copied0 other0; do
	wait_until 10 file_has elements/$e/OperationalStatus OK
done
mkdir groups/snap groups/others
echo "SourceElement=copied0 SyncType=Snapshot" > groups/snap/spec
echo "SourceElement=other0 SyncType=Snapshot" > groups/others/spec
export T

cat > "$T/io.py" <<'END'
import errno, mmap, os, sys, threading, time
T = os.environ["T"]

def page(c, n=4096):
    m = mmap.mmap(-1, n)
    m[:] = c * n
    return m

def open_data(e, flags=0):
    return os.open(e if "/" in e else "elements/%s/data" % e, os.O_RDWR | os.O_DIRECT | flags)

def timed(f, *args):
    """(seconds, errno)"""
    start, error = time.monotonic(), 0
    try:
        f(*args)
    except OSError as e:
        error = e.errno
    return time.monotonic() - start, error
END

# looks: what never waits for a target does not.
looks()
{
	local from to what
	for what in "ls -lR ." "cat status elements/db0/sessions elements/log0/error" "df ." \
		"stat elements/db0/data groups/snap/images/snap_1" "ls elements/log0"; do
		from=$(date +%s%3N)
		# shellcheck disable=SC2086
		timeout 10 $what > "$T/look.out" || fail "$what: $?"
		to=$(($(date +%s%3N) - from))
		# The tree is large enough for a slow host.
		[ $to -le 3000 ] || fail "$what took $to ms while a target hangs"
	done
}

note "a frozen target: its requests wait, others and looks do not"
freeze_tgtd
python3 - > "$T/waiting.out" 2>&1 <<'END' &
import os
exec(open(os.environ["T"] + "/io.py").read())
fd = open_data("db0")
buffered = os.open("elements/db0/data", os.O_RDWR)
results = {}
def run(name, f, *args):
    results[name] = timed(f, *args)
def flush():
    os.pwrite(buffered, b"buffered", 3 << 20)
    os.fsync(buffered)
def many(n):
    for k in range(5):
        assert os.pwritev(fd, [page(bytes([n]))], n * 65536 + k * 4096) == 4096
work = [("write %d" % n, many, n) for n in range(1, 20)]
work += [("read", os.preadv, fd, [page(b"?")], 0), ("fsync", flush)]
threads = [threading.Thread(target=run, args=w) for w in work]
[t.start() for t in threads]
open(T + "/submitted", "w").close()
[t.join() for t in threads]
for name, (seconds, error) in sorted(results.items()):
    print(name, "%.1f" % seconds, error)
assert all(error == 0 for _, error in results.values()), results
END
waiting=$!
started_pids+=("$waiting")
wait_until 10 test -e "$T/submitted"
looks
python3 - <<'END'
import os
exec(open(os.environ["T"] + "/io.py").read())
fd = open_data("other0")
start = time.monotonic()
for i in range(500):
    assert os.pwritev(fd, [page(b"o")], i * 4096) == 4096
image = open_data("groups/others/images/others_1")
for i in range(100):
    assert os.pwritev(image, [page(b"i")], i * 4096) == 4096
os.fsync(image)
seconds = time.monotonic() - start
# 600 writes of a file, of which some preserve chunks: a few ms each when busy.
assert seconds < 8, seconds
END
ended "$waiting" && fail "a request did not wait: $(cat "$T/waiting.out")"
note "thawed before io_timeout: all succeed"
thaw_tgtd
wait "$waiting" || fail "$(cat "$T/waiting.out")"
python3 - <<'END'
import os
T = os.environ["T"]
with open(T + "/lun-1-1", "rb") as f:
    for n in range(1, 20):
        f.seek(n * 65536)
        assert f.read(5 * 4096) == bytes([n]) * 5 * 4096, n
    f.seek(3 << 20)
    assert f.read(8) == b"buffered"
END

note "past io_timeout: EIO, and the daemon lives"
wait_until 10 file_has elements/log0/OperationalStatus OK
freeze_tgtd
python3 - <<'END'
import os
exec(open(os.environ["T"] + "/io.py").read())
fd, snap, source = open_data("log0"), open_data("groups/snap/images/snap_1"), open_data("copied0")
buffered = os.open("elements/log0/data", os.O_RDWR)
results = {}
def run(name, f, *args):
    results[name] = timed(f, *args)
def flush():
    os.pwrite(buffered, b"late", 5 << 20)
    os.fsync(buffered)
work = [("write", os.pwritev, fd, [page(b"w")], 0),
        ("read", os.preadv, fd, [page(b"?")], 1 << 20), ("fsync", os.fsync, fd), ("buffered", flush),
        ("snapshot", os.preadv, snap, [page(b"?")], 0), ("preserve", os.pwritev, source, [page(b"p")], 0),
        ("image", os.pwritev, snap, [page(b"j")], 1 << 20)]
threads = [threading.Thread(target=run, args=w) for w in work]
[t.start() for t in threads]
[t.join() for t in threads]
for name, (seconds, error) in sorted(results.items()):
    print("# ", name, "%.1f s" % seconds, errno.errorcode.get(error, error))
    assert error == errno.EIO, (name, error)
    # The kernel sends one change of a file after another, and each has its time.
    assert 1.5 <= seconds <= 10, (name, seconds)
END
looks
ended "$lunfs_pid" && fail "the daemon has ended"
thaw_tgtd

note "thawed: it goes on by itself, in order"
for e in db0 log0 copied0; do
	wait_until 20 file_has elements/$e/OperationalStatus OK
done
python3 - <<'END'
import os
exec(open(os.environ["T"] + "/io.py").read())
for e, lun in ("log0", 2), ("copied0", 3):
    fd = open_data(e)
    until = time.monotonic() + 15
    while timed(os.pwritev, fd, [page(b"a", 16384)], 0)[1]:
        assert time.monotonic() < until, e
    os.pwritev(fd, [page(b"b")], 4096)
    os.fsync(fd)
    with open("%s/lun-1-%d" % (T, lun), "rb") as f:
        assert f.read(16384) == b"a" * 4096 + b"b" * 4096 + b"a" * 8192
END
fill_random "$T/copied0" 8M 3
# What was written to the image late may be there or not; all else is the source's.
cmp -n $((1 << 20)) groups/snap/images/snap_1 "$T/copied0"
cmp groups/snap/images/snap_1 "$T/copied0" $(((1 << 20) + 65536)) $(((1 << 20) + 65536))
assert_match "Synchronized|Skewed" "$(cat groups/snap/CopyState)"
cmp elements/log0/data "$(lun_file 1 2)"
cmp elements/copied0/data "$(lun_file 1 3)"
cd /
stop_lunfs
