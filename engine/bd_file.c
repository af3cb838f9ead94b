/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * A file or a block device of this machine, by blocking calls on workers.
 *
 * The login is a work too: it opens the path, looks what it is and asks the
 * owner.  When it fails it is tried again: a timer on the device's loop submits
 * the work anew.  (Without a loop, as in unit tests, it is tried once.)  Once
 * open, the descriptor stays for the life of the device.
 *
 * References: the open device, the login work or the timer that stands for it,
 * each request, each call to the loop.  The last one frees and calls closed().
 * `armed` and `attached` are the loop thread's.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/blockdev.h"
#include "engine/loop.h"
#include "engine/workers.h"

#define NS_PER_S UINT64_C(1000000000)

enum {
	MAX_TRANSFER = 1 << 20,
	OPT_TRANSFER = 256 << 10,
	SECTOR = 4096, /* to which a medium error is narrowed down */
	RETRY_AWAY_S = 2,
	RETRY_REFUSED_S = 30,
};

struct bd_file {
	struct blockdev base; /* first */
	char *path;
	bool read_only;
	bool reserved;
	struct workers *workers;
	struct loop *loop; /* NULL: no retries */
	atomic_uint refs;
	int fd; /* set before the device is ready */
	bool is_block;
	struct work login;
	struct work end;
	uint64_t retry_s;
	struct loop_call arm_call;
	struct loop_call disarm_call;
	struct loop_timer timer;
	bool armed;
	bool attached;
	void (*closed)(void *opaque);
	void *closed_opaque;
};

/* One request on its way. */
struct file_io {
	struct work work;
	struct bd_file *f;
	struct bd_req *req;
};

#define CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static void bd_file_ref(struct bd_file *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

static void bd_file_unref(struct bd_file *f)
{
	void (*closed)(void *);
	void *opaque;

	if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) > 1)
		return;
	closed = f->closed;
	opaque = f->closed_opaque;
	if (f->fd >= 0)
		close(f->fd);
	bd_done(&f->base);
	free(f->path);
	free(f);
	if (closed)
		closed(opaque);
}

/* The contract's error for a positive errno of the disk. */
static int error_of(int error)
{
	switch (error) {
	case ENODATA:
	case ENOMEM:
	case EROFS:
	case EOPNOTSUPP:
		return -error;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return -ENOSPC;
	case EACCES:
	case EPERM:
	case EBADE: /* a reservation conflict of a SCSI disk */
		return -EACCES;
	}
	return -EIO;
}

/* Requests. */

static int read_all(int fd, void *buf, size_t size, off_t offset)
{
	while (size > 0) {
		ssize_t n = pread(fd, buf, size, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_of(errno) : -EIO;
		buf = (char *)buf + n;
		size -= n;
		offset += n;
	}
	return 0;
}

/* The first run of sectors in the request that cannot be read. */
static void find_bad_range(int fd, struct bd_req *req)
{
	uint64_t end = req->offset + req->length, at, next;
	char sector[SECTOR];

	for (at = req->offset; at < end; at = next) {
		next = (at / SECTOR + 1) * SECTOR;
		if (next > end)
			next = end;
		if (read_all(fd, sector, next - at, at) == -ENODATA) {
			if (req->bad_length == 0)
				req->bad_offset = at;
			req->bad_length = next - req->bad_offset;
		} else if (req->bad_length > 0) {
			return;
		}
	}
	if (req->bad_length == 0) {
		req->bad_offset = req->offset;
		req->bad_length = req->length;
	}
}

static int file_read(struct bd_file *f, struct bd_req *req)
{
	int r = read_all(f->fd, req->buf, req->length, req->offset);

	if (r == -ENODATA)
		find_bad_range(f->fd, req);
	return r;
}

static int write_all(int fd, const void *buf, size_t size, off_t offset, int flags)
{
	while (size > 0) {
		struct iovec iov = { (void *)buf, size };
		ssize_t n = pwritev2(fd, &iov, 1, offset, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_of(errno) : -EIO;
		buf = (const char *)buf + n;
		size -= n;
		offset += n;
	}
	return 0;
}

static int file_flush(struct bd_file *f)
{
	return fdatasync(f->fd) < 0 ? error_of(errno) : 0;
}

static int file_write(struct bd_file *f, struct bd_req *req)
{
	int flags = req->flags & BD_FUA ? RWF_DSYNC : 0;

	return write_all(f->fd, req->buf, req->length, req->offset, flags);
}

/* 0, an error, or -EOPNOTSUPP: do it another way. */
static int change_extents(struct bd_file *f, int mode, const struct bd_req *req)
{
	while (fallocate(f->fd, mode | FALLOC_FL_KEEP_SIZE, req->offset, req->length) <
	       0) {
		/* A block device says EINVAL to what is not aligned. */
		if (errno == EINVAL || errno == ENODEV || errno == ENOSYS)
			return -EOPNOTSUPP;
		if (errno != EINTR)
			return error_of(errno);
	}
	return 0;
}

static int write_zeros(struct bd_file *f, uint64_t offset, uint64_t length)
{
	static char zeros[256 << 10];
	int r = 0;

	while (r == 0 && length > 0) {
		size_t n = length < sizeof(zeros) ? length : sizeof(zeros);

		r = write_all(f->fd, zeros, n, offset, 0);
		offset += n;
		length -= n;
	}
	return r;
}

static int file_zero(struct bd_file *f, struct bd_req *req)
{
	int r;

	r = f->reserved ? -EOPNOTSUPP : change_extents(f, FALLOC_FL_PUNCH_HOLE, req);
	if (r == -EOPNOTSUPP)
		r = change_extents(f, FALLOC_FL_ZERO_RANGE, req);
	if (r == -EOPNOTSUPP)
		r = write_zeros(f, req->offset, req->length);
	if (r == 0 && req->flags & BD_FUA)
		r = file_flush(f);
	return r;
}

static int file_discard(struct bd_file *f, struct bd_req *req)
{
	int r = f->reserved ? 0 : change_extents(f, FALLOC_FL_PUNCH_HOLE, req);

	return r == -EOPNOTSUPP ? 0 : r;
}

static void add_extent(struct bd_req *req, uint64_t offset, uint64_t end, bool mapped)
{
	if (end > offset && req->n_extents < BD_MAX_EXTENTS)
		req->extents[req->n_extents++] =
			(struct bd_extent){ offset, end - offset, mapped };
}

static int file_extents(struct bd_file *f, struct bd_req *req)
{
	uint64_t at = req->offset, end = at + req->length;

	/* What holes of a block device read as, nobody tells. */
	if (f->is_block)
		add_extent(req, at, end, true);
	while (!f->is_block && at < end && req->n_extents < BD_MAX_EXTENTS) {
		off_t data = lseek(f->fd, at, SEEK_DATA), hole;

		if (data < 0 && errno != ENXIO)
			return error_of(errno);
		if (data < 0 || (uint64_t)data > end)
			data = end;
		add_extent(req, at, data, false);
		if ((uint64_t)data == end)
			break;
		hole = lseek(f->fd, data, SEEK_HOLE);
		if (hole < 0)
			return error_of(errno);
		if ((uint64_t)hole > end)
			hole = end;
		add_extent(req, data, hole, true);
		at = hole;
	}
	return 0;
}

static int file_do(struct bd_file *f, struct bd_req *req)
{
	switch (req->op) {
	case BD_READ:
		return file_read(f, req);
	case BD_WRITE:
		return file_write(f, req);
	case BD_ZERO:
		return file_zero(f, req);
	case BD_DISCARD:
		return file_discard(f, req);
	case BD_FLUSH:
		return file_flush(f);
	case BD_EXTENTS:
		return file_extents(f, req);
	}
	return -EOPNOTSUPP;
}

static void io_run(struct work *work)
{
	struct file_io *io = (struct file_io *)work;
	struct bd_file *f = io->f;
	struct bd_req *req = io->req;
	int r;

	free(io);
	r = file_do(f, req);
	req->done(req, r);
	bd_file_unref(f);
}

static void bd_file_submit(struct blockdev *bd, struct bd_req *req)
{
	struct bd_file *f = (struct bd_file *)bd;
	struct file_io *io = malloc(sizeof(*io));

	if (!io) {
		req->done(req, -ENOMEM);
		return;
	}
	*io = (struct file_io){ .work = { .fn = io_run }, .f = f, .req = req };
	bd_file_ref(f);
	workers_submit(f->workers, &io->work);
}

/* The login. */

struct login_error {
	enum bd_state state;
	char text[BD_ERROR_MAX];
};

static int refuse(struct login_error *e, enum bd_state state, const char *path, int error)
{
	e->state = state;
	snprintf(e->text, sizeof(e->text), "%s: %s", path, strerror(error));
	return -error;
}

/* A descriptor.  O_NONBLOCK: a FIFO would wait for its other end. */
static int open_path(struct bd_file *f, bool *ret_read_only, struct login_error *e)
{
	int flags = O_NONBLOCK | O_CLOEXEC;
	int fd = -1;

	*ret_read_only = f->read_only;
	if (!f->read_only) {
		fd = open(f->path, O_RDWR | flags);
		*ret_read_only = fd < 0;
	}
	if (fd < 0)
		fd = open(f->path, O_RDONLY | flags);
	if (fd >= 0)
		return fd;
	return refuse(e, errno == EACCES || errno == EPERM ? BD_REFUSED : BD_AWAY,
		      f->path, errno);
}

static int look_at(struct bd_file *f, int fd, struct bd_info *info, struct login_error *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse(e, BD_AWAY, f->path, errno);
	f->is_block = S_ISBLK(st.st_mode);
	if (!f->is_block && !S_ISREG(st.st_mode)) {
		e->state = BD_REFUSED;
		snprintf(e->text, sizeof(e->text),
			 "%s: neither a file nor a block device", f->path);
		return -EINVAL;
	}
	if (f->is_block && ioctl(fd, BLKGETSIZE64, &info->size) < 0)
		return refuse(e, BD_AWAY, f->path, errno);
	if (f->is_block) {
		snprintf(info->wwn, sizeof(info->wwn), "%u:%u", major(st.st_rdev),
			 minor(st.st_rdev));
		return 0;
	}
	info->size = st.st_size;
	info->thin = true;
	snprintf(info->wwn, sizeof(info->wwn), "%ju:%ju", (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino);
	return 0;
}

static int log_in(struct bd_file *f, struct login_error *e)
{
	struct bd_info info = {
		.block_size = 1,
		.max_transfer = MAX_TRANSFER,
		.opt_transfer = OPT_TRANSFER,
		.write_cache = true,
		.product = "file",
	};
	CLEANUP_CLOSE int fd = open_path(f, &info.read_only, e);
	char why[BD_ERROR_MAX - 48];
	int r;

	if (fd < 0)
		return fd;
	r = look_at(f, fd, &info, e);
	if (r < 0)
		return r;
	e->state = BD_REFUSED;
	r = bd_identify(&f->base, &info, why, sizeof(why));
	if (r < 0) {
		snprintf(e->text, sizeof(e->text), "%s: %s", f->base.name, why);
		return r;
	}
	f->fd = move_fd(fd);
	return 0;
}

static void login_run(struct work *work)
{
	struct bd_file *f = CONTAINER(work, struct bd_file, login);
	struct login_error e = { .state = BD_AWAY };

	if (log_in(f, &e) == 0) {
		bd_count_login(&f->base);
		bd_set_state(&f->base, BD_READY, NULL);
		bd_file_unref(f);
		return;
	}
	bd_set_state(&f->base, e.state, "%s", e.text);
	f->retry_s = e.state == BD_REFUSED ? RETRY_REFUSED_S : RETRY_AWAY_S;
	if (f->loop)
		loop_post(f->loop, &f->arm_call);
	else
		bd_file_unref(f);
}

/* On the loop's thread. */

static bool is_closing(struct bd_file *f)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->base.lock);

	return f->base.closing;
}

static void timer_fired(struct loop_timer *timer)
{
	struct bd_file *f = CONTAINER(timer, struct bd_file, timer);

	f->armed = false;
	workers_submit(f->workers, &f->login);
}

static void arm(struct loop_call *call)
{
	struct bd_file *f = CONTAINER(call, struct bd_file, arm_call);

	if (!f->attached && !is_closing(f))
		f->attached = loop_timer_attach(f->loop, &f->timer) == 0;
	if (!f->attached || is_closing(f)) {
		bd_file_unref(f);
		return;
	}
	f->armed = true;
	loop_timer_set(f->loop, &f->timer, loop_now(f->loop) + f->retry_s * NS_PER_S);
}

static void disarm(struct loop_call *call)
{
	struct bd_file *f = CONTAINER(call, struct bd_file, disarm_call);

	if (f->armed) {
		loop_timer_clear(f->loop, &f->timer);
		f->armed = false;
		bd_file_unref(f);
	}
	if (f->attached)
		loop_timer_detach(f->loop, &f->timer);
	f->attached = false;
	bd_file_unref(f);
}

/* The end. */

static void end_run(struct work *work)
{
	bd_file_unref(CONTAINER(work, struct bd_file, end));
}

static void bd_file_close(struct blockdev *bd, bool release, void (*closed)(void *opaque),
			  void *opaque)
{
	struct bd_file *f = (struct bd_file *)bd;

	f->closed = closed;
	f->closed_opaque = opaque;
	if (f->loop) {
		bd_file_ref(f);
		loop_post(f->loop, &f->disarm_call);
	}
	/* So that closed() is not called from within this. */
	workers_submit(f->workers, &f->end);
}

static const struct blockdev_ops bd_file_ops = {
	.name = "file",
	.submit = bd_file_submit,
	.close = bd_file_close,
};

int bd_file_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n)
{
	struct bd_file *f = calloc(1, sizeof(*f));

	if (f)
		f->path = strdup(p->url->path);
	if (!f || !f->path || bd_init(&f->base, &bd_file_ops, p) < 0) {
		snprintf(err, n, "%s: open: out of memory", p->name);
		if (f)
			free(f->path);
		free(f);
		return -ENOMEM;
	}
	f->read_only = p->read_only;
	f->reserved = p->reserved;
	f->workers = p->workers;
	f->loop = p->n_loops > 0 ? p->loops[0] : NULL;
	f->fd = -1;
	f->login.fn = login_run;
	f->end.fn = end_run;
	f->arm_call.fn = arm;
	f->disarm_call.fn = disarm;
	f->timer.fn = timer_fired;
	atomic_init(&f->refs, 2); /* the open device, the login */
	workers_submit(f->workers, &f->login);
	*ret = &f->base;
	return 0;
}
