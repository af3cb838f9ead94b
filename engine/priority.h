/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_PRIORITY_H
#define LUNFS_PRIORITY_H

/*
 * When a background copy may begin its next fetch: the CopyPriority of its relationship
 * (CIM_StorageSynchronized), and the limit of its setting.  priority.c says what makes
 * way for what.
 *
 * A copy (a flow) asks before each fetch, and says when it has ended.  One that has to
 * wait is called when it may ask again.  Thread safe; nothing blocks but
 * priority_cancel_flow().  The lock is a leaf: any lock may be held but where a function
 * calls back.
 */

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "engine/loop.h"

struct priority_flow;
struct priority_group;

TAILQ_HEAD(priority_queue, priority_flow);

enum { PRIORITY_N_CLASSES = 5 }; /* enum cim_copy_priority */

/* Of the whole process. */
struct priority {
	uint64_t (*now_ns)(void);
	unsigned n_users; /* atomic: requests of users under way */
	uint64_t user_ns; /* atomic: the newest end of one; 0 = none yet */

	pthread_mutex_t lock; /* of all that follows, and of what is the priority's in
			       * groups and flows */
	struct priority_class {
		unsigned n;	     /* fetches under way */
		bool was_active;     /* there was one */
		uint64_t last_ns;    /* that began or ended */
		uint64_t rest_until; /* when the class makes way */
	} classes[PRIORITY_N_CLASSES];
	struct priority_queue waiting; /* in the order of their asking */
	struct priority_flow *calling; /* its fn is running */
	pthread_t caller;
	pthread_cond_t called; /* calling became NULL */

	/* The timer; NULL: none, who has the priority calls priority_run(). */
	struct loop *loop;
	uint64_t armed_ns; /* for when it is set, or asked for; UINT64_MAX: it is not */
	bool posted;
	bool attached; /* the loop's thread only */
	struct loop_timer timer;
	struct loop_call arm, disarm;
	sem_t quiet;
};

/* One copy. */
struct priority_flow {
	/* The owner's.  Called by the loop's thread with no lock held: it may ask again. */
	void (*fn)(struct priority_flow *flow);

	/* The priority's. */
	struct priority_group *group; /* with a reference; NULL: it never waits */
	bool waits;		      /* linked */
	TAILQ_ENTRY(priority_flow) link;
};

/* A fetch that was begun. */
struct priority_ticket {
	struct priority_group *group; /* with a reference; NULL: nothing to end */
	uint64_t began_ns;
};

/* now_ns: CLOCK_MONOTONIC, or a test's clock.  loop: see above. */
void priority_init(struct priority *p, struct loop *loop, uint64_t (*now_ns)(void));
/* While the loop still runs; waits until it has let go. */
void priority_done(struct priority *p);

/* A user's request for data begins; each ends once. */
void priority_user_begins(struct priority *p);
void priority_user_ends(struct priority *p, uint64_t now_ns);

/* What the copies of a relationship share.  class: an enum cim_copy_priority;
 * max_bytes_per_second: of all its fetches, 0 = no limit.  0 or -ENOMEM. */
int priority_group_new(struct priority *p, unsigned class, uint64_t max_bytes_per_second,
		       struct priority_group **ret_group);
void priority_group_ref(struct priority_group *group);
void priority_group_unref(struct priority_group *group); /* takes NULL */
/* Takes effect at once, also for those that wait. */
void priority_group_set(struct priority_group *group, unsigned class);

/* Which group a flow asks for from now on; of NULL it never waits. */
void priority_set_flow(struct priority *p, struct priority_flow *flow,
		       struct priority_group *group);
/* After it, fn is not called, and not running unless this is called from within it; the
 * flow has no group. */
void priority_cancel_flow(struct priority *p, struct priority_flow *flow);

/* Whether a fetch of that many bytes may begin now: then it is counted, and *ret_ticket
 * is to be given back.  False: fn will be called. */
bool priority_begin(struct priority *p, struct priority_flow *flow, uint64_t bytes,
		    struct priority_ticket *ret_ticket);
void priority_end(struct priority_ticket *ticket);
/* It was not made after all. */
void priority_give_up(struct priority_ticket *ticket, uint64_t bytes);

/* Calls those that may ask again by now.  When it is to be called the next time;
 * UINT64_MAX: not before something is asked or ends. */
uint64_t priority_run(struct priority *p);

#endif
