#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# lunfs(8) has the options of lunfs --help and the files of the tree's tables,
# all of them and no others.
set -u
export LC_ALL=C

top=${top_srcdir:-$(dirname "$0")/..}
lunfs=${LUNFS:-${top_builddir:-$top}/lunfs}
man=$top/fs/lunfs.8
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
failed=0

# same WHAT: the lists $tmp/man and $tmp/code.
same()
{
	sort -o "$tmp/man" "$tmp/man"
	sort -o "$tmp/code" "$tmp/code"
	if [ ! -s "$tmp/code" ]; then
		echo "$1: the code's list is empty"
		failed=1
	elif ! diff -u --label "fs/lunfs.8" --label "the code" "$tmp/man" "$tmp/code"; then
		echo "$1: lunfs(8) and the code differ"
		failed=1
	fi
}

# in_section SH-OR-SS TITLE: its lines.
in_section()
{
	awk -v head="$1" -v title="$2" '
		/^\.S[HS] / {
			t = $0
			sub(/^\.S[HS] /, "", t)
			gsub(/"/, "", t)
			if ($1 == ".SH" || head == ".SS")
				on = $1 == head && t == title
			next
		}
		on' "$man"
}

if [ -x "$lunfs" ]; then
	"$lunfs" --help > "$tmp/help" || { echo "lunfs --help: exit code $?"; exit 1; }
	sed -n 's/^ \{2,6\}\(-.*\)/\1/p' "$tmp/help" | sed 's/   *[^ ].*//; s/  *[A-Z].*//; s/=[A-Z]*//' |
		tr -d ' ' | tr ',' '\n' > "$tmp/code"
	in_section .SH OPTIONS | grep -A 1 '^\.TP' | grep '^\.B' |
		sed 's/\\f[A-Z]//g; s/"[^"]*"//g; s/\\-/-/g; s/^\.B[A-Z]* *//; s/= *[A-Z]*//' |
		tr -s ' ' '\n' | grep '^-' > "$tmp/man"
	same OPTIONS
	for page in $(sed -n 's/^see //p' "$tmp/help" | tr -d ,); do
		[ "$page" = "lunfs(8)" ] && continue
		page=${page%(*}
		in_section .SH "SEE ALSO" | grep -q "^\.BR $page " ||
			{ echo "SEE ALSO has no $page"; failed=1; }
	done
else
	echo "$lunfs is not built: its options are not looked at"
fi

# table FILE NAME: "name mode" of each row of an X-macro table.
table()
{
	awk -v name="$2" '
		$0 ~ "^#define " name "\\(X\\)" { on = 1 }
		on && match($0, /X\([A-Z_]+, "[^"]*", [A-Z]+, [rw]+\)/) {
			split(substr($0, RSTART + 2, RLENGTH - 3), f, /, */)
			gsub(/"/, "", f[2])
			mode = f[3] == "LINK" ? "link" : f[4]
			if (f[3] == "NODE" && f[2] != "data")
				mode = "dir"
			if (f[2] != "")
				print f[2], mode
		}
		on && !/\\$/ { exit }' "$top/$1"
}

# tree TITLE FILE TABLE
tree()
{
	table "$2" "$3" > "$tmp/code"
	in_section .SS "$1" | awk '
		after && match($0, / "? *\([a-z]+\)"?$/) {
			mode = substr($0, RSTART)
			names = substr($0, 1, RSTART - 1)
			gsub(/[^a-z]/, "", mode)
			sub(/^\.BR /, "", names)
			gsub(/"/, "", names)
			n = split(names, f, " ")
			for (i = 1; i <= n; i++)
				print f[i], mode
		}
		{ after = /^\.TP/ }' > "$tmp/man"
	same "$1"
}

tree Top fs/node.h TOP_FILES
tree elements/NAME/ engine/props.h ELEMENT_FILES
tree groups/NAME/ engine/props.h GROUP_FILES
tree groups/NAME/pairs/N/ engine/props.h PAIR_FILES
tree jobs/N/ engine/props.h JOB_FILES
tree pools/NAME/ engine/props.h POOL_FILES
tree capabilities/ engine/props.h CAPABILITY_FILES

# The page can be formatted without a complaint.
if type -P man > /dev/null && type -P groff > /dev/null; then
	warnings=$(MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$man" 2>&1 > /dev/null)
	[ -z "$warnings" ] || { echo "$warnings"; failed=1; }
fi
exit "$failed"
