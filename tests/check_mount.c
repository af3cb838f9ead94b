/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "fs/mount.h"

static const char mountinfo[] =
	"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
	"30 22 0:25 / /mnt/lunfs rw,nosuid,nodev,relatime shared:9 master:2 - fuse.lunfs lunfs "
	"rw,user_id=1000,group_id=100\n"
	"31 22 0:26 / /mnt/a\\040b\\134c\\011 rw - fuse.lunfs lunfs rw,user_id=0,group_id=0\n"
	"32 22 0:27 / /mnt/twice rw - fuse.lunfs lunfs rw,user_id=5,group_id=0\n"
	"33 32 0:28 / /mnt/twice rw - tmpfs none rw\n"
	"34 22 0:29 / /mnt/other rw - fuse.sshfs host: rw,user_id=7,group_id=0\n"
	"35 22 0:30 / /mnt/short rw\n"
	"\n";

static int find(const char *path, struct mount_entry *entry)
{
	FILE *f = fmemopen((void *)mountinfo, sizeof(mountinfo) - 1, "r");
	int r = mount_find_in(f, path, entry);

	fclose(f);
	return r;
}

START_TEST(the_topmost_mount_of_a_path_is_found)
{
	static const struct {
		const char *path;
		int r;
		const char *device, *fstype;
		uid_t user;
		bool is_lunfs;
	} rows[] = {
		{ "/", 0, "254:0", "ext4", 0, false },
		{ "/mnt/lunfs", 0, "0:25", "fuse.lunfs", 1000, true },
		{ "/mnt/a b\\c\t", 0, "0:26", "fuse.lunfs", 0, true },
		{ "/mnt/twice", 0, "0:28", "tmpfs", 0, false },
		{ "/mnt/other", 0, "0:29", "fuse.sshfs", 7, false },
		{ "/mnt/short", -ENOENT, "", "", 0, false },
		{ "/mnt", -ENOENT, "", "", 0, false },
		{ "/mnt/lunfs/", -ENOENT, "", "", 0, false },
		{ "", -ENOENT, "", "", 0, false },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct mount_entry entry = { 0 };

		ROW_EQ(rows[i].path, find(rows[i].path, &entry), rows[i].r);
		ROW_STR_EQ(rows[i].path, entry.device, rows[i].device);
		ROW_STR_EQ(rows[i].path, entry.fstype, rows[i].fstype);
		ROW_EQ(rows[i].path, entry.user, rows[i].user);
		ROW_EQ(rows[i].path, mount_is_lunfs(&entry), rows[i].is_lunfs);
	}
}
END_TEST

START_TEST(a_path_is_resolved)
{
	char dir[] = "/tmp/check_mount.XXXXXX", link[64];
	char *path = NULL;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(link, sizeof(link), "%s/link", dir);
	ck_assert_int_eq(symlink("..", link), 0);
	ck_assert_int_eq(mount_resolve(link, &path), 0);
	ck_assert_str_eq(path, "/tmp");
	free(path);
	unlink(link);
	path = NULL;
	ck_assert_int_eq(mount_resolve(link, &path), -ENOENT);
	ck_assert_ptr_null(path);
	rmdir(dir);
}
END_TEST

START_TEST(a_file_system_that_answers_is_told_from_a_path_that_is_not_there)
{
	ck_assert_int_eq(mount_probe("/"), 0);
	ck_assert_int_eq(mount_probe("/nonexistent/x"), -ENOENT);
}
END_TEST

static void refused(const char *path, int r, const char *part)
{
	CLEANUP_STRBUF struct strbuf error = STRBUF_INIT;

	ROW_EQ(path, mount_prepare(path, false, &error), r);
	ROW_HAS(path, error.s, part);
}

START_TEST(a_place_that_cannot_be_mounted_on_is_refused)
{
	refused("/nonexistent", -ENOENT, "make the directory first");
	refused("/proc/self/status", -ENOTDIR, "not a directory");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		the_topmost_mount_of_a_path_is_found,
		a_path_is_resolved,
		a_file_system_that_answers_is_told_from_a_path_that_is_not_there,
		a_place_that_cannot_be_mounted_on_is_refused,
	};

	return unit_main("mount", tests, ROWS(tests));
}
