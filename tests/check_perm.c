/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/perm.h"

#include <errno.h>

#include "tests/unit.h"

enum { OWNER = 100, GROUP = 200, OTHER = 300, MEMBER = 400, ROOT = 0 };

static int check(uid_t uid, gid_t gid, mode_t mode, int want)
{
	static const gid_t groups[] = { 7, 8, GROUP };
	struct perm_who who = { .uid = uid, .gid = gid };
	struct stat st = { .st_mode = mode, .st_uid = OWNER, .st_gid = GROUP };

	if (uid == MEMBER) {
		who.groups = groups;
		who.n_groups = ROWS(groups);
	}
	return perm_check(&who, &st, want);
}

START_TEST(access_follows_the_first_class_that_fits)
{
	static const struct {
		const char *what;
		uid_t uid;
		gid_t gid;
		mode_t mode;
		int want, result;
	} rows[] = {
		{ "owner reads", OWNER, OTHER, 0600, R_OK, 0 },
		{ "owner reads and writes", OWNER, OTHER, 0600, R_OK | W_OK, 0 },
		{ "owner without rights, group with", OWNER, GROUP, 0060, R_OK, -EACCES },
		{ "primary group", OTHER, GROUP, 0660, W_OK, 0 },
		{ "supplementary group", MEMBER, OTHER, 0660, W_OK, 0 },
		{ "group without rights, other with", OTHER, GROUP, 0606, R_OK, -EACCES },
		{ "other reads", OTHER, OTHER, 0644, R_OK, 0 },
		{ "other writes", OTHER, OTHER, 0644, W_OK, -EACCES },
		{ "other, one of two", OTHER, OTHER, 0644, R_OK | W_OK, -EACCES },
		{ "nothing wanted", OTHER, OTHER, 0, 0, 0 },
		{ "directory", OTHER, OTHER, S_IFDIR | 0755, R_OK | X_OK, 0 },
		{ "making in a directory", OTHER, OTHER, S_IFDIR | 0755, W_OK, -EACCES },
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		ROW_EQ(rows[i].what,
		       check(rows[i].uid, rows[i].gid, rows[i].mode, rows[i].want),
		       rows[i].result);
}
END_TEST

START_TEST(root_passes_where_anybody_could)
{
	ck_assert_int_eq(check(ROOT, 0, 0640, R_OK | W_OK), 0);
	ck_assert_int_eq(check(ROOT, 0, 0060, W_OK), 0);
	ck_assert_int_eq(check(ROOT, 0, S_IFDIR | 0755, W_OK | X_OK), 0);
}
END_TEST

START_TEST(root_does_not_write_what_nobody_can)
{
	ck_assert_int_eq(check(ROOT, 0, 0444, W_OK), -EACCES);
	ck_assert_int_eq(check(ROOT, 0, 0444, R_OK | W_OK), -EACCES);
	ck_assert_int_eq(check(ROOT, 0, 0200, R_OK), -EACCES);
	ck_assert_int_eq(check(ROOT, 0, 0644, X_OK), -EACCES);
}
END_TEST

static int set(uid_t uid, struct stat wanted, int to_set)
{
	struct perm_who who = { .uid = uid, .gid = OTHER };
	struct stat st = { .st_mode = S_IFREG | 0644, .st_uid = OWNER, .st_gid = GROUP };

	return perm_check_setattr(&who, &st, &wanted, to_set);
}

START_TEST(setting_what_is_there_already_succeeds)
{
	ck_assert_int_eq(set(OWNER, (struct stat){ .st_mode = 0644 }, FUSE_SET_ATTR_MODE),
			 0);
	ck_assert_int_eq(set(OWNER, (struct stat){ .st_mode = S_IFREG | 0644 },
			     FUSE_SET_ATTR_MODE),
			 0);
	ck_assert_int_eq(set(ROOT, (struct stat){ .st_uid = OWNER, .st_gid = GROUP },
			     FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID),
			 0);
}
END_TEST

START_TEST(other_modes_and_owners_are_refused_to_root_too)
{
	ck_assert_int_eq(set(ROOT, (struct stat){ .st_mode = 0600 }, FUSE_SET_ATTR_MODE),
			 -EPERM);
	ck_assert_int_eq(set(ROOT, (struct stat){ .st_mode = 04644 }, FUSE_SET_ATTR_MODE),
			 -EPERM);
	ck_assert_int_eq(set(ROOT, (struct stat){ .st_uid = 1 }, FUSE_SET_ATTR_UID),
			 -EPERM);
	ck_assert_int_eq(set(OWNER, (struct stat){ .st_gid = 1 }, FUSE_SET_ATTR_GID),
			 -EPERM);
}
END_TEST

START_TEST(times_are_the_owners_and_now_is_the_writers)
{
	const int now = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW |
			FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
	const int given = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
	const struct stat none = { 0 };

	ck_assert_int_eq(set(OWNER, none, given), 0);
	ck_assert_int_eq(set(ROOT, none, given), 0);
	ck_assert_int_eq(set(OTHER, none, given), -EPERM);
	ck_assert_int_eq(set(OTHER, none, now), -EACCES);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		access_follows_the_first_class_that_fits,
		root_passes_where_anybody_could,
		root_does_not_write_what_nobody_can,
		setting_what_is_there_already_succeeds,
		other_modes_and_owners_are_refused_to_root_too,
		times_are_the_owners_and_now_is_the_writers,
	};

	return unit_main("perm", tests, ROWS(tests));
}
