# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What the benchmarks share, on top of tests/lib.sh.

# make check's settings that find faults cost time: not here.
unset MALLOC_PERTURB_ MALLOC_CHECK_ LIBISCSI_CACHE_ALLOCATIONS

# shellcheck source=../lib.sh
. "${top_srcdir:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}/tests/lib.sh"

# fast_target: tgtd allocates a buffer a request.  Those of over 128 KiB are mapped and
# unmapped by the kernel each time, until one that is larger has been freed, and where many
# are, they come and go with the heap.  So its speed depends on what was asked of it before,
# by a factor of up to 2.5.  With this, buffers stay, from the beginning.
fast_target() { tgtd_env=(MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=268435456); }

now() { date +%s.%N; }
since() { echo "$(now) - $1" | bc; }
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
ratio() { echo "scale=2; $1 / $2" | bc | sed 's/^\./0./'; }

# cpu_of PID: seconds of CPU time so far.
cpu_of() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$1/stat"; }

# The daemon's peak memory.
daemon_peak_kib() { awk '/VmHWM/ { print $2 }' "/proc/$lunfs_pid/status"; }
forget_peak() { echo 5 > "/proc/$lunfs_pid/clear_refs"; }

# The machine, for the head of a table.
machine()
{
	echo "$(date -u +%Y-%m-%d), $(nproc) x $(sed -n 's/model name.*: //p' /proc/cpuinfo | head -n 1), kernel $(uname -r), $(qemu-img --version | head -n 1)"
}

# elements LUN...: their sections of the configuration.
elements()
{
	local lun
	for lun in "$@"; do
		printf '[element lun%s]\nurl = %s\naccess = exclusive\n' "$lun" "$(lun_url 1 "$lun")"
	done
}

# start LUN...: LunFS over them, and a group of all.
start()
{
	elements "$@" | write_conf
	start_lunfs
	mkdir -p "$MNT/groups/all"
	printf 'lun%s ' "$@" > "$MNT/groups/all/members"
}
