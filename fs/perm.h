/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_PERM_H
#define LUNFS_PERM_H

/*
 * Who may do what: the mount is without default_permissions, so every open,
 * opendir, mkdir, rmdir, setattr and access is decided here, by owner, group
 * (with supplementary groups) and other.
 */

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <sys/stat.h>

struct perm_who {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary */
	int n_groups;
};

/*
 * Whether `who` may do `want` (R_OK, W_OK and X_OK, or'ed) to what st
 * describes: 0 or -EACCES.  uid 0 passes, but as in sysfs not where the mode
 * has no such bit at all: nobody writes a file of mode 0444, nobody reads one of
 * mode 0200, so that what cannot work fails at open.
 */
int perm_check(const struct perm_who *who, const struct stat *st, int want);

/* The same for the process behind a request.  Reads its supplementary groups
 * only where they decide. */
int perm_check_req(fuse_req_t req, const struct stat *st, int want);

/* Whether the process is uid 0 or the owner. */
bool perm_is_owner(fuse_req_t req, uid_t owner);

/*
 * What a setattr that is not about the size may do to a node: chmod and chown to
 * what it has already, and setting times (which changes nothing); all else is
 * -EPERM.  to_set: FUSE_SET_ATTR_….
 */
int perm_check_setattr(const struct perm_who *who, const struct stat *st,
		       const struct stat *wanted, int to_set);
int perm_check_setattr_req(fuse_req_t req, const struct stat *st,
			   const struct stat *wanted, int to_set);

#endif
