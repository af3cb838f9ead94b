/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_HANDSHAKE_H
#define LUNFS_HANDSHAKE_H

struct fuse_session;

/*
 * The request INIT, in the calling thread: the first one, which the kernel sends at
 * mount.  -errno.
 */
int handshake(struct fuse_session *session);

#endif
