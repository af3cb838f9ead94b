/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/fake_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/timefmt.h"

/*
 * Data of the fake engine: the files that the elements' URLs name.  Requests are
 * carried out one after another by the engine's thread, in the order they came.
 *
 * Each leaves a line in the file that FAKE_ENGINE_LOG names, before it is answered:
 * "read NAME OFFSET LENGTH", "write …", "zero …", "flush NAME 0 0", "seek …"; and
 * "held NAME …" when it has to wait for its element to be released.
 */

static const char *const op_names[] = {
	[ENGINE_IO_READ] = "read",	[ENGINE_IO_WRITE] = "write",
	[ENGINE_IO_ZERO] = "zero",	[ENGINE_IO_FLUSH] = "flush",
	[ENGINE_IO_SEEK_DATA] = "seek", [ENGINE_IO_SEEK_HOLE] = "seek",
};

static bool is_change(const struct engine_io *io)
{
	return io->op == ENGINE_IO_WRITE || io->op == ENGINE_IO_ZERO;
}

static int open_url(const char *url, bool write)
{
	if (strncmp(url, "file://", 7))
		return -1;
	return open(url + 7, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

int engine_data_open(struct engine *e, uint64_t element, bool write, pid_t pid,
		     struct engine_handle **ret_handle)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	struct object *o = fake_get(e, ENGINE_ELEMENT, element);
	struct engine_handle *h;

	if (!o)
		return -ENOENT;
	if (write && !o->element.exclusive)
		return -EROFS;
	h = calloc(1, sizeof(*h));
	h->engine = e;
	h->element = element;
	h->fd = open_url(o->element.url, write);
	o->n_handles++;
	o->handle_pid = pid;
	*ret_handle = h;
	return 0;
}

void engine_data_close(struct engine_handle *h)
{
	struct engine *e = h->engine;
	struct object *o;

	pthread_mutex_lock(&e->lock);
	o = fake_get(e, ENGINE_ELEMENT, h->element);
	if (o)
		o->n_handles--;
	pthread_mutex_unlock(&e->lock);
	if (h->fd >= 0)
		close(h->fd);
	free(h);
}

unsigned engine_open_handles(struct engine *e, struct strbuf *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	const struct list *l = &e->lists[ENGINE_ELEMENT];
	unsigned lines = 0;

	for (size_t i = 0; i < l->n; i++)
		if (l->objects[i] && l->objects[i]->n_handles) {
			strbuf_addf(b, "%s: %u, pid %d\n", l->objects[i]->name,
				    l->objects[i]->n_handles,
				    (int)l->objects[i]->handle_pid);
			lines++;
		}
	return lines;
}

/* Images are at hand, elements are not: both ways of reading are used. */
ssize_t engine_data_try_read(struct engine_handle *h, void *buf, size_t len,
			     uint64_t offset)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->engine->lock);
	const struct object *o = fake_get(h->engine, ENGINE_ELEMENT, h->element);

	if (!o || !o->element.is_image || o->is_held)
		return -EAGAIN;
	return pread(h->fd, buf, len, (off_t)offset);
}

static void queue(struct engine *e, struct engine_io *io)
{
	io->next = NULL;
	*e->ios_end = io;
	e->ios_end = &io->next;
	pthread_cond_signal(&e->changed);
}

/* The copy of the data takes the place of the caller's. */
void engine_data_submit(struct engine_io *io)
{
	struct engine *e = io->handle->engine;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&e->lock);
	if (io->op == ENGINE_IO_WRITE)
		io->data = memcpy(malloc(io->len), io->data, io->len);
	queue(e, io);
}

static bool must_wait(struct engine *e, const struct engine_io *io)
{
	return fake_get(e, ENGINE_ELEMENT, io->handle->element)->is_held &&
	       !e->is_stopping;
}

void fake_release(struct engine *e)
{
	struct engine_io *list = NULL, *io;

	while ((io = e->held)) {
		e->held = io->next;
		io->next = list;
		list = io;
	}
	while ((io = list)) {
		list = io->next;
		if (must_wait(e, io)) {
			io->next = e->held;
			e->held = io;
		} else {
			queue(e, io);
		}
	}
}

static ssize_t pass_on(struct engine_io *io, void *buf, size_t len)
{
	int fd = io->handle->fd;
	off_t offset = (off_t)io->offset;

	switch (io->op) {
	case ENGINE_IO_READ:
		return pread(fd, buf, len, offset);
	case ENGINE_IO_WRITE:
		return pwrite(fd, io->data, len, offset);
	case ENGINE_IO_ZERO:
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
				 (off_t)len);
	case ENGINE_IO_FLUSH:
		return fdatasync(fd);
	default:
		offset = lseek(fd, offset,
			       io->op == ENGINE_IO_SEEK_DATA ? SEEK_DATA : SEEK_HOLE);
		io->result = (uint64_t)offset;
		return offset < 0 ? -1 : 0;
	}
}

/* Without the lock. */
static void carry_out(struct engine_io *io, uint64_t size, int error)
{
	uint64_t left = io->offset < size ? size - io->offset : 0;
	size_t len = io->len < left ? io->len : left;
	CLEANUP_FREE char *buf = io->op == ENGINE_IO_READ ? malloc(len + 1) : NULL;
	CLEANUP_FREE void *data =
		io->op == ENGINE_IO_WRITE ? (void *)(uintptr_t)io->data : NULL;
	ssize_t n = 0;

	if (!error && is_change(io) && !len)
		error = -ENOSPC;
	if (!error) {
		n = pass_on(io, buf, len);
		if (n < 0)
			error = errno == ENXIO ? -ENXIO : -EIO;
	}
	io->done(io, error, buf, error ? 0 : (size_t)n);
}

static void write_log(struct engine *e, const char *what, const struct object *o,
		      const struct engine_io *io)
{
	if (e->log)
		fprintf(e->log, "%s %s %" PRIu64 " %" PRIu64 "\n", what, o->name,
			io->offset, io->len);
}

void fake_do_io(struct engine *e)
{
	struct engine_io *io = e->ios;
	struct object *o = fake_get(e, ENGINE_ELEMENT, io->handle->element);
	int error = 0;

	e->ios = io->next;
	if (!e->ios)
		e->ios_end = &e->ios;
	if (must_wait(e, io)) {
		write_log(e, "held", o, io);
		io->next = e->held;
		e->held = io;
		return;
	}
	if (o->is_held)
		error = -ENOTCONN;
	else if (is_change(io) && !o->element.exclusive)
		error = -EROFS;
	if (is_change(io))
		o->element.modified_ms = timefmt_now_ms();
	write_log(e, op_names[io->op], o, io);
	pthread_mutex_unlock(&e->lock);
	carry_out(io, o->element.size, error);
	pthread_mutex_lock(&e->lock);
}
