/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_MOUNT_H
#define LUNFS_MOUNT_H

/*
 * Mountpoints as the kernel shows them: what is mounted where, whether it
 * still has a daemon, and how it goes away.  No FUSE here.
 */

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "conf/strbuf.h"

struct mount_entry {
	char device[24]; /* "major:minor" of the file system */
	char fstype[64]; /* "fuse.lunfs" */
	uid_t user;	 /* who mounted it, of FUSE; else 0 */
};

/*
 * The absolute path without symbolic links (to be freed), also of a mount
 * whose daemon is gone.  -errno.
 */
int mount_resolve(const char *path, char **ret_path);

/* The topmost mount at exactly this path (as mount_resolve() gives it): 0,
 * -ENOENT if there is none, -errno. */
int mount_find(const char *path, struct mount_entry *ret_entry);

/* The same from a text in the format of /proc/self/mountinfo. */
int mount_find_in(FILE *mountinfo, const char *path, struct mount_entry *ret_entry);

bool mount_is_lunfs(const struct mount_entry *entry);

/*
 * Asks the file system at path, from a child so that one that does not answer
 * holds up nobody: 0 it answers; -ENOTCONN its daemon is gone; -ETIMEDOUT no
 * answer within 10 seconds; -EACCES another user's mount; -errno.
 */
int mount_probe(const char *path);

/*
 * Unmounts, as root by umount2(2), else by fusermount3.  lazily: also one that
 * is in use.  0, -EBUSY, -errno.
 */
int mount_detach(const char *path, bool lazily);

/* Takes a dead mount away, lazily if something still sits in it. */
int mount_clear(const char *path);

/*
 * Makes sure that a LunFS can be mounted at path; a dead LunFS mount that is
 * there is cleared.  0, or -errno with a sentence in error.
 */
int mount_prepare(const char *path, bool allow_other, struct strbuf *error);

#endif
