/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Who makes way for whom.
 *
 * There are five classes of copies: Low, Same, High and Urgent, in this order, and Not
 * Managed, which never makes way and for the others is one of Same.  A class makes way
 * for copies of a higher class, and Low for requests of users, too, as long as these are
 * active: under way, or seen within ACTIVE_NS.
 *
 * A class that makes way has one fetch under way, of all its copies together, and then
 * rests a multiple of the time that it took: so it gets a share of the time of the
 * devices, whatever they are and however fast, that is
 *
 *     1/4     beside copies one class higher (Same beside High),
 *     1/16    beside copies two classes higher, 1/64 beside those three higher,
 *     1/8     beside requests of users (Low)
 *
 * and is never none: one that does not end holds up the others for a time only.  Its copies take turns.  With nobody to make way for it is not held
 * up at all.
 *
 * The limit of a relationship is a bucket of bytes that fills at its rate, up to what
 * comes in BURST_NS.  A fetch begins while there is something in it, and takes all its
 * bytes out, also more than there are: the next one waits until that has come in.
 *
 * The timer is set for the first moment at which one of those that wait may go on, as far
 * as can be told; each end of a fetch, and each change of a class, looks anew.
 */

#include "engine/priority.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cim.h"
#include "conf/cleanup.h"

#define MS UINT64_C(1000000)
#define ACTIVE_NS (100 * MS)
#define BURST_NS (100 * MS)
#define SERVICE_MAX_NS (250 * MS) /* a fetch that took longer counts as this */
#define NEVER UINT64_MAX

enum { USER_REST = 7 }; /* 1/8 */

struct priority_group {
	struct priority *priority;
	int refs; /* atomic */

	/* Under priority->lock. */
	unsigned class;
	unsigned n;	/* fetches under way */
	uint64_t rate;	/* bytes per second; 0 = no limit */
	int64_t tokens; /* bytes; negative: owed */
	uint64_t filled_ns;
};

/* ---- the policy -------------------------------------------------------------------- */

/* Its place among the classes, as others see it. */
static unsigned rank_of(unsigned class)
{
	return class == CIM_PRIORITY_NOT_MANAGED ? CIM_PRIORITY_SAME : class;
}

/* Until when a class is active if nothing more of it comes; 0: it is not. */
static uint64_t class_active_until(const struct priority_class *c, uint64_t now)
{
	if (c->n)
		return NEVER;
	return c->was_active && now < c->last_ns + ACTIVE_NS ? c->last_ns + ACTIVE_NS : 0;
}

static uint64_t users_active_until(struct priority *p, uint64_t now)
{
	uint64_t seen;

	/* Their end calls nobody: it is looked at again. */
	if (__atomic_load_n(&p->n_users, __ATOMIC_ACQUIRE))
		return now + ACTIVE_NS;
	seen = __atomic_load_n(&p->user_ns, __ATOMIC_RELAXED);
	return seen && now < seen + ACTIVE_NS ? seen + ACTIVE_NS : 0;
}

/* How many times as long as a fetch took a class rests after it: 0: it makes way for
 * nobody.  *ret_until: until when, if nothing more comes. */
static unsigned rest_of(struct priority *p, unsigned class, uint64_t now,
			uint64_t *ret_until)
{
	unsigned rest = 0, rank = rank_of(class);
	uint64_t until = users_active_until(p, now);

	*ret_until = 0;
	if (class == CIM_PRIORITY_NOT_MANAGED)
		return 0;
	if (class == CIM_PRIORITY_LOW && until) {
		rest = USER_REST;
		*ret_until = until;
	}
	for (unsigned i = 0; i < PRIORITY_N_CLASSES; i++) {
		unsigned higher = rank_of(i) > rank ? rank_of(i) - rank : 0;

		until = higher ? class_active_until(&p->classes[i], now) : 0;
		if (!until)
			continue;
		if ((1u << 2 * higher) - 1 > rest)
			rest = (1u << 2 * higher) - 1;
		if (until > *ret_until)
			*ret_until = until;
	}
	return rest;
}

/* What a bucket holds when it is full. */
static int64_t most_tokens(const struct priority_group *g)
{
	return (int64_t)(g->rate / 1000 * (BURST_NS / MS)) + 1;
}

static void fill_bucket(struct priority_group *g, uint64_t now)
{
	int64_t most = most_tokens(g);
	unsigned __int128 came = (unsigned __int128)(now - g->filled_ns) * g->rate;
	unsigned __int128 bytes = came / (1000 * MS);

	if (!bytes)
		return;
	/* What is no whole byte is kept for the next time. */
	if (g->tokens >= most || bytes > (unsigned __int128)(most - g->tokens))
		g->tokens = most;
	else
		g->tokens += (int64_t)bytes;
	g->filled_ns = now - (uint64_t)(came % (1000 * MS) / g->rate);
}

/* When the limit lets a fetch begin; 0: now. */
static uint64_t limit_until(struct priority_group *g, uint64_t now)
{
	unsigned __int128 wait;

	if (!g->rate)
		return 0;
	fill_bucket(g, now);
	if (g->tokens > 0)
		return 0;
	wait = (unsigned __int128)(1 - g->tokens) * 1000 * MS / g->rate + 1;
	return wait > NEVER / 2 ? NEVER / 2 : now + (uint64_t)wait;
}

/* 0: a fetch of the group may begin; else when it is to be looked at again. */
static uint64_t wait_until(struct priority *p, struct priority_group *g, uint64_t now)
{
	const struct priority_class *c = &p->classes[g->class];
	uint64_t until, turn, limit = limit_until(g, now);
	unsigned rest;

	if (limit)
		return limit;
	rest = rest_of(p, g->class, now, &until);
	/* What is under way ends, but for one that hangs. */
	turn = c->n ? c->last_ns + (rest + 1) * SERVICE_MAX_NS : c->rest_until;
	if (!rest || now >= turn)
		return 0;
	return until < turn ? until : turn;
}

/* ---- the timer --------------------------------------------------------------------- */

static void look_at(struct priority *p, uint64_t when)
{
	if (when >= p->armed_ns)
		return;
	p->armed_ns = when;
	if (!p->loop || p->posted)
		return;
	p->posted = true;
	loop_post(p->loop, &p->arm);
}

static void set_timer(struct priority *p)
{
	uint64_t when;

	pthread_mutex_lock(&p->lock);
	when = p->armed_ns;
	/* Without a timer, whoever asks next tries again. */
	if (!p->attached)
		p->armed_ns = NEVER;
	pthread_mutex_unlock(&p->lock);
	if (when != NEVER && p->attached)
		loop_timer_set(p->loop, &p->timer, when);
}

static void arm_on_loop(struct loop_call *call)
{
	struct priority *p =
		(struct priority *)((char *)call - offsetof(struct priority, arm));

	pthread_mutex_lock(&p->lock);
	p->posted = false;
	pthread_mutex_unlock(&p->lock);
	if (!p->attached)
		p->attached = loop_timer_attach(p->loop, &p->timer) >= 0;
	set_timer(p);
}

static void on_timer(struct loop_timer *timer)
{
	struct priority *p =
		(struct priority *)((char *)timer - offsetof(struct priority, timer));

	priority_run(p);
	set_timer(p);
}

/* The loop's last work for the priority. */
static void disarm_on_loop(struct loop_call *call)
{
	struct priority *p =
		(struct priority *)((char *)call - offsetof(struct priority, disarm));

	if (p->attached)
		loop_timer_detach(p->loop, &p->timer);
	p->attached = false;
	sem_post(&p->quiet);
}

void priority_init(struct priority *p, struct loop *loop, uint64_t (*now_ns)(void))
{
	*p = (struct priority){ .now_ns = now_ns, .loop = loop, .armed_ns = NEVER };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->called, NULL);
	TAILQ_INIT(&p->waiting);
	p->timer.fn = on_timer;
	p->arm.fn = arm_on_loop;
	p->disarm.fn = disarm_on_loop;
	sem_init(&p->quiet, 0, 0);
}

void priority_done(struct priority *p)
{
	if (p->loop) {
		loop_post(p->loop, &p->disarm);
		while (sem_wait(&p->quiet) < 0)
			;
	}
	sem_destroy(&p->quiet);
	pthread_cond_destroy(&p->called);
	pthread_mutex_destroy(&p->lock);
}

void priority_user_begins(struct priority *p)
{
	__atomic_add_fetch(&p->n_users, 1, __ATOMIC_RELAXED);
}

void priority_user_ends(struct priority *p, uint64_t now_ns)
{
	uint64_t seen = __atomic_load_n(&p->user_ns, __ATOMIC_RELAXED);

	/* Not at each: all cores look at it. */
	if (!seen || now_ns - seen > ACTIVE_NS / 16)
		__atomic_store_n(&p->user_ns, now_ns, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&p->n_users, 1, __ATOMIC_RELEASE);
}

/* ---- groups ------------------------------------------------------------------------ */

int priority_group_new(struct priority *p, unsigned class, uint64_t max_bytes_per_second,
		       struct priority_group **ret_group)
{
	struct priority_group *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	*g = (struct priority_group){
		.priority = p,
		.refs = 1,
		.class = class < PRIORITY_N_CLASSES ? class : CIM_PRIORITY_SAME,
		.rate = max_bytes_per_second,
		.tokens = 1,
		.filled_ns = p->now_ns(),
	};
	*ret_group = g;
	return 0;
}

void priority_group_ref(struct priority_group *g)
{
	__atomic_add_fetch(&g->refs, 1, __ATOMIC_RELAXED);
}

void priority_group_unref(struct priority_group *g)
{
	if (g && !__atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL))
		free(g);
}

void priority_group_set(struct priority_group *g, unsigned class)
{
	struct priority *p = g->priority;
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);

	if (class >= PRIORITY_N_CLASSES)
		return;
	p->classes[g->class].n -= g->n;
	g->class = class;
	p->classes[class].n += g->n;
	if (!TAILQ_EMPTY(&p->waiting))
		look_at(p, 0);
}

/* ---- flows ------------------------------------------------------------------------- */

static void dequeue(struct priority *p, struct priority_flow *flow)
{
	if (flow->waits)
		TAILQ_REMOVE(&p->waiting, flow, link);
	flow->waits = false;
}

void priority_set_flow(struct priority *p, struct priority_flow *flow,
		       struct priority_group *group)
{
	struct priority_group *before;

	if (group)
		priority_group_ref(group);
	pthread_mutex_lock(&p->lock);
	before = flow->group;
	flow->group = group;
	pthread_mutex_unlock(&p->lock);
	priority_group_unref(before);
}

void priority_cancel_flow(struct priority *p, struct priority_flow *flow)
{
	struct priority_group *group;

	pthread_mutex_lock(&p->lock);
	while (p->calling == flow && !pthread_equal(p->caller, pthread_self()))
		pthread_cond_wait(&p->called, &p->lock);
	dequeue(p, flow);
	group = flow->group;
	flow->group = NULL;
	pthread_mutex_unlock(&p->lock);
	priority_group_unref(group);
}

static void count(struct priority *p, struct priority_group *g, int by, uint64_t now)
{
	struct priority_class *c = &p->classes[g->class];

	g->n += (unsigned)by;
	c->n += (unsigned)by;
	c->was_active = true;
	c->last_ns = now;
}

bool priority_begin(struct priority *p, struct priority_flow *flow, uint64_t bytes,
		    struct priority_ticket *ret_ticket)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
	struct priority_group *g = flow->group;
	uint64_t now, when;

	*ret_ticket = (struct priority_ticket){ 0 };
	if (!g)
		return true;
	now = p->now_ns();
	when = wait_until(p, g, now);
	if (when) {
		if (!flow->waits)
			TAILQ_INSERT_TAIL(&p->waiting, flow, link);
		flow->waits = true;
		look_at(p, when);
		return false;
	}
	dequeue(p, flow);
	count(p, g, 1, now);
	if (g->rate)
		g->tokens -= (int64_t)bytes;
	priority_group_ref(g);
	*ret_ticket = (struct priority_ticket){ .group = g, .began_ns = now };
	return true;
}

/* What has come in since it was taken out may fill the bucket by itself. */
static void put_back(struct priority_group *g, uint64_t bytes)
{
	g->tokens += (int64_t)bytes;
	if (g->tokens > most_tokens(g))
		g->tokens = most_tokens(g);
}

static void end(struct priority_ticket *ticket, bool was_made, uint64_t bytes)
{
	struct priority_group *g = move_ptr(ticket->group);
	struct priority *p = g->priority;
	uint64_t now, took, until;
	unsigned rest;

	pthread_mutex_lock(&p->lock);
	now = p->now_ns();
	count(p, g, -1, now);
	if (g->rate)
		put_back(g, bytes);
	took = was_made ? now - ticket->began_ns : 0;
	if (took > SERVICE_MAX_NS)
		took = SERVICE_MAX_NS;
	rest = rest_of(p, g->class, now, &until);
	if (rest && p->classes[g->class].rest_until < now + rest * took)
		p->classes[g->class].rest_until = now + rest * took;
	if (!TAILQ_EMPTY(&p->waiting))
		look_at(p, rest ? p->classes[g->class].rest_until : now);
	pthread_mutex_unlock(&p->lock);
	priority_group_unref(g);
}

void priority_end(struct priority_ticket *ticket)
{
	if (ticket->group)
		end(ticket, true, 0);
}

void priority_give_up(struct priority_ticket *ticket, uint64_t bytes)
{
	if (ticket->group)
		end(ticket, false, bytes);
}

/* Takes the first that may go on out of the queue; NULL: none may, before *ret_first. */
static struct priority_flow *take_ready(struct priority *p, uint64_t *ret_first)
{
	uint64_t now = p->now_ns();
	struct priority_flow *flow;

	*ret_first = NEVER;
	TAILQ_FOREACH(flow, &p->waiting, link) {
		uint64_t when = flow->group ? wait_until(p, flow->group, now) : 0;

		if (!when) {
			dequeue(p, flow);
			return flow;
		}
		if (when < *ret_first)
			*ret_first = when;
	}
	return NULL;
}

uint64_t priority_run(struct priority *p)
{
	struct priority_flow *flow;
	uint64_t first;

	pthread_mutex_lock(&p->lock);
	p->armed_ns = NEVER;
	p->caller = pthread_self();
	/* One at a time: of a class that makes way the others keep their places. */
	while ((flow = take_ready(p, &first))) {
		p->calling = flow;
		pthread_mutex_unlock(&p->lock);
		flow->fn(flow);
		pthread_mutex_lock(&p->lock);
		p->calling = NULL;
		pthread_cond_broadcast(&p->called);
	}
	/* Also what was asked for meanwhile. */
	if (first < p->armed_ns)
		p->armed_ns = first;
	first = p->armed_ns;
	pthread_mutex_unlock(&p->lock);
	return first;
}
