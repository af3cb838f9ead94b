/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_REQLOOP_H
#define LUNFS_REQLOOP_H

/*
 * Takes the requests of /dev/fuse.  Writes and small reads of data files are carried
 * out by a loop of the engine, all else by threads: as many as there are cores, at
 * least two and at most four.  No handler waits, so more bring nothing (measured:
 * eight cost a tenth).  reqloop.c says how.
 *
 * libfuse's own loop is not used because it takes the calling thread, grows and
 * cancels threads, and ends only by an unmount or a signal to that one thread.
 */

struct fuse_session;
struct loop;
struct reqloop;

/*
 * Starts it.  loops: the engine's, which outlive it; with none it makes one of its
 * own.  ended_fd (an eventfd) is written to when it ends by itself: the mount or the
 * connection has gone.  From then on the session's descriptor does not block.  -errno.
 */
int reqloop_start(struct fuse_session *session, struct loop *const *loops,
		  unsigned n_loops, int ended_fd, struct reqloop **ret_reqloop);

/*
 * Ends it, whatever the mount's state, once the requests that were taken are carried
 * out.  Takes NULL.
 */
void reqloop_stop(struct reqloop *reqloop);

#endif
