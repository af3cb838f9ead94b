/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Who reads /dev/fuse, and who carries out what.
 *
 * One loop of the engine at a time, the front, watches /dev/fuse and takes up to
 * BATCH requests a turn.  Writes and small reads of data files look at memory and hand
 * something on: the front carries them out itself.  Where the session of the LUN is on
 * the same loop, one thread reads the request, sends it, takes the target's answer and
 * gives it to the kernel, and what was taken in one turn leaves together.  Everything
 * else may last (the store is written, files are opened, a megabyte is read from the
 * page cache) and goes to the threads.
 *
 * The front moves to the loop that most of the requests are handed on to.
 *
 * A request stands in a buffer of a request's greatest size; they are few.  When all
 * are with the threads, the rest waits in the kernel.
 *
 *  state     what holds                        who moves it, to what
 *  MOVING    take is on its way to the front   take_over(): WATCHING
 *  WATCHING  /dev/fuse is in front's epoll     move(): MOVING; on_readable(): STARVED,
 *                                              ENDED
 *  STARVED   no buffer is free                 the thread that gives one back: MOVING
 *  ENDED     the mount or the connection is    nobody
 *            gone
 *
 * `state` and what stands by it belong to the front's thread; the stop follows the
 * front from loop to loop until it meets it.
 */

#include "fs/reqloop.h"

#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "engine/loop.h"
#include "fs/data.h"

enum {
	MIN_THREADS = 2,
	MAX_THREADS = 4,
	SPARE_BUFFERS = 4,
	BATCH = 32,	       /* requests a turn */
	BATCH_BYTES = 4 << 20, /* or so many */
	SMALL_READ = 64 << 10, /* bytes of one that the front carries out */
	LOOK_AFTER = 256,      /* of its own, it looks where they went */
	MAX_LOOPS = 256,
};

enum front_state { MOVING, WATCHING, STARVED, ENDED };

struct request {
	struct fuse_buf buf;
	STAILQ_ENTRY(request) link;
};

STAILQ_HEAD(request_list, request);

struct reqloop {
	struct fuse_session *session;
	int ended_fd;
	struct loop *const *loops;
	unsigned n_loops;
	struct loop *own_loop; /* where the engine has none; NULL */

	_Atomic(struct loop *) front;
	struct loop_call take, stop;
	sem_t stopped;

	/* The front's thread. */
	enum front_state state;
	bool stopping;
	struct loop_fd watch;
	struct request *next;		 /* to be read into; NULL: none */
	unsigned n_done;		 /* carried out since the last look */
	unsigned handed_over[MAX_LOOPS]; /* to each loop, as of the last look */

	pthread_mutex_t lock;
	pthread_cond_t came;
	struct request_list queue; /* for the threads */
	struct request_list idle;
	bool starved; /* who gives a buffer back posts `take` */
	bool ending;

	unsigned n_threads;
	pthread_t threads[MAX_THREADS];
	struct request requests[MAX_THREADS + SPARE_BUFFERS];
};

/* ---- the threads ----------------------------------------------------------------- */

static struct request *wait_for_request(struct reqloop *r)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
	struct request *q;

	while (STAILQ_EMPTY(&r->queue) && !r->ending)
		pthread_cond_wait(&r->came, &r->lock);
	q = STAILQ_FIRST(&r->queue);
	if (q)
		STAILQ_REMOVE_HEAD(&r->queue, link);
	return q;
}

static void give_back(struct reqloop *r, struct request *q)
{
	bool starved;

	pthread_mutex_lock(&r->lock);
	STAILQ_INSERT_HEAD(&r->idle, q, link);
	starved = r->starved;
	r->starved = false;
	pthread_mutex_unlock(&r->lock);
	if (starved)
		loop_post(atomic_load(&r->front), &r->take);
}

static void *thread_main(void *opaque)
{
	struct reqloop *r = opaque;
	struct request *q;

	while ((q = wait_for_request(r))) {
		fuse_session_process_buf(r->session, &q->buf);
		give_back(r, q);
	}
	return NULL;
}

static void hand_to_threads(struct reqloop *r, struct request *q)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);

	STAILQ_INSERT_TAIL(&r->queue, q, link);
	pthread_cond_signal(&r->came);
}

/* ---- the front ------------------------------------------------------------------- */

static void front_end(struct reqloop *r, int error)
{
	uint64_t one = 1;

	if (error)
		log_error("reading /dev/fuse: %s", strerror(-error));
	loop_fd_watch(atomic_load(&r->front), &r->watch, r->watch.fd, 0);
	r->state = ENDED;
	if (write(r->ended_fd, &one, sizeof(one)) < 0)
		log_error("telling the end of the mount: %s", strerror(errno));
}

static void take_over(struct loop_call *call)
{
	struct reqloop *r =
		(struct reqloop *)((char *)call - offsetof(struct reqloop, take));
	int error;

	if (r->stopping) {
		sem_post(&r->stopped);
		return;
	}
	r->state = WATCHING;
	error = loop_fd_watch(atomic_load(&r->front), &r->watch,
			      fuse_session_fd(r->session), EPOLLIN);
	if (error < 0)
		front_end(r, error);
}

static void move(struct reqloop *r, struct loop *to)
{
	loop_fd_watch(atomic_load(&r->front), &r->watch, r->watch.fd, 0);
	r->state = MOVING;
	atomic_store(&r->front, to);
	loop_post(to, &r->take);
}

/* Moves if most of the requests since the last look went to another loop. */
static void follow_requests(struct reqloop *r)
{
	struct loop *to = NULL;

	if (r->n_done < LOOK_AFTER)
		return;
	for (unsigned i = 0; i < r->n_loops; i++) {
		unsigned now = loop_handed_over(r->loops[i]);

		if (now - r->handed_over[i] > r->n_done / 2)
			to = r->loops[i];
		r->handed_over[i] = now;
	}
	r->n_done = 0;
	if (to && to != atomic_load(&r->front))
		move(r, to);
}

/* False: none is free, and /dev/fuse is not watched any more. */
static bool get_buffer(struct reqloop *r)
{
	if (r->next)
		return true;
	pthread_mutex_lock(&r->lock);
	r->next = STAILQ_FIRST(&r->idle);
	if (r->next)
		STAILQ_REMOVE_HEAD(&r->idle, link);
	r->starved = !r->next;
	pthread_mutex_unlock(&r->lock);
	if (r->next)
		return true;
	r->state = STARVED;
	loop_fd_watch(atomic_load(&r->front), &r->watch, r->watch.fd, 0);
	return false;
}

/* Is it one that does not last?  The kernel's struct fuse_read_in and
 * struct fuse_write_in both begin with fh, offset and size. */
static bool is_for_front(const struct fuse_buf *buf)
{
	const struct fuse_in_header *header = buf->mem;
	const struct fuse_read_in *in = (const void *)(header + 1);

	if (buf->flags & FUSE_BUF_IS_FD || buf->size < sizeof(*header) + sizeof(*in))
		return false;
	return data_is_file(in->fh) &&
	       (header->opcode == FUSE_WRITE ||
		(header->opcode == FUSE_READ && in->size <= SMALL_READ));
}

static void carry_out(struct reqloop *r)
{
	struct request *q = r->next;

	if (is_for_front(&q->buf)) {
		r->n_done++;
		fuse_session_process_buf(r->session, &q->buf);
		return;
	}
	r->next = NULL;
	hand_to_threads(r, q);
}

static void on_readable(struct loop_fd *watch, uint32_t events)
{
	struct reqloop *r =
		(struct reqloop *)((char *)watch - offsetof(struct reqloop, watch));
	size_t bytes = 0;

	(void)events;
	for (unsigned i = 0; i < BATCH && bytes < BATCH_BYTES && get_buffer(r); i++) {
		int n = fuse_session_receive_buf(r->session, &r->next->buf);

		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n <= 0 || fuse_session_exited(r->session)) {
			front_end(r, n < 0 ? n : 0);
			return;
		}
		bytes += (size_t)n;
		carry_out(r);
	}
	if (r->state == WATCHING)
		follow_requests(r);
}

/* ---- life ------------------------------------------------------------------------ */

static unsigned thread_count(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < MIN_THREADS ? MIN_THREADS :
	       n > MAX_THREADS ? MAX_THREADS :
				 (unsigned)n;
}

static int start_threads(struct reqloop *r)
{
	unsigned n = thread_count();
	int error = 0;

	for (unsigned i = 0; i < n + SPARE_BUFFERS; i++)
		STAILQ_INSERT_TAIL(&r->idle, &r->requests[i], link);
	while (!error && r->n_threads < n) {
		error = pthread_create(&r->threads[r->n_threads], NULL, thread_main, r);
		r->n_threads += !error;
	}
	return -error;
}

/* The kernel's requests are read where nobody may wait. */
static int start_front(struct reqloop *r)
{
	int fd = fuse_session_fd(r->session), flags = fcntl(fd, F_GETFL);
	int error;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	if (r->n_loops == 0) {
		error = loop_new("lunfs-front", &r->own_loop);
		if (error < 0)
			return error;
		r->loops = &r->own_loop;
		r->n_loops = 1;
	}
	if (r->n_loops > MAX_LOOPS)
		r->n_loops = MAX_LOOPS;
	atomic_store(&r->front, r->loops[0]);
	loop_post(r->loops[0], &r->take);
	return 0;
}

static void stop_front(struct loop_call *call);

int reqloop_start(struct fuse_session *session, struct loop *const *loops,
		  unsigned n_loops, int ended_fd, struct reqloop **ret_reqloop)
{
	struct reqloop *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return -ENOMEM;
	r->session = session;
	r->ended_fd = ended_fd;
	r->loops = loops;
	r->n_loops = n_loops;
	r->take.fn = take_over;
	r->stop.fn = stop_front;
	r->watch.fn = on_readable;
	r->watch.fd = -1;
	sem_init(&r->stopped, 0, 0);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->came, NULL);
	STAILQ_INIT(&r->queue);
	STAILQ_INIT(&r->idle);
	error = start_threads(r);
	if (error == 0)
		error = start_front(r);
	if (error < 0) {
		reqloop_stop(r);
		return error;
	}
	*ret_reqloop = r;
	return 0;
}

/* Where `take` is on its way, it ends this. */
static void stop_front(struct loop_call *call)
{
	struct reqloop *r =
		(struct reqloop *)((char *)call - offsetof(struct reqloop, stop));
	struct loop *front = atomic_load(&r->front);
	bool take_comes;

	if (!loop_is_current(front)) {
		loop_post(front, &r->stop);
		return;
	}
	pthread_mutex_lock(&r->lock);
	take_comes = r->state == MOVING || (r->state == STARVED && !r->starved);
	r->starved = false;
	pthread_mutex_unlock(&r->lock);
	r->stopping = true;
	if (take_comes)
		return;
	if (r->state == WATCHING)
		loop_fd_watch(front, &r->watch, r->watch.fd, 0);
	sem_post(&r->stopped);
}

static void end_threads(struct reqloop *r)
{
	pthread_mutex_lock(&r->lock);
	r->ending = true;
	pthread_cond_broadcast(&r->came);
	pthread_mutex_unlock(&r->lock);
	for (unsigned i = 0; i < r->n_threads; i++)
		pthread_join(r->threads[i], NULL);
}

void reqloop_stop(struct reqloop *r)
{
	struct loop *front;

	if (!r)
		return;
	front = atomic_load(&r->front);
	if (front) {
		loop_post(front, &r->stop);
		while (sem_wait(&r->stopped) < 0)
			;
	}
	end_threads(r);
	loop_free(r->own_loop);
	for (unsigned i = 0; i < MAX_THREADS + SPARE_BUFFERS; i++)
		free(r->requests[i].buf.mem);
	sem_destroy(&r->stopped);
	pthread_cond_destroy(&r->came);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
