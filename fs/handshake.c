/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Linux asks for the attribute security.capability before each write, one more
 * request and answer, unless the file system says that it takes away set-user-ID bits
 * and capabilities itself (FUSE_HANDLE_KILLPRIV_V2).  LunFS can say so: nothing in it
 * has any.  libfuse 3.14 does not know the flag; it is put into its answer on the way.
 */

#include "fs/handshake.h"

#include <fuse_lowlevel.h>

#include <errno.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* This thread answers INIT, and the kernel knows the flag. */
static _Thread_local bool adds_flag;

static ssize_t receive(int fd, void *buf, size_t size, void *userdata)
{
	(void)userdata;
	return read(fd, buf, size);
}

static ssize_t answer(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *header = iov[0].iov_base;

	(void)userdata;
	if (adds_flag && count == 2 && header->error == 0 &&
	    iov[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE) {
		struct fuse_init_out *out = iov[1].iov_base;

		out->flags |= FUSE_HANDLE_KILLPRIV_V2;
	}
	return writev(fd, iov, count);
}

static bool offers_flag(const struct fuse_buf *buf)
{
	const struct fuse_in_header *header = buf->mem;
	const struct fuse_init_in *in = (const void *)(header + 1);

	return buf->size >= sizeof(*header) + offsetof(struct fuse_init_in, flags2) &&
	       header->opcode == FUSE_INIT && (in->flags & FUSE_HANDLE_KILLPRIV_V2);
}

int handshake(struct fuse_session *session)
{
	static const struct fuse_custom_io io = { .writev = answer, .read = receive };
	struct fuse_buf buf = { 0 };
	int r = fuse_session_custom_io(session, &io, fuse_session_fd(session));

	if (r < 0)
		return r;
	do {
		r = fuse_session_receive_buf(session, &buf);
	} while (r == -EINTR);
	if (r > 0) {
		adds_flag = offers_flag(&buf);
		fuse_session_process_buf(session, &buf);
		adds_flag = false;
	}
	free(buf.mem);
	if (r < 0)
		return r;
	return fuse_session_exited(session) ? -ENODEV : 0;
}
