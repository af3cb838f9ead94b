#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# lunfs-spec(5), which conf/spec-man makes of the code's tables: it has every parameter,
# value, property and return code that the sources name, each once, and no other; a text
# that lacks one, or what a property does, makes no page; and there is no mistake in its
# markup.
set -u
export LC_ALL=C

top=${top_srcdir:-$(dirname "$0")/..}
build=${top_builddir:-$top}
page=$build/conf/lunfs-spec.5
text=$top/conf/lunfs-spec.5.in
make_page=$build/conf/spec-man
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
failed=0

for file in "$page" "$make_page"; do
	[ -e "$file" ] || { echo "$file is not built"; exit 1; }
done
"$make_page" < "$text" > "$tmp/page" || { echo "spec-man: exit code $?"; exit 1; }
cmp "$tmp/page" "$page" || { echo "lunfs-spec.5 is older than its tables: make"; exit 1; }

# same WHAT: the lists $tmp/man and $tmp/code.
same()
{
	sort -o "$tmp/man" "$tmp/man"
	sort -o "$tmp/code" "$tmp/code"
	if [ ! -s "$tmp/code" ]; then
		echo "$1: the sources' list is empty"
		failed=1
	elif ! diff -u --label lunfs-spec.5 --label "the sources" "$tmp/man" "$tmp/code"; then
		echo "$1: lunfs-spec(5) and the sources differ"
		failed=1
	fi
}

# in_section TITLE: the lines of a .SH or .SS.
in_section()
{
	awk -v title="$1" '
		/^\.S[HS] / { t = $0; sub(/^\.S[HS] /, "", t); gsub(/"/, "", t); on = t == title; next }
		on' "$page"
}

tags() { grep -A 1 '^\.TP' | sed -n 's/^\.B "*\([^"]*\)"*$/\1/p'; }

# rows FILE MACRO: the lines of an X-macro's definition.
rows()
{
	awk -v name="$2" '
		$0 ~ "^#define " name "\\(X\\)" { on = 1 }
		on { print }
		on && !/\\$/ { exit }' "$top/$1"
}

rows conf/spec.c PARAMETERS | sed -n 's/^\tX(\([A-Za-z]*\),.*/\1/p' > "$tmp/code"
in_section PARAMETERS | tags > "$tmp/man"
same PARAMETERS

rows conf/setting.c PROPERTIES | sed -n 's/^\tX(\([A-Za-z]*\),.*/\1/p' > "$tmp/code"
in_section '[ReplicationSettingData]' | tags > "$tmp/man"
same '[ReplicationSettingData]'

sed -n '/ setting_goal_names\[\] = {/,/;/s/"\([A-Za-z]*\)"/\n@\1\n/gp' "$top/conf/setting.c" |
	sed -n 's/^@//p' > "$tmp/code"
in_section '[TargetSettingGoal]' | tags > "$tmp/man"
same '[TargetSettingGoal]'

# What of a property is carried out, and what leaving it out means.
for section in '[ReplicationSettingData]' '[TargetSettingGoal]'; do
	in_section "$section" | grep -A 4 '^\.B ReadOnly$' |
		grep -q '^Supported: SyncedElement; other values are 1 (Not Supported)\.$' ||
		{ echo "$section: ReadOnly is not said to be SyncedElement"; failed=1; }
done
in_section '[ReplicationSettingData]' | grep -A 8 '^\.B CopyPriority$' |
	grep -q '^Left out: Same\.$' || { echo "CopyPriority left out is not Same"; failed=1; }

# values PARAMETER MACRO: "number name" of each, in the parameter's own paragraph.
values()
{
	rows conf/cim.h "$2" | sed -n 's/.*, \([0-9]*\), "\([^"]*\)").*/\1 \2/p' > "$tmp/code"
	in_section PARAMETERS | awk -v name="$1" '
		/^\.B [A-Za-z]*$/ && after { on = $2 == name }
		{ after = /^\.TP/ }
		on' | awk -F '\t' '/^[0-9]+\t/ && $2 !~ /^\(/ { print $1, $2 }' > "$tmp/man"
	same "$1"
}
values SyncType CIM_SYNC_TYPE
values Mode CIM_MODE
values Consistency CIM_CONSISTENCY
values WaitForCopyState CIM_COPY_STATE

# What is answered to some of them.
has() { in_section PARAMETERS | grep -qP "$1" || { echo "no line \"$1\""; failed=1; }; }
has '^8\tClone\tsupported$'
has '^9\tTokenizedClone\t1 Not Supported$'
has '^0\\-5\t\(reserved\)\t5 Invalid Parameter$'
has '^10\\-32767\t\(reserved\)\t5 Invalid Parameter$'
has '^32768\\-65535\t\(vendor\)\t1 Not Supported$'
has '^5\tBroken\t5 Invalid Parameter$'

# The codes, with their names and errnos.
sed -n 's/^\t{ CIM_RETURN_[A-Z_]*, \([A-Z0-9]*\), "\(.*\)" }.*/\1 \2/p' "$top/conf/outcome.c" |
	grep -vE "Invalid State|Timeout Parameter|Busy" | awk '
		{ error = $1; $1 = ""; if (error == "0") error = "-"; print error $0 }' > "$tmp/code"
in_section "RETURN VALUE" | awk '
	/^\.B "/ { name = $0; sub(/^\.B "[0-9]+ /, "", name); sub(/"$/, "", name)
		gsub(/\\-/, "-", name); after = 1; next }
	after { after = 0; gsub(/[.,]/, "")
		if ($0 ~ /^The write succeeds/) print "- " name
		else for (i = 1; i <= NF; i++) print $i, name }' > "$tmp/man"
same "RETURN VALUE"

# A text without one of them, with one twice, or with an unknown one makes no page.
for change in '/^@parameter Mode@/d' '/^@values Mode@/d' '/^@code 3@/d' \
	's/^@code 3@/@code 4@\n@code 4@/' 's/^@code 3@/@code 7@/' \
	's/^@parameter Mode@/@parameter Node@/' 's/^@parameter Mode@/&\n&/' \
	's/^@values Mode@/@values SourceGroup@/' 's/^@goal ReadOnly@/@gaol ReadOnly@/' \
	'/^@property Pairing@/d' '/^@goal ReadOnly@/d' 's/^@property Pairing@/@property Paring@/' \
	's/^@property ReadOnly@/&\n.B x\n&/' 's/^@goal ReadOnly@/@goal Pairing@\n.B x\n&/' \
	'/^@property Multihop@/,/^@/{/^@/!d}'; do
	sed "$change" "$text" > "$tmp/changed"
	cmp -s "$tmp/changed" "$text" && { echo "$change changes nothing"; failed=1; }
	if "$make_page" < "$tmp/changed" > /dev/null 2> "$tmp/error"; then
		echo "a page is made in spite of $change"
		failed=1
	fi
	grep -q '^spec-man: line [0-9]*: ' "$tmp/error" || { cat "$tmp/error"; failed=1; }
done

if command -v groff > /dev/null; then
	groff -ww -man -Tutf8 "$page" 2> "$tmp/warnings" > "$tmp/shown"
	[ ! -s "$tmp/warnings" ] || { cat "$tmp/warnings"; failed=1; }
	! grep -q '@' "$tmp/shown" || { grep '@' "$tmp/shown"; failed=1; }
fi
exit "$failed"
