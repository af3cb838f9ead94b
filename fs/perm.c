/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/perm.h"

#include <errno.h>
#include <unistd.h>

#include "conf/cleanup.h"

enum {
	GROUPS_GUESS = 64,
	GROUPS_MAX = 65536, /* NGROUPS_MAX of Linux */
	MODE_BITS = 07777,
};

static bool is_member(const struct perm_who *who, gid_t gid)
{
	if (who->gid == gid)
		return true;
	for (int i = 0; i < who->n_groups; i++)
		if (who->groups[i] == gid)
			return true;
	return false;
}

/* Whether each bit of want stands somewhere in the mode. */
static bool is_possible(mode_t mode, int want)
{
	return !(want & ~(int)((mode >> 6 | mode >> 3 | mode) & 07));
}

int perm_check(const struct perm_who *who, const struct stat *st, int want)
{
	mode_t mode = st->st_mode;

	want &= R_OK | W_OK | X_OK;
	if (!who->uid)
		return is_possible(mode, want) ? 0 : -EACCES;
	if (who->uid == st->st_uid)
		mode >>= 6;
	else if (is_member(who, st->st_gid))
		mode >>= 3;
	return want & ~(int)(mode & 07) ? -EACCES : 0;
}

int perm_check_setattr(const struct perm_who *who, const struct stat *st,
		       const struct stat *wanted, int to_set)
{
	const int now = FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
	const int times =
		now | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;

	if (to_set & FUSE_SET_ATTR_MODE &&
	    (wanted->st_mode & MODE_BITS) != (st->st_mode & MODE_BITS))
		return -EPERM;
	if (to_set & FUSE_SET_ATTR_UID && wanted->st_uid != st->st_uid)
		return -EPERM;
	if (to_set & FUSE_SET_ATTR_GID && wanted->st_gid != st->st_gid)
		return -EPERM;
	if (!who->uid || who->uid == st->st_uid || !(to_set & times))
		return 0;
	/* utimensat(2): others may only set the present time, and need W_OK. */
	if ((to_set & FUSE_SET_ATTR_ATIME && !(to_set & FUSE_SET_ATTR_ATIME_NOW)) ||
	    (to_set & FUSE_SET_ATTR_MTIME && !(to_set & FUSE_SET_ATTR_MTIME_NOW)))
		return -EPERM;
	return perm_check(who, st, W_OK);
}

/* Whether it makes no difference which groups a process is in. */
static bool groups_do_not_matter(const struct fuse_ctx *ctx, const struct stat *st)
{
	return !ctx->uid || ctx->uid == st->st_uid || ctx->gid == st->st_gid ||
	       (st->st_mode >> 3 & 07) == (st->st_mode & 07);
}

/* Fills who; the groups, if they matter, are *ret_groups, to be freed.  Where
 * they cannot be read (the process is gone) there are none. */
static void get_who(fuse_req_t req, const struct stat *st, struct perm_who *who,
		    gid_t **ret_groups)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	int size = GROUPS_GUESS;

	*who = (struct perm_who){ .uid = ctx->uid, .gid = ctx->gid };
	if (groups_do_not_matter(ctx, st))
		return;
	for (;;) {
		gid_t *groups = malloc(sizeof(*groups) * (size_t)size);
		int n = groups ? fuse_req_getgroups(req, size, groups) : -ENOMEM;

		if (n <= 0 || n > GROUPS_MAX) {
			free(groups);
			return;
		}
		if (n <= size) {
			*ret_groups = groups;
			who->groups = groups;
			who->n_groups = n;
			return;
		}
		free(groups);
		size = n;
	}
}

int perm_check_req(fuse_req_t req, const struct stat *st, int want)
{
	CLEANUP_FREE gid_t *groups = NULL;
	struct perm_who who;

	get_who(req, st, &who, &groups);
	return perm_check(&who, st, want);
}

int perm_check_setattr_req(fuse_req_t req, const struct stat *st,
			   const struct stat *wanted, int to_set)
{
	CLEANUP_FREE gid_t *groups = NULL;
	struct perm_who who;

	get_who(req, st, &who, &groups);
	return perm_check_setattr(&who, st, wanted, to_set);
}

bool perm_is_owner(fuse_req_t req, uid_t owner)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return !ctx->uid || ctx->uid == owner;
}
