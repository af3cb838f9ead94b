/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_POOL_MOUNT_H
#define LUNFS_POOL_MOUNT_H

/*
 * Does a path lie on a LunFS mount, directly or through loop devices?  Memory
 * would deadlock: to write a dirty page LunFS would need LunFS.
 */

#include <stddef.h>

enum { POOL_MOUNT_CHAIN_MAX = 8192 };

/*
 * root is put before /proc and /sys: "" but in tests.  0: it does not; 1: it
 * does, and chain is a sentence that tells how ("/img lies on /dev/loop0, a loop
 * device over /mnt/lunfs/x, which lies on the LunFS mount /mnt/lunfs"); or
 * -errno.  A path that does not exist is judged by its nearest existing parent.
 */
int pool_mount_check(const char *root, const char *path, char *chain, size_t size);

#endif
