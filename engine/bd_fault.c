/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * `fault:RULES:URL`: the device of URL, misbehaving as the file RULES says
 * (fault_rules.h).  For tests.  What the rules have done stands in `sessions`.
 *
 * A thread of its own, every 10 ms and when woken: reads the rules anew if the
 * file has changed, shows the device's state (the rules', or that of the inner
 * device), logs in, and lets go what waits.  A login is: the inner device is
 * ready, the rules let it be, and the owner accepts what it says of itself.
 * Submissions look at the file too, so that a rule counts from the moment it is
 * there.
 *
 * Parked requests hang by bd_req.next in `parked`, each in a struct fault_io
 * (bd_req.priv).  A stalled one is looked at anew, like a fresh request, when the
 * rules have changed; one that was delayed goes on when it is due.  Neither
 * outlives the device's readiness: -ENOTCONN, as on a lost connection.
 *
 * bd_close(): the thread answers what is parked, closes the inner device, waits
 * for what was forwarded, frees everything and calls closed().  It is detached:
 * nobody could join it.
 *
 * The thread exists before the inner device is opened, which needs no undoing
 * then: it waits at a gate for the end of the opening.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "conf/timefmt.h"
#include "engine/blockdev.h"
#include "engine/fault_rules.h"

enum { POLL_MS = 10 };

enum todo { TODO_PARKED, TODO_ANSWER, TODO_FORWARD };

enum gate { GATE_SHUT, GATE_OPEN, GATE_ABANDONED };

struct bd_fault {
	struct blockdev base; /* first */
	char *path;	      /* of the rules */
	struct blockdev *inner;

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t wake;
	enum gate gate;
	struct fault_rules rules;
	struct stat file;	/* as it was read */
	uint64_t rules_version; /* how often they were read */
	bool was_lost;		/* rules took the device away since the last turn */
	struct bd_req *parked;
	struct bd_req **parked_last;
	unsigned n_parked;
	unsigned n_forwarded;
	bool closing;
	bool release;
	bool inner_closed;
	void (*closed)(void *opaque);
	void *closed_opaque;

	/* The thread's own. */
	unsigned login_seen;   /* the inner device's logins as of our last one */
	uint64_t version_seen; /* rules_version as of our last try */
	bool logged_in;
};

/* A request that waits or is forwarded. */
struct fault_io {
	struct bd_req inner;
	struct bd_req *outer;
	struct bd_fault *f;
	struct fault_rule rule; /* a copy; the rules may go */
	enum todo todo;
	bool stalled;
	uint64_t version; /* of the rules that stall it */
	uint64_t due_ns;
};

/* The rules. */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Rules that cannot be read change nothing. */
static void reload_locked(struct bd_fault *f)
{
	struct fault_rules *rules;
	struct stat st = { 0 };
	char error[256];

	if (stat(f->path, &st) < 0)
		memset(&st, 0, sizeof(st));
	if (f->rules_version > 0 && same_file(&st, &f->file))
		return;
	rules = malloc(sizeof(*rules));
	if (!rules)
		return;
	f->file = st;
	f->rules_version++;
	if (fault_rules_load(f->path, rules, error, sizeof(error)) == 0)
		f->rules = *rules;
	else
		log_error("%s: %s", f->base.name, error);
	if (f->rules.state != BD_READY)
		f->was_lost = true;
	free(rules);
}

/* Requests. */

static void wake(struct bd_fault *f)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	pthread_cond_signal(&f->wake);
}

static void answer(struct fault_io *io, int error)
{
	struct bd_req *outer = io->outer;

	free(io);
	outer->done(outer, error);
}

static void inner_done(struct bd_req *inner, int error)
{
	struct fault_io *io = inner->opaque;
	struct bd_fault *f = io->f;
	struct bd_req *outer = io->outer;

	outer->n_extents = inner->n_extents;
	outer->bad_offset = inner->bad_offset;
	outer->bad_length = inner->bad_length;
	/* A lie about the size lets through what the inner device refuses. */
	if (error == -EINVAL)
		error = -EIO;
	if (error == 0 && io->rule.error)
		error = fault_rule_error(&io->rule, outer);
	answer(io, error);

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	f->n_forwarded--;
	pthread_cond_signal(&f->wake);
}

/* n_forwarded counts it already. */
static void forward(struct fault_io *io)
{
	struct bd_req *outer = io->outer;

	io->inner = (struct bd_req){
		.op = outer->op,
		.flags = outer->flags,
		.offset = outer->offset,
		.length = outer->length,
		.buf = outer->buf,
		.extents = outer->extents,
		.done = inner_done,
		.opaque = io,
	};
	bd_submit(io->f->inner, &io->inner);
}

static enum todo park_locked(struct bd_fault *f, struct fault_io *io)
{
	io->outer->priv = io;
	io->outer->next = NULL;
	*f->parked_last = io->outer;
	f->parked_last = &io->outer->next;
	f->n_parked++;
	return TODO_PARKED;
}

static enum todo lose(struct fault_io *io)
{
	io->rule = (struct fault_rule){ .error = ENOTCONN };
	return TODO_ANSWER;
}

/* What is done with a request that waits for nothing more. */
static enum todo act_locked(struct bd_fault *f, struct fault_io *io)
{
	if (io->rule.error && !io->rule.after)
		return TODO_ANSWER;
	f->n_forwarded++;
	return TODO_FORWARD;
}

/* Finds the rule for a request and does what it says. */
static enum todo decide_locked(struct bd_fault *f, struct fault_io *io)
{
	struct fault_rule *rule = fault_rules_match(&f->rules, io->outer);

	memset(&io->rule, 0, sizeof(io->rule));
	if (rule)
		io->rule = *rule;
	io->stalled = io->rule.stall;
	io->version = f->rules_version;
	if (!io->stalled && io->rule.delay_ms == 0)
		return act_locked(f, io);
	io->due_ns = timefmt_monotonic_ns() + io->rule.delay_ms * UINT64_C(1000000);
	return park_locked(f, io);
}

static void carry_out(struct fault_io *io, enum todo todo)
{
	if (todo == TODO_FORWARD)
		forward(io);
	else if (todo == TODO_ANSWER)
		answer(io, fault_rule_error(&io->rule, io->outer));
}

static void bd_fault_submit(struct blockdev *bd, struct bd_req *req)
{
	struct bd_fault *f = (struct bd_fault *)bd;
	struct fault_io *io = calloc(1, sizeof(*io));
	enum todo todo;

	if (!io) {
		req->done(req, -ENOMEM);
		return;
	}
	io->outer = req;
	io->f = f;
	pthread_mutex_lock(&f->lock);
	reload_locked(f);
	todo = f->rules.state == BD_READY ? decide_locked(f, io) : lose(io);
	pthread_mutex_unlock(&f->lock);
	carry_out(io, todo);
}

/* The thread. */

static enum todo look_at_parked_locked(struct bd_fault *f, struct fault_io *io, bool lost)
{
	if (lost)
		return lose(io);
	if (io->stalled && io->version != f->rules_version)
		return decide_locked(f, io);
	if (io->stalled || timefmt_monotonic_ns() < io->due_ns)
		return park_locked(f, io);
	return act_locked(f, io);
}

/* Parks anew what still waits; the list of what goes on. */
static struct bd_req *sort_parked_locked(struct bd_fault *f, bool lost)
{
	struct bd_req *req = f->parked, *next, *go = NULL, **last = &go;

	f->parked = NULL;
	f->parked_last = &f->parked;
	f->n_parked = 0;
	for (; req; req = next) {
		struct fault_io *io = req->priv;

		next = req->next;
		io->todo = look_at_parked_locked(f, io, lost);
		if (io->todo == TODO_PARKED)
			continue;
		req->next = NULL;
		*last = req;
		last = &req->next;
	}
	return go;
}

static void release_parked(struct bd_fault *f, bool lost)
{
	struct bd_req *req, *next;

	pthread_mutex_lock(&f->lock);
	req = sort_parked_locked(f, lost);
	pthread_mutex_unlock(&f->lock);
	for (; req; req = next) {
		struct fault_io *io = req->priv;

		next = req->next;
		carry_out(io, io->todo);
	}
}

static void log_in(struct bd_fault *f, const struct fault_rules *rules)
{
	char error[BD_ERROR_MAX] = "";
	struct bd_info info;

	if (!bd_get_info(f->inner, &info))
		return;
	fault_rules_lie(rules, &info);
	if (bd_identify(&f->base, &info, error, sizeof(error)) < 0) {
		bd_set_state(&f->base, BD_REFUSED, "%s: %s", f->base.name, error);
		return;
	}
	f->logged_in = true;
	bd_count_login(&f->base);
	bd_set_state(&f->base, BD_READY, NULL);
}

static void show_state(struct bd_fault *f, const struct fault_rules *rules,
		       uint64_t version, bool was_lost)
{
	struct bd_status inner;

	bd_get_status(f->inner, &inner);
	if (was_lost || inner.state != BD_READY) {
		f->logged_in = false;
		f->version_seen = 0;
	}
	if (rules->state != BD_READY) {
		bd_set_state(&f->base, rules->state, "%s: the rules say so", f->path);
	} else if (inner.state != BD_READY) {
		bd_set_state(&f->base, inner.state, "%s", inner.error);
	} else if (inner.logins != f->login_seen ||
		   (!f->logged_in && version != f->version_seen)) {
		f->login_seen = inner.logins;
		f->version_seen = version;
		log_in(f, rules);
	}
}

/* One turn; false when the device is being closed. */
static bool turn(struct bd_fault *f, struct fault_rules *rules)
{
	struct bd_status status;
	uint64_t version;
	bool closing, was_lost;

	pthread_mutex_lock(&f->lock);
	reload_locked(f);
	was_lost = f->was_lost;
	f->was_lost = false;
	*rules = f->rules;
	version = f->rules_version;
	closing = f->closing;
	pthread_mutex_unlock(&f->lock);
	if (closing)
		return false;
	show_state(f, rules, version, was_lost);
	bd_get_status(&f->base, &status);
	release_parked(f, status.state != BD_READY);
	return true;
}

static void sleep_locked(struct bd_fault *f)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += POLL_MS * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&f->wake, &f->lock, &until);
}

static void inner_closed(void *opaque)
{
	struct bd_fault *f = opaque;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	f->inner_closed = true;
	pthread_cond_signal(&f->wake);
}

static void bd_fault_free(struct bd_fault *f)
{
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
	bd_done(&f->base);
	free(f->path);
	free(f);
}

static void end(struct bd_fault *f)
{
	void (*closed)(void *) = f->closed;
	void *opaque = f->closed_opaque;

	release_parked(f, true);
	bd_close(f->inner, f->release, inner_closed, f);
	pthread_mutex_lock(&f->lock);
	while (!f->inner_closed || f->n_forwarded > 0)
		sleep_locked(f);
	pthread_mutex_unlock(&f->lock);
	bd_fault_free(f);
	if (closed)
		closed(opaque);
}

static enum gate wait_at_gate(struct bd_fault *f)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	while (f->gate == GATE_SHUT)
		sleep_locked(f);
	return f->gate;
}

static void *bd_fault_thread(void *opaque)
{
	struct bd_fault *f = opaque;
	struct fault_rules rules;

	if (wait_at_gate(f) == GATE_ABANDONED) {
		bd_fault_free(f);
		return NULL;
	}
	while (turn(f, &rules)) {
		pthread_mutex_lock(&f->lock);
		if (!f->closing)
			sleep_locked(f);
		pthread_mutex_unlock(&f->lock);
	}
	end(f);
	return NULL;
}

/* The device. */

static void bd_fault_sessions(struct blockdev *bd, struct strbuf *b)
{
	struct bd_fault *f = (struct bd_fault *)bd;
	size_t i;

	bd_sessions(f->inner, b);

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	strbuf_addf(b, "fault %s: %u parked\n", f->path, f->n_parked);
	for (i = 0; i < f->rules.n; i++)
		strbuf_addf(b, "rule %s: fired %llu times\n", f->rules.rules[i].name,
			    (unsigned long long)f->rules.rules[i].n_fired);
}

static void bd_fault_close(struct blockdev *bd, bool release,
			   void (*closed)(void *opaque), void *opaque)
{
	struct bd_fault *f = (struct bd_fault *)bd;

	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	f->closed = closed;
	f->closed_opaque = opaque;
	f->release = release;
	f->closing = true;
	pthread_cond_signal(&f->wake);
}

static const struct blockdev_ops bd_fault_ops = {
	.name = "fault",
	.submit = bd_fault_submit,
	.sessions = bd_fault_sessions,
	.close = bd_fault_close,
};

static void inner_changed(void *opaque)
{
	wake(opaque);
}

/* Takes "RULES:URL" apart. */
static int parse(const struct bd_params *p, char **ret_path, struct config_url *ret_inner,
		 char *err, size_t n)
{
	const char *colon = strchr(p->url->path, ':');

	if (!colon) {
		snprintf(err, n, "%s: open: %s is not RULES:URL", p->name, p->url->path);
		return -EINVAL;
	}
	*ret_path = strndup(p->url->path, colon - p->url->path);
	if (!*ret_path) {
		snprintf(err, n, "%s: open: out of memory", p->name);
		return -ENOMEM;
	}
	return config_parse_url(colon + 1, ret_inner, err, n);
}

static int open_inner(struct bd_fault *f, const struct bd_params *p,
		      const struct config_url *url, char *err, size_t n)
{
	struct bd_params inner = *p;

	inner.url = url;
	inner.watcher = (struct bd_watcher){ .changed = inner_changed, .opaque = f };
	return bd_open(&inner, &f->inner, err, n);
}

static int start_thread(struct bd_fault *f)
{
	sigset_t all, before;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, NULL, bd_fault_thread, f);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return -r;
	pthread_setname_np(thread, "fault");
	pthread_detach(thread);
	return 0;
}

static struct bd_fault *bd_fault_new(const struct bd_params *p)
{
	struct bd_fault *f = calloc(1, sizeof(*f));
	pthread_condattr_t attr;

	if (!f || bd_init(&f->base, &bd_fault_ops, p) < 0) {
		free(f);
		return NULL;
	}
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->wake, &attr);
	pthread_condattr_destroy(&attr);
	f->parked_last = &f->parked;
	return f;
}

static int open_steps(struct bd_fault *f, const struct bd_params *p, char *err, size_t n)
{
	CLEANUP_FREE struct fault_rules *rules = malloc(sizeof(*rules));
	CLEANUP_FREE struct config_url *url = calloc(1, sizeof(*url));
	int r;

	if (!rules || !url) {
		snprintf(err, n, "%s: open: out of memory", p->name);
		return -ENOMEM;
	}
	r = parse(p, &f->path, url, err, n);
	if (r < 0)
		return r;
	/* Read here once for the sentence; the thread takes them. */
	r = fault_rules_load(f->path, rules, err, n);
	if (r < 0)
		return r;
	f->rules = *rules;
	return open_inner(f, p, url, err, n);
}

static void open_gate(struct bd_fault *f, enum gate gate)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);

	f->gate = gate;
	pthread_cond_signal(&f->wake);
}

int bd_fault_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n)
{
	struct bd_fault *f = bd_fault_new(p);
	int r;

	r = f ? start_thread(f) : -ENOMEM;
	if (r < 0) {
		snprintf(err, n, "%s: open: %s", p->name, strerror(-r));
		if (f)
			bd_fault_free(f);
		return r;
	}
	r = open_steps(f, p, err, n);
	if (r == 0)
		*ret = &f->base;
	open_gate(f, r == 0 ? GATE_OPEN : GATE_ABANDONED);
	return r;
}
