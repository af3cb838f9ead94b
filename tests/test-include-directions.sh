#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Who may include what: fs -> engine -> block back ends, conf is a leaf that
# both read.  Each rule is first tried on a file that breaks it.
set -u
export LC_ALL=C

top=${top_srcdir:-$(dirname "$0")/..}
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

# includes DIR REGEX: the lines "file:line:#include" in DIR whose name matches.
includes()
{
	[ -d "$1" ] || return 0
	find "$1" -name '*.[ch]' -exec \
		grep -nHE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)[>\"]" {} +
}

# check_tree DIR: every breach of a rule in DIR, one a line.
check_tree()
{
	local t=$1
	{
		# Only fs/ speaks FUSE.
		includes "$t/conf" '(fuse3?/)?(fuse|cuse)[a-z_]*\.h'
		includes "$t/engine" '(fuse3?/)?(fuse|cuse)[a-z_]*\.h'
		# Only conf/inifile.c reads INI.
		includes "$t/conf" '(.*/)?ini\.h' | grep -v '/conf/inifile\.c:'
		includes "$t/engine" '(.*/)?ini\.h'
		includes "$t/fs" '(.*/)?ini\.h'
		# conf/ is a leaf, engine/ knows nothing of fs/.
		includes "$t/conf" '(\.\./)?(engine|fs)/.*'
		includes "$t/engine" '(\.\./)?fs/.*'
		# libiscsi stays in engine/, SQLite in engine/store*.
		includes "$t/conf" 'iscsi/.*'
		includes "$t/fs" 'iscsi/.*'
		includes "$t/conf" 'sqlite3.*\.h'
		includes "$t/fs" 'sqlite3.*\.h'
		includes "$t/engine" 'sqlite3.*\.h' | grep -v '/engine/store[^/]*:'
	} | sed "s|^$t/||" | sort
}

# The rules themselves: each of these lines must be found.
mkdir -p "$tmp"/{conf,engine,fs}
cat > "$tmp/conf/bad.c" <<'C'
#include <fuse_lowlevel.h>
#include <ini.h>
#include "engine/group.h"
#include "fs/node.h"
#include <iscsi/iscsi.h>
#include <sqlite3.h>
C
cat > "$tmp/engine/bad.h" <<'C'
  #  include <fuse3/fuse_lowlevel.h>
#include <ini.h>
#include "../fs/node.h"
#include "sqlite3.h"
C
cat > "$tmp/fs/bad.c" <<'C'
#include <ini.h>
#include <iscsi/scsi-lowlevel.h>
#include <sqlite3.h>
C
found=$(check_tree "$tmp" | wc -l)
if [ "$found" -ne 13 ]; then
	echo "the rules found $found of 13 wrong includes:"
	check_tree "$tmp"
	exit 1
fi
mkdir -p "$tmp/good"/{conf,engine,fs}
echo '#include <ini.h>' > "$tmp/good/conf/inifile.c"
echo '#include <sqlite3.h>' > "$tmp/good/engine/store_db.c"
echo '#include <iscsi/iscsi.h>' > "$tmp/good/engine/iscsi.c"
printf '#include <fuse_lowlevel.h>\n#include "engine/x.h"\n#include "conf/x.h"\n' \
	> "$tmp/good/fs/node.c"
if [ -n "$(check_tree "$tmp/good")" ]; then
	echo "the rules refuse what is right:"
	check_tree "$tmp/good"
	exit 1
fi

wrong=$(check_tree "$top")
if [ -n "$wrong" ]; then
	echo "includes against the layers of the tree:"
	echo "$wrong"
	exit 1
fi
