# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What tests share that lose power: after lib.sh,
#
#	. "$top_srcdir/tests/crash.sh"
#	crash_begin "$T/state" "$T/pool"	# their content now is the base
#	"${recorder[@]}" CMD...			# as often as wanted, or
#	crash_start_lunfs			# start_lunfs, under the shim
#	crash_list				# $T/crash.list, $crash_end
#	crash_rebuild 123 --mode random --seed 5	# in $crash_out/state, ...
#	last_mark 123 "ack 0"			# the newest mark "ack 0 N": N
#
# need_crash_tools skips where they are not built or a sanitizer is in the way.

# shellcheck disable=SC2154 # top_builddir
crashplay=$top_builddir/tests/crashplay
crashshim=$top_builddir/tests/libcrashlog.so
crash_log=$T/crash.records
crash_out=$T/crash.out

need_crash_tools()
{
	[ -x "$crashplay" ] && [ -e "$crashshim" ] || skip "tests/crashplay is not built"
	[ "${LUNFS_SANITIZERS:-no}" = no ] || skip "a sanitizer's calls come before the shim's"
}

# crash_begin DIR...: of different last names.
crash_begin()
{
	local d dirs=
	rm -rf "$crash_log" "$T/crash.base" "$crash_out"
	mkdir "$T/crash.base"
	for d; do
		cp -a --sparse=always "$d" "$T/crash.base/"
		dirs+=${dirs:+:}$d
	done
	recorder_env=("CRASHLOG_FILE=$crash_log" "CRASHLOG_DIRS=$dirs" "LD_PRELOAD=$crashshim")
	recorder=(env "${recorder_env[@]}")
}

crash_start_lunfs()
{
	export "${recorder_env[@]}"
	start_lunfs "$@"
	unset CRASHLOG_FILE CRASHLOG_DIRS LD_PRELOAD
}

crash_list()
{
	"$crashplay" "$crash_log" --list > "$T/crash.list"
	crash_end=$(awk '$2 == "end" { print $1 }' "$T/crash.list")
}

# crash_mark TEXT: a word of the test's, after all that it knows to have happened.
crash_mark()
{
	"$crashplay" "$crash_log" --mark "$1"
}

# first_mark TEXT: the number of the record, 0 if there is none.
first_mark()
{
	awk -v text="$1" '$2 == "mark" && substr($0, length($1) + 7) == text { n = $1; exit }
		END { print n + 0 }' "$T/crash.list"
}

# last_mark N TEXT: the last word of the newest mark "TEXT ..." up to record N, or 0.
last_mark()
{
	awk -v n="$1" -v text="$2 " '$1 > n { exit }
		$2 == "mark" && index(substr($0, length($1) + 7), text) == 1 { v = $NF }
		END { print v + 0 }' "$T/crash.list"
}

# crash_rebuild N [crashplay options]
crash_rebuild()
{
	local n=$1
	shift
	"$crashplay" "$crash_log" --at "$n" --from "$T/crash.base" --to "$crash_out" "$@"
}

# crash_points COUNT [FROM]: record numbers, chosen with $RANDOM: half of them just
# behind or before a sync, where the order of syncs shows, the others anywhere.
crash_points()
{
	local syncs i n from=${2:-1}
	mapfile -t syncs < <(awk -v from="$from" '$1 > from && $2 == "sync" { print $1 }' \
		"$T/crash.list")
	for ((i = 0; i < $1; i++)); do
		if ((i % 2 && ${#syncs[@]})); then
			n=$((syncs[(RANDOM << 15 | RANDOM) % ${#syncs[@]}] - RANDOM % 2))
		else
			n=$((from + (RANDOM << 15 | RANDOM) % (crash_end - from + 1)))
		fi
		echo "$n"
	done
}
