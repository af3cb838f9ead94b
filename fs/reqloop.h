/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_REQLOOP_H
#define LUNFS_REQLOOP_H

/*
 * The threads that read requests from /dev/fuse and carry each out: as many as
 * there are cores, at least two and at most four.  No handler waits, so more
 * bring nothing (measured: two on two cores are the fastest, eight cost a
 * tenth).  Each owns one buffer of a request's greatest size, of which the
 * kernel gives pages only as they are written to.
 *
 * libfuse's own loop is not used because it takes the calling thread, grows and
 * cancels threads, and ends only by an unmount or a signal to that one thread.
 */

struct fuse_session;
struct reqloop;

/*
 * Starts the threads.  ended_fd (an eventfd) is written to when the last of
 * them ends by itself: the mount or the connection has gone.  -errno.
 */
int reqloop_start(struct fuse_session *session, int ended_fd, struct reqloop **ret_loop);

/*
 * Ends the threads, whatever the mount's state, once each has finished the
 * request at hand.  Takes NULL.
 */
void reqloop_stop(struct reqloop *loop);

#endif
